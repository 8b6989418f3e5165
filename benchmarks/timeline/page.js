"use strict";
const SVG = "http://www.w3.org/2000/svg";
const LANE = 16, CLIENT = 20, HEADING = 30, AXIS = 24, LEAST_PIXELS = 0.8, NEAR_PIXELS = 9, LEAST_SPAN = 2000;
const chart = document.getElementById("chart"), details = document.getElementById("details");
// What is seen: a span of time in ns, counted from the zero of each panel.
const whole = FIGURE.panels.map(panel => [panel.window[0] - panel.zero, panel.window[1] - panel.zero])
  .reduce((one, other) => [Math.min(one[0], other[0]), Math.max(one[1], other[1])]);
let seen = [...whole];
// The rows of the picture, from top to bottom; the item that has the focus; the message that is lit.
let rows = [], focus = null, lit = null;

function left() { return chart.clientWidth < 600 ? 74 : 100; }
function width() { return Math.max(120, chart.clientWidth - left() - 8); }
function xOf(time, panel) {
  return left() + (time - panel.zero - seen[0]) / (seen[1] - seen[0]) * width();
}
function timeAt(x) { return seen[0] + (x - left()) / width() * (seen[1] - seen[0]); }
function inShort(ns) {
  if (Math.abs(ns) < 1e6) return `${(ns / 1e3).toFixed(Math.abs(ns) < 1e4 ? 1 : 0)} µs`;
  return `${(ns / 1e6).toFixed(ns < 1e7 ? 2 : 1)} ms`;
}
function element(name, attributes, parent, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}
function colourOf(client, panel) {
  const number = panel.clients.indexOf(client);
  return number < 0 ? "itself" : `c${number}`;
}
function lookOf(block, panel) {
  if (block.kind === "ready") return "ready";
  if (block.kind === "lock") return "waiting";
  return colourOf(block.client, panel) + (block.kind === "call" ? " call" : "");
}

// Drawing

