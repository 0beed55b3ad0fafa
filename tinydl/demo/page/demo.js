"use strict";
const $ = (id) => document.getElementById(id);
const quiet = matchMedia("(prefers-reduced-motion: reduce)");

// Questions to the server
// -----------------------------------------------------------------------------

async function ask(path, body) {
  try {
    const options = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
    const response = await fetch(path, options || {});
    const found = await response.json();
    if (!response.ok) throw new Error(found.error || response.statusText);
    $("trouble").hidden = true;
    return found;
  } catch (error) {
    $("trouble").textContent = error instanceof TypeError ? "The server does not answer. Is it still running?" : error.message;
    $("trouble").hidden = false;
    return null;
  }
}

// One question at a time; what changed meanwhile is asked afterwards.
function latest(work) {
  let busy = false, again = false;
  return async function run() {
    if (busy) { again = true; return; }
    busy = true;
    do { again = false; await work(); } while (again);
    busy = false;
  };
}

// Colours
// -----------------------------------------------------------------------------

const ramp = (stops) => (t) => {
  const at = Math.min(Math.max(t, 0), 1) * (stops.length - 1), i = Math.min(Math.floor(at), stops.length - 2), f = at - i;
  return stops[i].map((c, k) => c + f * (stops[i + 1][k] - c));
};
const around = ramp([[33, 102, 172], [146, 197, 222], [247, 247, 247], [244, 165, 130], [178, 24, 43]]); // -1 to 1
const heat = ramp([[0, 0, 4], [81, 18, 124], [183, 55, 121], [252, 137, 97], [252, 253, 191]]);
const sides = ramp([[74, 144, 190], [188, 214, 232], [250, 250, 248], [247, 205, 170], [222, 125, 60]]);
const depth = ramp([[24, 58, 92], [44, 111, 146], [96, 170, 178], [176, 217, 194], [247, 246, 224]]);

function raster(values, width, height, colour) {
  const small = document.createElement("canvas");
  small.width = width; small.height = height;
  const context = small.getContext("2d"), image = context.createImageData(width, height);
  values.forEach((v, i) => { image.data.set(colour(v), 4 * i); image.data[4 * i + 3] = 255; });
  context.putImageData(image, 0, 0);
  return small;
}

function spread(canvas, small) {
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
  return context;
}

// Lines where the values on a grid cross a level, by marching squares.
function contour(context, values, n, level, scale) {
  context.beginPath();
  for (let r = 0; r < n - 1; r++) for (let c = 0; c < n - 1; c++) {
    const corners = [[c, r], [c + 1, r], [c + 1, r + 1], [c, r + 1]], cuts = [];
    for (let k = 0; k < 4; k++) {
      const [a, b] = [corners[k], corners[(k + 1) % 4]];
      const u = values[a[1] * n + a[0]] - level, v = values[b[1] * n + b[0]] - level;
      if ((u < 0) !== (v < 0)) {
        const f = u / (u - v);
        cuts.push([(a[0] + f * (b[0] - a[0]) + .5) * scale, (a[1] + f * (b[1] - a[1]) + .5) * scale]);
      }
    }
    for (let k = 0; k + 1 < cuts.length; k += 2) { context.moveTo(...cuts[k]); context.lineTo(...cuts[k + 1]); }
  }
  context.stroke();
}

// Tabs
// -----------------------------------------------------------------------------

const tabs = [...document.querySelectorAll("[role=tab]")];
function choose(tab, focus) {
  for (const other of tabs) {
    const on = other === tab;
    other.setAttribute("aria-selected", on);
    other.tabIndex = on ? 0 : -1;
    $(other.getAttribute("aria-controls")).hidden = !on;
  }
  if (focus) tab.focus();
  if (tab.id !== "tab-play") pause();
  if (tab.id === "tab-play" && !play.seen) playOnce();
  if (tab.id === "tab-race" && !run.found) runRace();
}
tabs.forEach((tab, i) => {
  tab.addEventListener("click", () => choose(tab));
  tab.addEventListener("keydown", (event) => {
    const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (to !== undefined) { event.preventDefault(); choose(tabs[(to + tabs.length) % tabs.length], true); }
  });
});

