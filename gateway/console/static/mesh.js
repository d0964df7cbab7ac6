"use strict";

// The mesh map on a canvas, live; who stands where is decided in mesh_layout.js. Without the canvas, the table says the
// same.
const WORDS = { online: "online", offline: "offline", unheard: "never heard" };
const FLASH_MS = 1200;
const MOST_SMOOTH = 30;
const COARSE_MS = 1000;
const AGAIN_LATER_MS = 15000;

function ago(seconds) {
  if (seconds < 120) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} d`;
}

function showMesh(section) {
  const canvas = section.querySelector("canvas");
  const context = canvas.getContext("2d");
  const said = section.querySelector("[data-mesh-state]");
  const words = section.querySelector("[data-picked]");
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  let drawn = { roots: [], byId: new Map() };
  let size = { width: 1, height: 1 };
  let view = { scale: 1, x: 0, y: 0 };
  let picked = null;
  let frame = 0;
  let pause = 0;
  let isLarge = false;
  let waiting = 0;
  let next = 0;
  const flashes = new Map();
  const rows = new Map([...document.querySelectorAll("tr[data-mac]")].map((row) => [row.dataset.mac, row]));

  function fit() {
    const { clientWidth: width, clientHeight: height } = canvas;
    const ratio = devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    if (!drawn.roots.length || !width) return;
    size = place(drawn.roots, width / height);
    const scale = Math.min(width / size.width, height / size.height, 2.2);
    view = { scale, x: (width - size.width * scale) / 2, y: (height - size.height * scale) / 2 };
    redraw();
  }

  const redraw = () => {
    if (!frame) frame = requestAnimationFrame(draw);
  };

  function draw(now) {
    frame = 0;
    const style = getComputedStyle(canvas);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    const colours = { online: colour("good"), offline: colour("bad"), unheard: colour("soft"), line: colour("line"), root: colour("accent"), ink: colour("ink"), soft: colour("soft"), card: colour("card") };
    const ratio = devicePixelRatio || 1;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.setTransform(ratio * view.scale, 0, 0, ratio * view.scale, ratio * view.x, ratio * view.y);
    const pixel = 1 / view.scale;
    for (const root of drawn.roots) for (const radius of root.bands) ring({ x: root.x, y: root.y }, radius + BAND_GAP / 2, colours.line, pixel);
    lines(colours, pixel);
    if (picked) way(picked, colours, pixel);
    for (const node of drawn.byId.values()) {
      if (node.kind === "nic") dot(node, colours, pixel);
      for (const child of node.children) if (child.kind === "cluster") cluster(child, colours);
    }
    let alive = false;
    for (const [id, begun] of flashes) {
      const age = (now - begun) / FLASH_MS;
      const node = drawn.byId.get(id);
      if (age >= 1 || !node) {
        flashes.delete(id);
        continue;
      }
      alive = true;
      context.globalAlpha = 1 - age;
      ring(node, node.size + (2 + 7 * age) * Math.max(1, pixel), colours.online, 1.5 * pixel);
      context.globalAlpha = 1;
    }
    if (picked) ring(picked, picked.size + 4 * Math.max(1, pixel), colours.ink, 2 * pixel);
    for (const root of drawn.roots) rootMark(root, colours, pixel);
    // Where hundreds are heard a second, smooth rings would take the whole processor.
    if (alive && flashes.size <= MOST_SMOOTH) redraw();
    else if (alive && !pause) pause = setTimeout(() => ((pause = 0), redraw()), COARSE_MS);
  }

  function lines(colours, pixel) {
    context.strokeStyle = colours.soft;
    context.globalAlpha = 0.45;
    context.lineWidth = Math.max(pixel * 0.8, 0.8);
    for (const isHidden of [false, true]) {
      context.setLineDash(isHidden ? [4, 4] : []);
      context.beginPath();
      for (const node of drawn.byId.values())
        for (const child of node.children) {
          if (Boolean(child.through) !== isHidden || (node.kind === "root" && node.what !== "access point")) continue;
          context.moveTo(node.x, node.y);
          context.lineTo(child.x, child.y);
        }
      context.stroke();
    }
    context.setLineDash([]);
    context.globalAlpha = 1;
  }

  /** From a NIC to its access point. */
  function way(node, colours, pixel) {
    context.beginPath();
    context.moveTo(node.x, node.y);
    for (let next = node.up; next && (next.kind !== "root" || next.what === "access point"); next = next.up) context.lineTo(next.x, next.y);
    context.strokeStyle = colours.root;
    context.lineWidth = 2.5 * Math.max(1, pixel);
    context.stroke();
  }

  function ring(node, radius, stroke, width) {
    context.beginPath();
    context.arc(node.x, node.y, radius, 0, 7);
    context.strokeStyle = stroke;
    context.lineWidth = width;
    context.stroke();
  }

  function dot(node, colours, pixel) {
    context.beginPath();
    context.arc(node.x, node.y, node.size, 0, 7);
    if (node.state === "online") {
      context.fillStyle = colours.online;
      context.fill();
    } else {
      context.fillStyle = colours.card;
      context.fill();
      context.strokeStyle = colours[node.state];
      context.lineWidth = 1.8;
      if (node.state === "unheard") context.setLineDash([2, 2]);
      context.stroke();
      context.setLineDash([]);
      if (node.state === "offline") {
        const arm = node.size * 0.5;
        context.beginPath();
        context.moveTo(node.x - arm, node.y - arm);
        context.lineTo(node.x + arm, node.y + arm);
        context.moveTo(node.x + arm, node.y - arm);
        context.lineTo(node.x - arm, node.y + arm);
        context.stroke();
      }
    }
    if (node.children.length) ring(node, node.size + 2.5, colours.root, Math.max(1.5, pixel));
  }

  /** Many in one: a pie of their states. */
  function cluster(node, colours) {
    const all = node.counts.reduce((sum, count) => sum + count, 0);
    let from = -Math.PI / 2;
    node.counts.forEach((count, index) => {
      const to = from + (count / all) * 2 * Math.PI;
      context.beginPath();
      context.moveTo(node.x, node.y);
      context.arc(node.x, node.y, node.size, from, to);
      context.fillStyle = colours[STATES[index]];
      if (count) context.fill();
      from = to;
    });
  }

  function rootMark(root, colours, pixel) {
    const arm = 8 * Math.max(1, pixel);
    if (root.what !== "unheard") {
      context.beginPath();
      context.moveTo(root.x, root.y - arm);
      context.lineTo(root.x + arm, root.y);
      context.lineTo(root.x, root.y + arm);
      context.lineTo(root.x - arm, root.y);
      context.closePath();
      context.fillStyle = root.what === "access point" ? colours.root : colours.card;
      context.fill();
      context.strokeStyle = colours.root;
      context.lineWidth = 2;
      context.stroke();
    }
    const name = root.what === "unheard" ? "never heard" : root.id;
    context.font = `${13 * pixel}px system-ui, sans-serif`;
    const fits = context.measureText(name).width <= root.side + 4 * pixel;
    if (fits || drawn.roots.length === 1) label(name, root.label[0], root.label[1] + 12 * pixel, colours.soft, pixel, 13);
  }

  function label(text, x, y, fill, pixel, points) {
    context.font = `${points * pixel}px system-ui, sans-serif`;
    context.textAlign = "center";
    context.fillStyle = fill;
    context.fillText(text, x, y);
  }

  // --- who is pointed at

  function at(event) {
    const box = canvas.getBoundingClientRect();
    const x = (event.clientX - box.left - view.x) / view.scale;
    const y = (event.clientY - box.top - view.y) / view.scale;
    let best = null;
    let distance = Math.max(12 / view.scale, 7);
    for (const node of drawn.byId.values()) {
      const away = Math.hypot(node.x - x, node.y - y);
      if (node.kind === "nic" && away < distance) [best, distance] = [node, away];
    }
    return best;
  }

  function pick(node) {
    if (node === picked && node) return;
    picked = node;
    canvas.classList.toggle("hits", Boolean(node));
    if (node) describe(node);
    redraw();
  }

  function describe(node) {
    const link = document.createElement("a");
    link.href = `/console/network/${node.id}`;
    link.className = "mono";
    link.textContent = node.id;
    const parts = [WORDS[node.state]];
    if (node.hops) parts.push(`${node.hops} ${node.hops === 1 ? "hop" : "hops"}`);
    const root = drawn.byId.get(`root ${node.parent}`);
    if (!root) parts.push(`sends through ${node.parent}${node.through ? ` and ${node.through} NICs of others` : ""}`);
    else if (root.what === "access point") parts.push(`sends through ${node.parent}`);
    else if (root.what === "network") parts.push(`heard from ${node.parent}`);
    if (node.rssi !== null) parts.push(`${node.rssi} dBm`);
    if (node.seen) parts.push(`heard ${ago(Date.now() / 1000 - node.seen)} ago`);
    words.replaceChildren(link, ` ${parts.join(" · ")}`);
  }

  canvas.addEventListener("pointermove", (event) => event.pointerType === "mouse" && pick(at(event) || picked));
  canvas.addEventListener("click", (event) => {
    const node = at(event);
    if (node && node === picked && event.pointerType !== "touch") location.href = `/console/network/${node.id}`;
    else if (node) pick(node);
  });

  // --- data

  async function load() {
    let isLoaded = false;
    try {
      const answer = await fetch(section.dataset.mesh);
      if (!answer.ok) throw new Error(`${answer.status}`);
      const map = await answer.json();
      drawn = forest(map);
      isLarge = map.clusters.length > 0;
      picked = picked && drawn.byId.get(picked.id) ? drawn.byId.get(picked.id) : null;
      fit();
      tally();
      isLoaded = true;
    } catch {
      sayState(said, "not loaded: the gateway does not answer; trying again");
    }
    clearTimeout(next);
    next = isLarge || !isLoaded ? setTimeout(load, AGAIN_LATER_MS) : 0;
  }

  function tally() {
    const counts = { online: 0, offline: 0, unheard: 0 };
    for (const node of drawn.byId.values()) {
      if (node.kind === "nic") counts[node.state] += 1;
      for (const child of node.children) if (child.kind === "cluster") child.counts.forEach((count, index) => (counts[STATES[index]] += count));
    }
    for (const [state, count] of Object.entries(counts)) section.querySelector(`[data-tally="${state}"]`).textContent = count;
  }

  function change({ states, heard, again }) {
    const now = Date.now() / 1000;
    for (const [mac, index] of Object.entries(states)) {
      const node = drawn.byId.get(mac);
      if (node) node.state = STATES[index];
      const cell = rows.get(mac)?.querySelector('[data-cell="state"] span');
      if (cell) [cell.textContent, cell.className] = [STATES[index], `state ${STATES[index]}`];
    }
    for (const mac of heard) {
      const node = drawn.byId.get(mac);
      if (node) node.seen = now;
      if (node && !still.matches) flashes.set(mac, performance.now());
      const cell = rows.get(mac)?.querySelector('[data-cell="seen"]');
      if (!cell) continue;
      put(cell, "0 s ago");
      cell.dataset.at = now;
    }
    if (Object.keys(states).length && !isLarge) tally();
    if (picked) describe(picked);
    if (again && !isLarge && !waiting) {
      waiting = setTimeout(() => {
        waiting = 0;
        load();
      }, 1000);
    }
    redraw();
  }

  const say = (text) => () => sayState(said, text);
  listen(`${section.dataset.mesh}/live`, {
    told: change,
    live: say("live"),
    away: say("not live: the gateway does not answer; trying again"),
    ended: say("no longer live: reload the page"),
    afresh: load,
  });
  new ResizeObserver(fit).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  setInterval(() => {
    const now = Date.now() / 1000;
    for (const row of rows.values()) {
      const cell = row.querySelector("[data-cell=seen][data-at]");
      if (cell) put(cell, `${ago(now - cell.dataset.at)} ago`);
    }
  }, 5000);
  load();
}

document.querySelectorAll("[data-mesh]").forEach(showMesh);