function draw() {
  rows = [];
  let bottom = 4;
  for (const panel of FIGURE.panels) bottom = layOut(panel, bottom) + 10;
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("height", bottom + AXIS);
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("viewBox", `0 0 ${chart.clientWidth} ${bottom + AXIS}`);
  svg.innerHTML = '<defs><pattern id="hatch" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    + '<line class="hatch" y2="5"/></pattern><pattern id="lock" width="4" height="4" patternUnits="userSpaceOnUse">'
    + '<rect class="stripe" width="2" height="4"/></pattern></defs>'
    + `<clipPath id="axis"><rect x="${left()}" y="0" width="${width()}" height="${bottom}"/></clipPath>`;
  for (const panel of FIGURE.panels) drawHeading(panel, svg);
  for (const row of rows) row.lane ? drawLane(row, svg) : drawClient(row, svg);
  for (const panel of FIGURE.panels) panel.ways.forEach((way, number) => drawWay(panel, way, number, svg));
  drawAxis(svg, bottom);
  if (focus) drawFocus(svg);
  chart.replaceChildren(svg);
  chart.dataset.from = seen[0];
  chart.dataset.to = seen[1];
}
function layOut(panel, top) {
  panel.top = top;
  let y = top + HEADING;
  for (const lane of panel.lanes) {
    rows.push({panel, lane, y, height: LANE, items: lane.blocks});
    y += LANE + 2;
  }
  y += 4;
  for (const client of panel.clients) {
    const ways = panel.ways.filter(way => way.client === client);
    rows.push({panel, client, y, height: CLIENT, items: ways});
    y += CLIENT;
  }
  return y;
}
function drawHeading(panel, svg) {
  const group = element("g", {"data-panel": panel.name}, svg);
  element("text", {x: 2, y: panel.top + 15, class: "heading"}, group, panel.heading);
  const right = chart.clientWidth - 4;
  if (chart.clientWidth > 700) element("text", {x: right, y: panel.top + 15, "text-anchor": "end"}, group, panel.said);
}
function drawLane(row, svg) {
  const {panel, lane, y} = row, clipped = element("g", {"clip-path": "url(#axis)"}, svg);
  element("text", {x: left() - 5, y: y + 12, "text-anchor": "end"}, svg, lane.name);
  const first = lane.blocks[0], last = lane.blocks[lane.blocks.length - 1];
  const begin = Math.max(left(), xOf(first.start, panel)), end = Math.min(left() + width(), xOf(last.end, panel));
  if (end > begin) element("rect", {x: begin, y, width: end - begin, height: LANE, class: "asleep"}, clipped);
  const onTheWay = litBlocks(row);
  let drawn = -1, before = "";
  for (const block of lane.blocks) {
    if (block.kind === "asleep" || !isSeen(block.start, block.end, panel)) continue;
    const x = xOf(block.start, panel), wide = Math.max(LEAST_PIXELS, xOf(block.end, panel) - x);
    const look = lookOf(block, panel), isLit = onTheWay.has(block);
    // Where many lie on one pixel, one of each look is enough.
    if (!isLit && x + wide < drawn + 0.4 && look === before) continue;
    [drawn, before] = [x + wide, look];
    const name = look + (isLit ? " lit" : lit ? " dimmed" : "");
    element("rect", {x, y, width: wide, height: LANE, class: name}, clipped);
    const text = block.detail && block.kind === "python" ? `${block.detail} for ${block.client}` : block.client;
    const [from, to] = [Math.max(x, left()), Math.min(x + wide, left() + width())];
    if (block.kind === "python" && text && to - from > text.length * 6.6 + 8)
      element("text", {x: (from + to) / 2, y: y + 12, class: "inside", "text-anchor": "middle"}, svg, text);
  }
}
function litBlocks(row) {
  if (!lit || lit.panel !== row.panel) return new Set();
  const lane = row.panel.lanes.indexOf(row.lane);
  return new Set(lit.way.blocks.filter(place => place[0] === lane).map(place => row.items[place[1]]));
}
function drawClient(row, svg) {
  const {panel, client, y} = row, middle = y + CLIENT / 2;
  element("text", {x: left() - 5, y: middle + 4, "text-anchor": "end", class: colourOf(client, panel)}, svg, client);
  element("line", {x1: left(), x2: left() + width(), y1: middle, y2: middle, class: "rule"}, svg);
  for (const [who, start, end] of panel.deaf) {
    if (who !== client || !isSeen(start, end, panel)) continue;
    const x = Math.max(left(), xOf(start, panel)), until = Math.min(left() + width(), xOf(end, panel));
    element("rect", {x, y: middle - 5, width: until - x, height: 10, class: "deaf"}, svg);
  }
}
function drawWay(panel, way, number, svg) {
  const until = Math.max(way.at, ...way.deliveries.map(delivery => delivery[1]));
  if (!isSeen(way.at, until, panel)) return;
  const isLit = lit && lit.panel === panel && lit.way === way;
  const state = isLit ? " lit" : lit ? " dimmed" : "", colour = colourOf(way.client, panel);
  const clipped = element("g", {"clip-path": "url(#axis)"}, svg), y = middleOf(panel, way.client), x = xOf(way.at, panel);
  for (const [who, at] of way.deliveries) {
    const end = xOf(at, panel);
    if (who === way.client) {
      element("rect", {x, y: y - 3, width: Math.max(LEAST_PIXELS, end - x), height: 6, class: `${colour} bar${state}`}, clipped);
    } else {
      const stroke = colour.replace("c", "s"), there = middleOf(panel, who);
      element("line", {x1: x, y1: y, x2: end, y2: there, class: stroke + state}, clipped);
      element("circle", {cx: end, cy: there, r: isLit ? 3.5 : 2, class: colour + state}, clipped);
    }
  }
  element("circle", {cx: x, cy: y, r: 4, class: colour + state, "data-way": `${panel.name} ${number}`}, clipped);
}
function middleOf(panel, client) {
  const row = rows.find(one => one.panel === panel && one.client === client);
  return row.y + CLIENT / 2;
}
function drawAxis(svg, y) {
  const unit = FIGURE.unit === "µs" ? 1e3 : 1e6, span = (seen[1] - seen[0]) / unit;
  const power = 10 ** Math.floor(Math.log10(span / 4));
  const step = [1, 2, 5, 10, 20, 50].map(times => times * power).find(one => span / one <= Math.max(3, width() / 80));
  const digits = Math.max(0, -Math.floor(Math.log10(step)));
  element("text", {x: left() - 5, y: y + 14, "text-anchor": "end"}, svg, FIGURE.unit);
  for (let tick = Math.ceil(seen[0] / unit / step); tick * step * unit <= seen[1]; tick++) {
    const x = left() + (tick * step * unit - seen[0]) / (seen[1] - seen[0]) * width();
    element("line", {x1: x, x2: x, y1: y, y2: y + 4, class: "rule"}, svg);
    element("text", {x, y: y + 15, "text-anchor": "middle"}, svg, (tick * step).toFixed(digits));
  }
}
function drawFocus(svg) {
  const {row, item} = focus, height = row.lane ? LANE : CLIENT;
  const x = xOf(row.lane ? item.start : item.at, row.panel) - (row.lane ? 1 : 6);
  const end = row.lane ? xOf(item.end, row.panel) + 1 : x + 12;
  const y = rows.find(one => one.panel === row.panel && one.lane === row.lane && one.client === row.client).y;
  const clipped = element("g", {"clip-path": "url(#axis)"}, svg);
  element("rect", {x, y: y - 1, width: Math.max(3, end - x), height: height + 2, class: "focus"}, clipped);
}
function isSeen(start, end, panel) { return end - panel.zero > seen[0] && start - panel.zero < seen[1]; }