// A digit
// -----------------------------------------------------------------------------

const SIDE = 28, pad = $("pad"), cell = pad.width / SIDE;
const ink = new Float64Array(SIDE * SIDE);
const pen = { down: false, at: [14, 14], shown: false, ready: false };

function paint() {
  const context = pad.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(raster(Array.from(ink), SIDE, SIDE, (v) => [255 - 229 * v, 255 - 226 * v, 255 - 221 * v]), 0, 0, pad.width, pad.height);
  if (pen.shown) {
    context.strokeStyle = pen.down ? "#d55e00" : "#0072b2";
    context.lineWidth = 3;
    context.strokeRect(pen.at[0] * cell, pen.at[1] * cell, cell, cell);
  }
}

function dab(x, y, erase) { // a soft round tip, about as wide as the strokes of the training digits
  for (let r = Math.max(0, Math.floor(y - 3)); r <= Math.min(SIDE - 1, y + 3); r++)
    for (let c = Math.max(0, Math.floor(x - 3)); c <= Math.min(SIDE - 1, x + 3); c++) {
      const far = Math.hypot(c + .5 - x, r + .5 - y), v = Math.min(1, Math.max(0, 1.9 - far));
      const i = r * SIDE + c;
      ink[i] = erase ? ink[i] * (1 - v) : Math.max(ink[i], v);
    }
}

function stroke(from, to, erase) {
  const n = Math.max(1, Math.ceil(2 * Math.hypot(to[0] - from[0], to[1] - from[1])));
  for (let k = 0; k <= n; k++) dab(from[0] + k / n * (to[0] - from[0]), from[1] + k / n * (to[1] - from[1]), erase);
  paint();
  look();
}

function clearPad() { ink.fill(0); paint(); look(); }
function setPen(down) {
  pen.down = down;
  $("pad-pen").textContent = down ? "Pen down" : "Pen up";
  $("pad-pen").setAttribute("aria-pressed", down);
  if (down) stroke(...[0, 0].map(() => pen.at.map((n) => n + .5)));
  paint();
}

let drag = null;
const spot = (event) => { const box = pad.getBoundingClientRect(); return [(event.clientX - box.left) / box.width * SIDE, (event.clientY - box.top) / box.height * SIDE]; };
pad.addEventListener("pointerdown", (event) => { pad.setPointerCapture(event.pointerId); pen.shown = false; drag = spot(event); stroke(drag, drag, event.button === 2); });
pad.addEventListener("pointermove", (event) => { if (drag) { const to = spot(event); stroke(drag, to, event.buttons === 2); drag = to; } });
for (const end of ["pointerup", "pointercancel"]) pad.addEventListener(end, () => { drag = null; });
pad.addEventListener("contextmenu", (event) => event.preventDefault());
pad.addEventListener("focus", () => { pen.shown = pad.matches(":focus-visible"); paint(); });
pad.addEventListener("blur", () => { pen.shown = false; paint(); });
pad.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  const centre = (at) => at.map((n) => n + .5);
  if (step) {
    const before = pen.at;
    pen.at = before.map((n, k) => Math.min(SIDE - 1, Math.max(0, n + step[k])));
    if (pen.down) stroke(centre(before), centre(pen.at));
  } else if (event.key === " " || event.key === "Enter") setPen(!pen.down);
  else if (event.key === "Backspace" || event.key === "Delete") clearPad();
  else if (event.key.toLowerCase() === "e") stroke(centre(pen.at), centre(pen.at), true);
  else return;
  pen.shown = true;
  event.preventDefault();
  paint();
});
$("pad-clear").addEventListener("click", () => { clearPad(); pad.focus(); });
$("pad-pen").addEventListener("click", () => { pen.shown = true; setPen(!pen.down); pad.focus(); });

