"use strict";

// The form for commands: resources that NIC and board name themselves, and an observation as it comes.
const MOST_ROWS = 200;

async function discover(select, path, title, state) {
  try {
    const answer = await fetch(path);
    if (!answer.ok) throw new Error(String(answer.status));
    const { resources, missing } = await answer.json();
    if (missing) state.push(`${title}: ${missing}`);
    if (!resources.length) return 0;
    const group = document.createElement("optgroup");
    group.label = title;
    for (const { path: name, title: words, observable } of resources) {
      const option = new Option(`${name}${words ? ` – ${words}` : ""}${observable ? " (observable)" : ""}`, name);
      group.append(option);
    }
    select.append(group);
    return resources.length;
  } catch {
    state.push(`${title}: the gateway does not answer`);
    return 0;
  }
}

async function offer(form) {
  const select = form.querySelector("[data-resources]");
  const hint = form.querySelector("[data-resources-state]");
  const missing = [];
  const [first] = select.options;
  first.textContent = "asking the NIC …";
  form.querySelector("[data-discovered]").hidden = false;
  let count = await discover(select, `${select.dataset.resources}/nic`, "NIC", missing);
  if (count) {
    first.textContent = "asking the board …";
    count += await discover(select, `${select.dataset.resources}/board`, "Board", missing);
  }
  first.textContent = count ? `choose one of ${count}` : "none found";
  hint.textContent = missing.length ? `Not listed – ${missing.join("; ")}.` : "";
  select.addEventListener("change", () => {
    if (select.value) form.elements.path.value = select.value;
  });
}

function observe(form) {
  const button = form.querySelector("[data-observe]");
  const part = document.querySelector("[data-observed]");
  const [title, state, body] = ["title", "state", "rows"].map((name) => part.querySelector(`[data-observed-${name}]`));
  let source = null;

  function stop(words) {
    if (source) source.close();
    source = null;
    button.textContent = "Observe";
    state.textContent = words;
  }

  function cell(text, name = "") {
    const made = document.createElement("td");
    made.className = name;
    made.textContent = text;
    return made;
  }

  button.hidden = false;
  button.addEventListener("click", () => {
    if (source) return stop("Stopped.");
    const path = form.elements.path.value.trim();
    part.hidden = false;
    body.replaceChildren();
    title.textContent = path;
    state.textContent = "Registering …";
    button.textContent = "Stop observing";
    source = new EventSource(`${button.dataset.observe}?path=${encodeURIComponent(path)}`);
    source.onmessage = (event) => {
      const answer = JSON.parse(event.data);
      state.textContent = answer.observe === null ? "Answered, but not observable." : "Observing; it ends when you leave the page.";
      const row = document.createElement("tr");
      row.append(cell(new Date(answer.at * 1000).toLocaleTimeString(undefined, { hourCycle: "h23" })), cell(answer.code), cell(answer.observe ?? "–", "number"), cell(answer.text || "–", "mono wrap"));
      body.prepend(row);
      while (body.childElementCount > MOST_ROWS) body.lastChild.remove();
    };
    source.addEventListener("over", (event) => {
      const why = { last: "The device has ended it.", time: "Ended by itself after a while. Observe again to go on." };
      stop(why[JSON.parse(event.data)] || "You may not observe this device any more.");
    });
    source.onerror = () => {
      if (source && source.readyState === EventSource.CLOSED) stop("The gateway refuses: is the path right?");
      else state.textContent = "The gateway does not answer; trying again …";
    };
  });
  addEventListener("pagehide", () => source && source.close());
}

for (const form of document.querySelectorAll("form.order")) {
  if (form.dataset.online) offer(form);
  observe(form);
}