// What an item is, in words

const KINDS = {asleep: "asleep in", ready: "could run but does not yet, after", call: "in", lock: "waits for"};
function describe(row, item) {
  const panel = row.panel, begin = row.lane ? item.start : item.at;
  const when = `at ${inShort(begin - panel.zero)}`;
  if (row.lane) {
    let what = `${KINDS[item.kind]} ${item.detail}`;
    if (item.kind === "python") what = item.detail ? `runs ${item.detail}` : "runs Python";
    if (item.kind === "asleep" && !item.detail) what = "asleep";
    return `${panel.name}, ${row.lane.name}: ${what}${item.client ? ` for ${item.client}` : ""}, ${when}, for ${inShort(item.end - item.start)}`;
  }
  const there = item.deliveries.map(([who, at]) => `${who} has it after ${inShort(at - item.at)}`);
  return `${panel.name}, ${item.client}: “${item.text}”, sent ${when}; ${there.join(", ") || "never answered"}`;
}
function show(row, item) { details.textContent = describe(row, item); }

// Moving about

function look(from, to) {
  const span = Math.min(whole[1] - whole[0], Math.max(LEAST_SPAN, to - from));
  const start = Math.min(Math.max(whole[0], from), whole[1] - span);
  seen = [start, start + span];
  draw();
}
function zoom(factor, x = left() + width() / 2) {
  const at = timeAt(x), share = (at - seen[0]) / (seen[1] - seen[0]);
  const span = Math.min(whole[1] - whole[0], Math.max(LEAST_SPAN, (seen[1] - seen[0]) * factor));
  look(at - share * span, at - share * span + span);
}
function move(pixels) {
  const by = pixels / width() * (seen[1] - seen[0]);
  look(seen[0] + by, seen[1] + by);
}
function focusOn(row, item) {
  focus = {row, item};
  const time = (row.lane ? item.start : item.at) - row.panel.zero, span = seen[1] - seen[0];
  const isShown = row.lane ? isSeen(item.start, item.end, row.panel) : time >= seen[0] && time <= seen[1];
  if (isShown) draw(); else look(time - span / 2, time + span / 2);
  show(row, item);
}
function step(by) {
  if (!focus) return focusOn(...firstItem(rows[0]));
  const items = within(focus.row), at = items.indexOf(focus.item);
  focusOn(focus.row, items[Math.min(items.length - 1, Math.max(0, at + by))]);
}
function changeRow(by) {
  if (!focus) return focusOn(...firstItem(rows[0]));
  const time = (focus.row.lane ? focus.item.start : focus.item.at) - focus.row.panel.zero;
  const now = rows.findIndex(row => row.panel === focus.row.panel && row.lane === focus.row.lane && row.client === focus.row.client);
  for (let at = now + by; rows[at]; at += by) {
    const row = rows[at];
    const items = within(row);
    if (!items.length) continue;
    const far = item => Math.abs((row.lane ? item.start : item.at) - row.panel.zero - time);
    return focusOn(row, items.reduce((one, other) => far(other) < far(one) ? other : one));
  }
}
// The items of a row that lie in what can be shown.
function within(row) {
  return row.items.filter(item => {
    const start = (row.lane ? item.start : item.at) - row.panel.zero, end = row.lane ? item.end - row.panel.zero : start;
    return end >= whole[0] && start <= whole[1];
  });
}
function firstItem(row) {
  return [row, row.items.find(item => isSeen(row.lane ? item.start : item.at, row.lane ? item.end : item.at + 1, row.panel)) || row.items[0]];
}
function lightUp(row, item) {
  lit = lit && lit.way === item ? null : {panel: row.panel, way: item};
  focusOn(row, item);
}
function itemAt(event) {
  const box = chart.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
  const row = rows.find(one => y >= one.y && y < one.y + one.height);
  if (!row || x < left()) return null;
  const time = timeAt(x) + row.panel.zero, near = NEAR_PIXELS / width() * (seen[1] - seen[0]);
  if (row.lane) {
    const item = row.items.find(block => block.start <= time && time < block.end);
    return item ? [row, item] : null;
  }
  const far = way => Math.abs(way.at - time);
  const nearest = row.items.filter(way => far(way) < near).sort((one, other) => far(one) - far(other))[0];
  const item = nearest || row.items.find(way => way.at <= time && way.deliveries.some(([, at]) => time <= at));
  return item ? [row, item] : null;
}