for (let k = 0; k < 10; k++) {
  const row = document.createElement("li");
  row.innerHTML = `<span>${k}</span><i></i><span></span>`;
  $("bars").append(row);
}

const look = latest(async () => {
  if (!pen.ready) return;
  const empty = !ink.some((v) => v > 0), body = { pixels: Array.from(ink, (v) => Math.round(v * 1e3) / 1e3) };
  if ($("layer").value) body.layer = $("layer").value;
  const found = await ask("/api/digit", body);
  if (!found) return;
  if (!$("layer").options.length) for (const name of found.layers) $("layer").add(new Option(name));
  [...$("bars").children].forEach((row, k) => {
    const p = empty ? 0 : found.probabilities[k];
    row.className = !empty && k === found.class ? "best" : "";
    row.children[1].style.width = `${100 * p}%`;
    row.children[2].textContent = `${(100 * p).toFixed(1)} %`;
  });
  const p = found.probabilities[found.class];
  const words = empty ? "Draw something." : `${p > .9 ? "It is" : p > .6 ? "Probably" : "Perhaps"} a ${found.class}.`;
  if ($("said").textContent !== words) $("said").textContent = words;
  const blank = found.saliency.map(() => 0);
  const context = $("saliency").getContext("2d");
  context.drawImage(raster(empty ? blank : found.saliency, SIDE, SIDE, (v) => around((v + 1) / 2)), 0, 0);
  context.globalAlpha = .22; // the drawing, faintly
  const shade = context.createImageData(SIDE, SIDE), over = document.createElement("canvas");
  ink.forEach((v, i) => { shade.data[4 * i + 3] = 255 * v; });
  over.width = over.height = SIDE;
  over.getContext("2d").putImageData(shade, 0, 0);
  context.drawImage(over, 0, 0);
  context.globalAlpha = 1;
  $("maps").replaceChildren(...found.maps.map((map) => raster(map, found.width, found.height, (v) => around((v + 1) / 2))));
});
$("layer").addEventListener("change", look);

async function watch() {
  const status = await ask("/api/status");
  if (status) {
    $("progress").value = status.progress;
    $("network").textContent = status.message;
    $("progress").hidden = status.ready || status.failed;
    if (status.ready) { pen.ready = true; look(); return; }
    $("said").textContent = status.failed ? "It cannot see." : "It is still learning; draw already.";
    if (status.failed) return;
  }
  setTimeout(watch, 400);
}

// Gradient penalties
// -----------------------------------------------------------------------------

const session = `${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`;
const play = { running: false, seen: null, restart: false };
const TOP = { datagrad: 10, spectreg: 1, vat: 10, decay: 10 };
const playForm = $("play-form");
// 0, then four decades up to the top
const weight = (name) => { const t = +playForm.elements[name].value; return t === 0 ? 0 : TOP[name] * 10 ** (4 * (t / 100 - 1)); };
const told = (v) => v === 0 ? "0" : v >= 1 ? v.toFixed(1) : v.toPrecision(2);

function labels() {
  for (const input of playForm.querySelectorAll("input")) {
    const text = input.name === "noise" ? (+input.value).toFixed(2) : told(weight(input.name));
    input.parentElement.querySelector("output").textContent = text;
    input.setAttribute("aria-valuetext", text);
  }
}

async function playStep(steps) {
  const body = { session, steps, seed: 0, data: playForm.elements.data.value, noise: +playForm.elements.noise.value, restart: play.restart };
  for (const name of Object.keys(TOP)) body[name] = weight(name);
  play.restart = false;
  const found = await ask("/api/playground", body);
  if (!found) { pause(); return; }
  play.seen = found;
  drawPlay(found);
  if (!found.alive) pause();
}

