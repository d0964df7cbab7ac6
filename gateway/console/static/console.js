"use strict";

// Live figures: one event stream a page; figures and plots are told by their data-field and data-plot.
const KEPT = 900;
const REFUSED_MS = 10000;

function draw(svg, values) {
  const top = Math.max(...values, 0) || 1;
  const step = 600 / Math.max(1, values.length - 1);
  const points = values.map((value, index) => `${(index * step).toFixed(1)},${(80 - (value / top) * 76 - 2).toFixed(1)}`);
  svg.querySelector("polyline").setAttribute("points", points.join(" "));
  const label = document.querySelector(`[data-top="${svg.dataset.plot}"]`);
  if (label) put(label, top.toFixed(1));
}

// The text is changed in place: a new node for each figure, each second, is work for the browser's memory.
function put(place, text) {
  const node = place.firstChild;
  if (!(node instanceof Text) || node.nextSibling) place.textContent = text;
  else if (node.data !== text) node.data = text;
}

// How what is live is: what stands still catches the eye, and is told to those who listen.
function sayState(place, words) {
  if (place.textContent !== words) place.textContent = words;
  place.classList.toggle("stale", !["", "live", "paused"].includes(words));
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

// Events while the page is seen: a browser has six connections to a gateway for all its pages, and each stream takes one.
// told: of each event's data; live, away, ended: how the stream is; afresh: done when it was interrupted.
function listen(url, { told, live, away, ended, afresh = () => {} }) {
  let source = null;
  let waiting = 0;
  let isOver = false;
  let hasGap = document.hidden;
  const close = () => {
    clearTimeout(waiting);
    if (source) source.close();
    source = null;
  };
  const end = () => {
    isOver = true;
    close();
    ended();
  };
  // A browser gives a stream up for good when it is refused, and does not say why: an ordinary request learns it.
  const refused = async () => {
    close();
    const looked = new AbortController();
    try {
      const answer = await fetch(url, { signal: looked.signal });
      looked.abort(); // it may be a stream by now
      if (answer.redirected || answer.status === 404) return end(); // to the sign-in page; or it is not the visitor's
    } catch {
      // away again: as after any other refusal
    }
    if (!source && !document.hidden) waiting = setTimeout(open, REFUSED_MS);
  };
  const open = () => {
    clearTimeout(waiting);
    source = new EventSource(url);
    source.onopen = () => {
      live();
      if (hasGap) afresh();
      hasGap = true; // when it opens the next time
    };
    source.onerror = () => {
      away();
      if (source.readyState === EventSource.CLOSED) refused();
    };
    source.onmessage = (event) => told(JSON.parse(event.data));
    source.addEventListener("over", (event) => {
      if (JSON.parse(event.data) === "ended") end(); // after its time the browser opens it anew by itself
    });
  };
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) close();
    else if (!source && !isOver) open();
  });
  addEventListener("pagehide", close);
  if (!document.hidden) open();
}

function follow(section) {
  const state = section.querySelector("[data-live-state]");
  const numbers = (svg) => (svg.dataset.values ? svg.dataset.values.split(",").map(Number) : []);
  const plots = [...section.querySelectorAll("svg[data-plot]")].map((svg) => ({ svg, values: numbers(svg) }));
  const told = (sample) => {
    for (const place of section.querySelectorAll("[data-field]")) {
      const value = sample[place.dataset.field];
      put(place, typeof value === "boolean" ? (value ? "connected" : "away") : String(value));
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
  // What came while nobody looked is missing in the plots, and stands in the page as it is now.
  const afresh = async () => {
    if (!plots.length) return;
    const answer = await fetch(location.href);
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const plot of plots) {
      const fresh = page.querySelector(`svg[data-plot="${plot.svg.dataset.plot}"]`);
      if (fresh) plot.values.splice(0, Infinity, ...numbers(fresh));
    }
  };
  const say = (words) => () => sayState(state, words);
  listen(section.dataset.live, {
    told,
    live: say("live"),
    away: say("not live: the gateway does not answer; trying again"),
    ended: say("ended: sign in again"),
    afresh: () => afresh().catch(() => {}), // the stream says that the gateway does not answer
  });
}

document.querySelectorAll("[data-live]").forEach(follow);

// Forms with data-ask ask first, those that come later, too.
document.addEventListener("submit", (event) => {
  const { ask } = event.target.dataset;
  if (ask && !confirm(ask)) event.preventDefault();
});

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