// What people do

const KEYS = {
  "+": () => zoom(0.6), "=": () => zoom(0.6), "-": () => zoom(1 / 0.6), "0": () => look(...whole),
  "Escape": () => { lit = focus = null; details.textContent = "\u00a0"; draw(); },
  "Enter": () => focus && !focus.row.lane && lightUp(focus.row, focus.item),
  "ArrowLeft": event => event.shiftKey ? move(-80) : step(-1),
  "ArrowRight": event => event.shiftKey ? move(80) : step(1),
  "ArrowUp": () => changeRow(-1), "ArrowDown": () => changeRow(1),
};
chart.addEventListener("keydown", event => {
  if (!KEYS[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  KEYS[event.key](event);
});
chart.addEventListener("wheel", event => {
  event.preventDefault();
  const x = event.clientX - chart.getBoundingClientRect().left;
  if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) move(event.deltaX); else zoom(event.deltaY > 0 ? 1.2 : 1 / 1.2, x);
}, {passive: false});
const pointers = new Map();
let travelled = 0;
chart.addEventListener("pointerdown", event => {
  if (event.button) return;
  pointers.set(event.pointerId, event.clientX);
  if (pointers.size === 1) travelled = 0;
});
addEventListener("pointermove", event => {
  // A menu may have swallowed the end of a drag.
  if (!event.buttons) pointers.delete(event.pointerId);
  const before = pointers.get(event.pointerId);
  if (before === undefined) {
    const found = chart.contains(event.target) && itemAt(event);
    if (found && !lit) show(...found);
    return;
  }
  const other = [...pointers].find(([id]) => id !== event.pointerId);
  travelled += Math.abs(event.clientX - before);
  pointers.set(event.pointerId, event.clientX);
  if (!other) { move(before - event.clientX); return; }
  const middle = (event.clientX + other[1]) / 2 - chart.getBoundingClientRect().left;
  zoom(Math.max(8, Math.abs(before - other[1])) / Math.max(8, Math.abs(event.clientX - other[1])), middle);
});
for (const name of ["pointerup", "pointercancel"]) addEventListener(name, event => {
  const was = pointers.delete(event.pointerId);
  if (!was || name !== "pointerup" || travelled > 6 || pointers.size) return;
  const found = itemAt(event);
  if (!found) return;
  if (found[0].lane) focusOn(...found); else lightUp(...found);
});
document.getElementById("buttons").addEventListener("click", event => {
  const wish = event.target.dataset.do;
  if (wish === "in") zoom(0.6);
  if (wish === "out") zoom(1 / 0.6);
  if (wish === "all") look(...whole);
});
// A change of its width, by the window or by a scrollbar that comes, changes all places.
let widthDrawn = 0;
new ResizeObserver(() => {
  if (chart.clientWidth === widthDrawn) return;
  widthDrawn = chart.clientWidth;
  draw();
}).observe(chart);
draw();