function drawPlay(found) {
  const n = found.grid, surface = $("surface"), slope = $("slope"), scale = surface.width / n;
  const [left, low, right, high] = found.box;
  const place = ([x, y]) => [(x - left) / (right - left) * surface.width, (high - y) / (high - low) * surface.height];
  for (const [canvas, values, colour] of [
    [surface, found.surface, sides],
    [slope, found.slope, (v) => heat((Math.log10(Math.max(v, .1)) + 1) / 3)],
  ]) {
    const context = spread(canvas, raster(values, n, n, colour));
    context.lineWidth = 1.6;
    context.strokeStyle = canvas === surface ? "#444" : "rgba(255,255,255,.75)";
    contour(context, found.surface, n, .5, scale);
    for (const point of found.points) {
      context.beginPath();
      context.arc(...place(point), canvas === surface ? 4 : 2, 0, 7);
      context.fillStyle = point[2] ? "#d55e00" : "#0072b2";
      context.fill();
      context.lineWidth = 1;
      context.strokeStyle = "#fff";
      context.stroke();
    }
  }
  const numbers = {
    step: found.steps, loss: found.loss === null ? "–" : found.loss.toFixed(4), "right, training points": `${(100 * found.train).toFixed(1)} %`,
    "right, 400 others": `${(100 * found.test).toFixed(1)} %`, "mean ‖∂f/∂x‖": found.slope_at_test.toFixed(1),
  };
  if (!found.alive) numbers[""] = "diverged: start anew";
  $("play-numbers").innerHTML = Object.entries(numbers).map(([k, v]) => `<div><dt>${k}</dt><dd>${v}</dd></div>`).join("");
}

const playOnce = latest(() => playStep(0));
function pause() {
  play.running = false;
  $("play-run").textContent = "Train";
  $("play-run").setAttribute("aria-pressed", false);
}
$("play-run").addEventListener("click", async () => {
  if (play.running) { pause(); return; }
  play.running = true;
  $("play-run").textContent = "Pause";
  $("play-run").setAttribute("aria-pressed", true);
  while (play.running) { await playStep(10); await new Promise((next) => requestAnimationFrame(next)); }
});
$("play-restart").addEventListener("click", () => { play.restart = true; if (!play.running) playOnce(); });
playForm.addEventListener("input", (event) => {
  labels();
  if (!play.running && ["data", "noise"].includes(event.target.name)) playOnce();
});
playForm.addEventListener("submit", (event) => event.preventDefault());

// The race
// -----------------------------------------------------------------------------

const LINES = ["#e6e6e6", "#f0e442", "#e69f00", "#cc79a7", "#56b4e9", "#ff5b3a", "#1fd6a0"];
const raceForm = $("race-form"), map = $("map");
const run = { found: null, start: null, frame: 0, ticket: 0 };

function raceLabels() {
  const rate = raceForm.elements.rate, steps = raceForm.elements.steps;
  for (const [input, text] of [[rate, (10 ** rate.value).toFixed(2)], [steps, steps.value]]) {
    input.parentElement.querySelector("output").textContent = text;
    input.setAttribute("aria-valuetext", text);
  }
}

const runRace = latest(async () => {
  const body = { surface: raceForm.elements.surface.value, rate: 10 ** raceForm.elements.rate.value, steps: +raceForm.elements.steps.value };
  if (run.start) body.start = run.start;
  const found = await ask("/api/race", body);
  if (!found) return;
  run.found = found;
  run.frame = quiet.matches ? body.steps : 0;
  $("formula").textContent = found.formula;
  const ticket = ++run.ticket;
  (function animate() {
    if (ticket !== run.ticket) return;
    drawRace();
    run.frame += Math.max(1, body.steps / 200);
    if (run.frame <= body.steps + 1) requestAnimationFrame(animate); else { run.frame = body.steps; drawRace(); }
  })();
});

