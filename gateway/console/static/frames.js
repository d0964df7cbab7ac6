"use strict";

// Live frames of one NIC: a stream of records, shown as lines that unfold into a tree. Everything a device has sent
// becomes text, never markup.
const MOST_LINES = 500;
const MOST_WAITING = 2000;

function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function clock(seconds) {
  const at = new Date(seconds * 1000);
  const two = (number) => String(number).padStart(2, "0");
  const ms = String(at.getMilliseconds()).padStart(3, "0");
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${ms}`;
}

function tree([name, value, children], isOpen = false) {
  const label = [make("span", { class: "name" }, name), " ", make("span", { class: "value" }, value)];
  if (!children) return make("li", {}, ...label);
  const details = make("details", {}, make("summary", {}, ...label), make("ul", {}, ...children.map((each) => tree(each))));
  details.open = isOpen;
  return make("li", {}, details);
}

async function copyText(text, button) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    // Out of reach over plain HTTP from elsewhere: an old way that needs no permission.
    const area = make("textarea", { class: "unseen" });
    area.value = text;
    document.body.append(area);
    area.select();
    button.textContent = document.execCommand("copy") ? "Copied" : "The browser refuses";
    area.remove();
    button.focus();
  }
  setTimeout(() => (button.textContent = before), 1500);
}

function watchFrames(section) {
  const part = (name) => section.querySelector(`[data-${name}]`);
  const [list, lines, status, count] = ["list", "lines", "status", "count"].map(part);
  const [watch, pause, copy, clear, kinds, filter] = ["watch", "pause", "copy-frames", "clear", "kinds", "filter"].map(part);
  let source = null;
  let paused = false;
  let waiting = [];
  let frames = 0;
  let skipped = 0;

  const wanted = (item) => {
    const kind = item.dataset.kind;
    const fits = { "": true, calm: kind !== "poll", coap: kind === "coap", bad: kind === "bad" || kind === "event" };
    return fits[kinds.value] && item.dataset.text.includes(filter.value.trim().toLowerCase());
  };

  function line(record) {
    if (record.skipped || record.notice) {
      if (record.skipped) skipped += record.skipped;
      const text = record.notice || `${record.skipped} ${record.skipped === 1 ? "frame" : "frames"} skipped`;
      return make("li", { class: "notice", "data-kind": "event", "data-text": text.toLowerCase() }, text);
    }
    frames += 1;
    const from = record.kind === "event" ? "" : record.from === "nic" ? "NIC → board" : "board → NIC";
    const summary = make(
      "summary", {},
      make("time", {}, clock(record.t)), " ", make("span", { class: "from" }, from), " ", make("span", { class: "words" }, record.line),
    );
    const item = make(
      "li", { class: record.kind, "data-kind": record.kind, "data-text": `${record.line} ${from}`.toLowerCase(), "data-hex": record.hex },
      make("details", {}, summary),
    );
    item.firstChild.addEventListener("toggle", () => unfold(item.firstChild, record), { once: true });
    return item;
  }

  function unfold(details, record) {
    const deepest = record.tree.findLastIndex(([, , children]) => children);
    details.append(make("ul", { class: "tree" }, ...record.tree.map((node, index) => tree(node, index === deepest))));
    if (!record.hex) return;
    const button = make("button", { type: "button", class: "plain" }, "Copy octets");
    button.addEventListener("click", () => copyText(record.hex, button));
    details.append(make("p", { class: "octets" }, make("code", {}, record.hex), button));
  }

  function show(records) {
    const atEnd = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 40;
    const items = records.slice(-MOST_LINES).map(line);
    for (const item of items) item.hidden = !wanted(item);
    list.append(...items);
    while (list.childElementCount > MOST_LINES) list.firstChild.remove();
    part("empty").hidden = true;
    copy.disabled = clear.disabled = false;
    part("file").hidden = false;
    if (atEnd) lines.scrollTop = lines.scrollHeight;
    tell();
  }

  function tell() {
    const lost = skipped ? `, ${skipped} skipped` : "";
    const held = paused && waiting.length ? `, ${waiting.length} wait` : "";
    count.textContent = frames || skipped || held ? `${frames} frames${lost}${held}` : "";
  }

  function take(records) {
    if (!paused) return show(records);
    waiting.push(...records);
    if (waiting.length > MOST_WAITING) {
      const lost = waiting.splice(0, waiting.length - MOST_WAITING);
      waiting.unshift({ skipped: lost.reduce((sum, each) => sum + (each.skipped || 1), 0) });
    }
    tell();
  }

  function stop(words) {
    if (source) source.close();
    source = null;
    watch.textContent = "Watch";
    status.textContent = words;
    if (paused) resume();
    pause.disabled = true;
  }

  function resume() {
    paused = false;
    pause.setAttribute("aria-pressed", "false");
    pause.textContent = "Pause";
    const held = waiting;
    waiting = [];
    if (held.length) show(held);
    else tell();
  }

  function start() {
    source = new EventSource(section.dataset.frames);
    watch.textContent = "Stop";
    pause.disabled = false;
    status.textContent = "Connecting …";
    source.onopen = () => (status.textContent = "Watching.");
    source.onmessage = (event) => take(JSON.parse(event.data));
    source.addEventListener("over", (event) =>
      stop(JSON.parse(event.data) === "time" ? "Watching ended by itself. Watch again to go on." : "You may not watch this NIC any more."),
    );
    source.onerror = () => {
      if (source && source.readyState === EventSource.CLOSED) stop("The gateway refuses: too many watch already, or you are signed out.");
      else status.textContent = "The gateway does not answer; trying again …";
    };
  }

  watch.addEventListener("click", () => (source ? stop("Stopped.") : start()));
  pause.addEventListener("click", () => {
    if (paused) return resume();
    paused = true;
    pause.setAttribute("aria-pressed", "true");
    pause.textContent = "Go on";
    tell();
  });
  clear.addEventListener("click", () => {
    list.replaceChildren();
    frames = skipped = 0;
    tell();
  });
  copy.addEventListener("click", () => {
    const shown = [...list.children].filter((item) => !item.hidden);
    const texts = shown.map((item) => {
      const words = item.querySelector("summary") || item;
      return words.textContent + (item.dataset.hex ? `  [${item.dataset.hex}]` : "");
    });
    copyText(`${texts.join("\n")}\n`, copy);
  });
  const refilter = () => [...list.children].forEach((item) => (item.hidden = !wanted(item)));
  kinds.addEventListener("change", refilter);
  filter.addEventListener("input", refilter);
  addEventListener("pagehide", () => source && stop("Stopped."));
  section.querySelector(".tools").hidden = false;
}

document.querySelectorAll("[data-frames]").forEach(watchFrames);
