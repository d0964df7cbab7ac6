"use strict";

// Where everybody stands on the mesh map. Around each access point (or network) stand its NICs, ring by ring: whoever
// hears it itself in the first ring, whoever sends through those in the second, and so on; a ring is as wide as it must
// be. So a thousand NICs are still single dots, and the distance from the middle is the way. The layout depends on the
// forest alone: nothing jumps when states change. What is drawn of it: mesh.js.
const SPACE = 11;
const GAP = 10;
const BAND_GAP = 7;
const DOT = 4;
const STATES = ["online", "offline", "unheard"];

/** The forest as objects: {id, kind, state, children, …}; kind is root, nic or cluster. */
function forest(map) {
  const byId = new Map();
  const roots = map.roots.map(([id, kind]) => {
    const root = { id, kind: "root", what: kind, children: [] };
    byId.set(`root ${id}`, root);
    return root;
  });
  for (const [id, parent, state, seen, hops, rssi, through] of map.nodes)
    byId.set(id, { id, kind: "nic", parent, state: STATES[state], seen, hops, rssi, through, children: [] });
  const above = (id) => byId.get(id) || byId.get(`root ${id}`);
  const hang = (node) => {
    node.up = above(node.parent);
    node.up.children.push(node);
  };
  for (const node of byId.values()) if (node.kind === "nic") hang(node);
  for (const [parent, ...counts] of map.clusters) hang({ id: `cluster ${parent}`, kind: "cluster", parent, counts, children: [] });
  return { roots, byId };
}

/** Angles of a ring with room to spare: everybody as near to the one it sends through as their order and `least` allow. */
function besideParents(level, least) {
  const angles = level.map((node) => {
    const { angle, children } = node.up;
    return angle + (children.indexOf(node) - (children.length - 1) / 2) * least;
  });
  for (let round = 0; round < 30 && angles.length > 1; round += 1)
    for (let index = 0; index < angles.length; index += 1) {
      const next = (index + 1) % angles.length;
      const lack = least - (angles[next] + (next ? 0 : 2 * Math.PI) - angles[index]);
      if (lack <= 0) continue;
      angles[index] -= lack / 2;
      angles[next] += lack / 2;
    }
  return angles;
}

/** Where everybody stands around a root, seen from it; root.bands are the rings' outer radii. */
function arrange(root) {
  root.size = 7;
  root.angle = 0;
  root.bands = [];
  let radius = 16;
  for (let level = root.children; level.length; level = level.flatMap((node) => node.children)) {
    const room = (row) => Math.floor((2 * Math.PI * (radius + (row + 0.5) * SPACE)) / SPACE);
    const rows = [];
    for (let all = 0; all < level.length; all += rows.at(-1)) rows.push(room(rows.length));
    const all = rows.reduce((sum, count) => sum + count, 0);
    const due = rows.map(() => 0);
    const step = (2 * Math.PI) / level.length;
    // Turned so that, on the whole, everybody stands outside the one it sends through.
    const away = level.map((node, index) => node.up.angle - index * step);
    const turn = Math.atan2(away.reduce((sum, angle) => sum + Math.sin(angle), 0), away.reduce((sum, angle) => sum + Math.cos(angle), 0));
    const least = (1.7 * SPACE) / (radius + SPACE / 2);
    const near = root.bands.length && rows.length === 1 && level.length * least < 5.6 ? besideParents(level, least) : null;
    level.forEach((node, index) => {
      rows.forEach((count, row) => (due[row] += count / all));
      const row = due.indexOf(Math.max(...due));
      due[row] -= 1;
      node.angle = near ? near[index] : index * step + turn;
      node.size = node.kind === "cluster" ? DOT + 2 : node.children.length ? DOT + 1 : DOT;
      const distance = radius + (row + 0.5) * SPACE;
      node.offset = [distance * Math.cos(node.angle), distance * Math.sin(node.angle)];
    });
    radius += rows.length * SPACE;
    root.bands.push(radius);
    radius += BAND_GAP;
  }
  root.radius = radius;
}

function move(root, x, y) {
  root.x = x;
  root.y = y;
  for (let level = root.children; level.length; level = level.flatMap((node) => node.children))
    for (const node of level) [node.x, node.y] = [x + node.offset[0], y + node.offset[1]];
}

/** Roots side by side in rows, whatever fills the canvas best. */
function place(roots, aspect) {
  roots.forEach(arrange);
  const boxes = roots.map((root) => ({ root, side: 2 * root.radius + 2 * GAP }));
  boxes.sort((a, b) => b.side - a.side || (a.root.id < b.root.id ? -1 : 1));
  const rows = (limit) => {
    const found = [];
    let row = null;
    for (const box of boxes) {
      if (!row || row.width + box.side > limit) found.push((row = { width: 0, height: box.side + 26, boxes: [] }));
      row.boxes.push(box);
      row.width += box.side;
    }
    return found;
  };
  const all = boxes.reduce((sum, box) => sum + box.side, 0);
  let best = null;
  for (let step = 1; step <= 24; step += 1) {
    const found = rows(Math.max(boxes[0].side, (all * step) / 24));
    const width = Math.max(...found.map((row) => row.width));
    const height = found.reduce((sum, row) => sum + row.height, 0);
    const need = Math.max(width, height * aspect);
    if (!best || need < best.need) best = { need, found, width, height };
  }
  let top = 0;
  for (const row of best.found) {
    let left = (best.width - row.width) / 2;
    for (const { root, side } of row.boxes) {
      move(root, left + side / 2, top + side / 2);
      root.label = [left + side / 2, top + side - GAP];
      root.side = side;
      left += side;
    }
    top += row.height;
  }
  return { width: best.width, height: best.height };
}
