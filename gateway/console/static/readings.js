"use strict";

// Readings over time: a chart for each unit, several series in it. Colours have a dash pattern beside them, and the table
// below says the same.
const SVG = "http://www.w3.org/2000/svg";
const AGAIN_MS = 10000;
const HEIGHT = 190;
const EDGE = { left: 58, right: 12, top: 10, bottom: 24 };
const SERIES = 6;

function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Round numbers between two, about `count` of them. */
function ticks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough);
  const found = [];
  for (let index = Math.ceil(low / step - 1e-9); index * step <= high + step * 1e-9; index += 1) found.push(index * step);
  return found;
}

const STEPS_S = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400, 604800];

function timeTicks(from, to, count) {
  const step = STEPS_S.find((each) => each >= (to - from) / count) || STEPS_S.at(-1);
  const shift = new Date(from * 1000).getTimezoneOffset() * 60;
  const found = [];
  for (let at = Math.ceil((from - shift) / step) * step + shift; at <= to; at += step) found.push(at);
  return found.map((at) => [at, timeOfDay(at, step)]);
}

function timeOfDay(at, step = 1) {
  const date = new Date(at * 1000);
  if (step >= 86400) return date.toLocaleDateString(undefined, { day: "numeric", month: "short" });
  return date.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23", ...(step < 60 ? { second: "2-digit" } : {}) });
}

const utc = (at) => `${new Date(at * 1000).toISOString().slice(0, 19).replace("T", " ")} UTC`;
const rounded = (value) => String(Number(value.toPrecision(6)));

function chart(unit, series, from, to, width) {
  const values = series.flatMap(({ points }) => points.map(([, value]) => value));
  let [low, high] = [Math.min(...values), Math.max(...values)];
  const margin = (high - low) * 0.08 || Math.abs(high) * 0.05 || 1;
  [low, high] = [low - margin, high + margin];
  const x = (at) => EDGE.left + ((at - from) / (to - from || 1)) * (width - EDGE.left - EDGE.right);
  const y = (value) => HEIGHT - EDGE.bottom - ((value - low) / (high - low)) * (HEIGHT - EDGE.top - EDGE.bottom);
  const words = series.map((each) => `${each.label} from ${rounded(Math.min(...each.points.map((p) => p[1])))} to ${rounded(Math.max(...each.points.map((p) => p[1])))}`);
  const root = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": `${words.join("; ")}${unit ? ` ${unit}` : ""}. The table below has the values.` });
  for (const value of ticks(low, high, 4)) {
    root.append(svg("line", { class: "grid", x1: EDGE.left, x2: width - EDGE.right, y1: y(value), y2: y(value) }));
    root.append(svg("text", { x: EDGE.left - 7, y: y(value) + 4, "text-anchor": "end" }, rounded(value)));
  }
  for (const [at, text] of timeTicks(from, to, Math.max(2, width / 110))) {
    root.append(svg("line", { class: "grid", x1: x(at), x2: x(at), y1: HEIGHT - EDGE.bottom, y2: HEIGHT - EDGE.bottom + 4 }));
    if (x(at) > EDGE.left + 10 && x(at) < width - 30) root.append(svg("text", { x: x(at), y: HEIGHT - 6, "text-anchor": "middle" }, text));
  }
  for (const { points, index } of series) {
    const at = points.map(([when, value]) => [x(when).toFixed(1), y(value).toFixed(1)]);
    root.append(svg("polyline", { class: `s${index % SERIES}`, points: at.map((point) => point.join(",")).join(" ") }));
    if (points.length < 80) for (const [cx, cy] of at) root.append(svg("circle", { class: `s${index % SERIES}`, cx, cy, r: 2.6 }));
  }
  const cursor = svg("line", { class: "cursor", y1: EDGE.top, y2: HEIGHT - EDGE.bottom, visibility: "hidden" });
  root.append(cursor);
  return { root, x, cursor };
}

