"use strict";

// Live figures: one event stream a page; figures and plots are told by their data-field and data-plot.
const KEPT = 900;

function draw(svg, values) {
  const top = Math.max(...values, 0) || 1;
  const step = 600 / Math.max(1, values.length - 1);
  const points = values.map((value, index) => `${(index * step).toFixed(1)},${(80 - (value / top) * 76 - 2).toFixed(1)}`);
  svg.querySelector("polyline").setAttribute("points", points.join(" "));
  const label = document.querySelector(`[data-top="${svg.dataset.plot}"]`);
  if (label) label.textContent = top.toFixed(1);
}

// Rewritten only when they have changed: screen readers and pointers are not disturbed every second.
function showAlarms(alarms) {
  const list = document.querySelector("[data-alarms]");
  const text = JSON.stringify(alarms);
  if (!list || list.dataset.shown === text) return;
  list.dataset.shown = text;
  document.querySelector("[data-no-alarms]").hidden = alarms.length > 0;
  list.replaceChildren(...alarms.map(({ severity, what, evidence, do: cure }) => {
    const item = document.createElement("li");
    const title = document.createElement("strong");
    const advice = document.createElement("span");
    item.className = severity;
    title.textContent = what;
    advice.className = "do";
    advice.textContent = `What to do: ${cure}.`;
    item.append(title, ` – ${evidence}. `, advice);
    return item;
  }));
}

function follow(section) {
  const state = section.querySelector("[data-live-state]");
  const plots = [...section.querySelectorAll("svg[data-plot]")].map((svg) => ({
    svg,
    values: svg.dataset.values ? svg.dataset.values.split(",").map(Number) : [],
  }));
  const source = new EventSource(section.dataset.live);
  source.onopen = () => (state.textContent = "live");
  source.onerror = () => (state.textContent = "not live: the gateway does not answer; trying again");
  source.addEventListener("over", (event) => {
    if (JSON.parse(event.data) !== "ended") return; // after its time the browser opens it anew by itself
    source.close();
    state.textContent = "ended: sign in again";
  });
  source.onmessage = (event) => {
    const sample = JSON.parse(event.data);
    for (const place of section.querySelectorAll("[data-field]")) {
      const value = sample[place.dataset.field];
      place.textContent = typeof value === "boolean" ? (value ? "connected" : "away") : value;
    }
    for (const place of section.querySelectorAll("[data-if]")) place.hidden = !sample[place.dataset.if];
    for (const place of section.querySelectorAll("[data-unless]")) place.hidden = Boolean(sample[place.dataset.unless]);
    for (const place of section.querySelectorAll("[data-value]")) place.value ||= sample[place.dataset.value];
    for (const link of section.querySelectorAll("a[data-link]")) link.href = link.dataset.place + sample[link.dataset.link];
    if (sample.alarms) showAlarms(sample.alarms);
    for (const { svg, values } of plots) {
      values.push(sample[svg.dataset.plot]);
      if (values.length > KEPT) values.shift();
      draw(svg, values);
    }
  };
  addEventListener("pagehide", () => source.close());
}

document.querySelectorAll("[data-live]").forEach(follow);
for (const form of document.querySelectorAll("form[data-confirm]")) {
  form.addEventListener("submit", (event) => {
    if (!confirm(form.dataset.confirm)) event.preventDefault();
  });
}

// Copy what stands in front of the button; where the clipboard is out of reach (plain HTTP from elsewhere), select it.
for (const button of document.querySelectorAll("button[data-copy]")) {
  const text = button.parentElement.querySelector("code");
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(text);
      button.textContent = "Selected: copy it by keyboard";
    }
  });
}

// Parts that take their time are fetched when the page is there.
for (const place of document.querySelectorAll("[data-load]")) {
  fetch(place.dataset.load).then(async (answer) => {
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    page.querySelectorAll("[data-alone]").forEach((part) => part.remove());
    place.replaceChildren(...page.querySelector("main").children);
    reachScrolling();
  });
}

// What scrolls sideways can be reached, and is named, for those who have no mouse.
function reachScrolling() {
  for (const place of document.querySelectorAll(".wide, pre")) {
    if (place.scrollWidth <= place.clientWidth) {
      if (place.getAttribute("role") === "region") ["tabindex", "role", "aria-label"].forEach((name) => place.removeAttribute(name));
      continue;
    }
    const heading = place.closest("section")?.querySelector("h2") || document.querySelector("h1");
    place.tabIndex = 0;
    place.setAttribute("role", "region");
    place.setAttribute("aria-label", `${heading ? heading.textContent.trim() : "Table"}, scrolls sideways`);
  }
}
reachScrolling();
addEventListener("resize", reachScrolling);