function drawRace() {
  const { found } = run, n = found.grid, [left, low, right, high] = found.box;
  const place = ([x, y]) => [(x - left) / (right - left) * map.width, (high - y) / (high - low) * map.height];
  const bottom = Math.min(...found.heights), top = Math.max(...found.heights);
  const context = spread(map, raster(found.heights, n, n, (v) => depth((v - bottom) / (top - bottom))));
  context.strokeStyle = "rgba(255,255,255,.35)";
  context.lineWidth = 1;
  for (let k = 1; k < 12; k++) contour(context, found.heights, n, bottom + k / 12 * (top - bottom), map.width / n);
  context.font = "16px sans-serif";
  context.textAlign = "center";
  context.fillStyle = "#fff";
  for (const place_ of found.minima) { const [x, y] = place(place_); context.fillText("★", x, y + 6); }
  const names = Object.keys(found.ways);
  names.forEach((name, k) => {
    const points = found.ways[name].points.slice(0, Math.floor(run.frame) + 1).map(place);
    context.beginPath();
    points.forEach((point, i) => (i ? context.lineTo(...point) : context.moveTo(...point)));
    for (const [width, colour] of [[4, "rgba(20,30,45,.55)"], [2, LINES[k]]]) {
      context.lineWidth = width;
      context.strokeStyle = colour;
      context.stroke();
    }
    context.beginPath();
    context.arc(...points[points.length - 1], 5, 0, 7);
    context.fillStyle = LINES[k];
    context.fill();
    context.strokeStyle = "rgba(20,30,45,.8)";
    context.lineWidth = 1.5;
    context.stroke();
  });
  const [x, y] = place(startNow());
  context.strokeStyle = "#fff";
  context.lineWidth = 2.5;
  context.strokeRect(x - 6, y - 6, 12, 12);
  const rows = names.map((name, k) => ({ name, k, ...found.ways[name] })).sort((a, b) => a.height - b.height || a.k - b.k);
  $("table").innerHTML = "<tr><th>optimizer</th><th>rate</th><th>at the end</th></tr>" + rows.map((way) =>
    `<tr><td><b></b>${way.name}</td><td>${way.rate}</td><td>${way.lost ? "left the map" : way.height < 1e-9 ? "0" : way.height.toPrecision(2)}</td></tr>`).join("");
  rows.forEach((way, i) => { $("table").rows[i + 1].querySelector("b").style.background = LINES[way.k] === "#e6e6e6" ? "#9a9a9a" : LINES[way.k]; });
}

const startNow = () => run.start || run.found.start; // where it was put, or the surface's own

function moveStart(x, y) {
  const [left, low, right, high] = run.found.box;
  run.start = [Math.min(right, Math.max(left, x)), Math.min(high, Math.max(low, y))].map((v) => Math.round(v * 1e4) / 1e4);
}
map.addEventListener("click", (event) => {
  if (!run.found) return;
  const box = map.getBoundingClientRect(), [left, low, right, high] = run.found.box;
  moveStart(left + (event.clientX - box.left) / box.width * (right - left), high - (event.clientY - box.top) / box.height * (high - low));
  runRace();
});
map.addEventListener("keydown", (event) => {
  if (!run.found) return;
  const [left, low, right, high] = run.found.box;
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
  if (step) { const [x, y] = startNow(); moveStart(x + step[0] * (right - left) / 32, y + step[1] * (high - low) / 32); run.ticket++; drawRace(); }
  else if (event.key === "Enter" || event.key === " ") runRace();
  else return;
  event.preventDefault();
});
$("race-run").addEventListener("click", runRace);
raceForm.addEventListener("input", (event) => {
  raceLabels();
  if (event.target.name === "surface") { run.start = null; runRace(); }
});
raceForm.addEventListener("change", (event) => { if (event.target.type === "range") runRace(); });
raceForm.addEventListener("submit", (event) => event.preventDefault());

labels();
raceLabels();
paint();
watch();
if (location.hash && $(`tab-${location.hash.slice(1)}`)) choose($(`tab-${location.hash.slice(1)}`));