function showReadings(section) {
  const [keys, charts, state] = ["keys", "charts", "readings-state"].map((name) => section.querySelector(`[data-${name}]`));
  const table = document.querySelector("[data-readings-rows]");
  const hidden = new Set();
  let all = [];
  let drawn = [];

  function draw() {
    const visible = all.filter(({ label }) => !hidden.has(label));
    const times = visible.flatMap(({ points }) => [points[0][0], points.at(-1)[0]]);
    drawn = [];
    charts.replaceChildren();
    if (!times.length) return;
    let [from, to] = [Math.min(...times), Math.max(...times)];
    if (from === to) [from, to] = [from - 30, to + 30];
    const units = Map.groupBy ? Map.groupBy(visible, ({ unit }) => unit) : group(visible);
    for (const [unit, series] of units) {
      const made = chart(unit, series, from, to, Math.max(280, charts.clientWidth));
      const figure = document.createElement("figure");
      const caption = document.createElement("figcaption");
      caption.textContent = unit || "no unit";
      figure.append(caption, made.root);
      charts.append(figure);
      drawn.push({ ...made, series });
      made.root.addEventListener("pointermove", (event) => point(event, made, from, to));
      made.root.addEventListener("pointerleave", rest);
    }
    rest();
  }

  function group(items) {
    const found = new Map();
    for (const item of items) found.set(item.unit, [...(found.get(item.unit) || []), item]);
    return found;
  }

  function point(event, made, from, to) {
    const box = made.root.getBoundingClientRect();
    const width = made.root.viewBox.baseVal.width;
    const share = (((event.clientX - box.left) / box.width) * width - EDGE.left) / (width - EDGE.left - EDGE.right);
    const at = Math.min(to, Math.max(from, from + share * (to - from)));
    for (const each of drawn) {
      const place = each.x(at);
      for (const [name, value] of [["x1", place], ["x2", place], ["visibility", "visible"]]) each.cursor.setAttribute(name, value);
      for (const series of each.series) {
        const near = series.points.reduce((best, next) => (Math.abs(next[0] - at) < Math.abs(best[0] - at) ? next : best));
        series.out.textContent = `${rounded(near[1])} ${series.unit} at ${timeOfDay(near[0])}`;
      }
    }
  }

  function rest() {
    for (const each of drawn) each.cursor.setAttribute("visibility", "hidden");
    for (const series of all) series.out.textContent = `${rounded(series.points.at(-1)[1])} ${series.unit}`;
  }

  function key(series) {
    const box = document.createElement("input");
    box.type = "checkbox";
    box.checked = !hidden.has(series.label);
    box.addEventListener("change", () => {
      if (box.checked) hidden.delete(series.label);
      else hidden.add(series.label);
      draw();
    });
    const line = svg("svg", { viewBox: "0 0 26 8", class: "key", "aria-hidden": "true" }, svg("polyline", { class: `s${series.index % SERIES}`, points: "0,4 26,4" }));
    series.out = document.createElement("span");
    series.out.className = "now";
    const label = document.createElement("label");
    label.className = "check";
    label.append(box, line, series.label, " ", series.out);
    const item = document.createElement("li");
    item.append(label);
    return item;
  }

  // The newest values of all series, as the gateway has written them when the page came.
  function tabulate(found) {
    const lines = found.flatMap((series) => series.points.map(([at, value]) => ({ at, value, series })));
    lines.sort((one, other) => other.at - one.at);
    const rows = lines.slice(0, Number(table.dataset.readingsRows)).map(({ at, value, series }) => {
      const row = table.rows[0].cloneNode(true);
      const words = [utc(at), series.name, rounded(value), series.unit, series.path];
      [...row.cells].forEach((cell, index) => (cell.textContent = words[index]));
      return row;
    });
    table.replaceChildren(...rows);
  }

  async function load() {
    try {
      const answer = await fetch(section.dataset.readings);
      if (answer.redirected) return location.reload(); // to the sign-in page
      if (!answer.ok) throw new Error(String(answer.status));
      const found = await answer.json();
      const several = new Set(found.map(({ path }) => path)).size > 1;
      const before = all.map(({ label }) => label).join();
      all = found.map((series, index) => ({ ...series, index, label: several ? `${series.path.split("/").at(-1)} ${series.name}` : series.name, out: all[index]?.out }));
      if (before !== all.map(({ label }) => label).join()) keys.replaceChildren(...all.map(key));
      draw();
      tabulate(found);
      sayState(state, "");
    } catch {
      sayState(state, "not up to date: the gateway does not answer; trying again");
    }
  }

  new ResizeObserver(() => all.length && draw()).observe(charts);
  setInterval(() => document.visibilityState === "visible" && load(), AGAIN_MS);
  load();
}

document.querySelectorAll("[data-readings]").forEach(showReadings);
