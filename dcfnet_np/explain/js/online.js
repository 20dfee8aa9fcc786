// Section 9: the tracker on the clip, its numerator and denominator over time, and how far back a
// gradient reaches.

import { drawFrame, drawMap, drawPatch, drawShares, extent, showMap } from "./draw.js";
import { engine } from "./engine.js";
import { $, N, clip, data, label, norm, number, paint, percent } from "./state.js";

const ZOOM = 63; // of a spectrum, the band with a little around it
export const steps = []; // result of every frame so far
let running = false;

const beta = () => 10 ** Number($("beta").value);
const atEnd = () => steps.at(-1)?.frame + 1 >= clip.frames.length;

function overlap(a, b) {
  const end = (box, k) => box[k] + box[k + 2];
  const [w, h] = [0, 1].map((k) => Math.min(end(a, k), end(b, k)) - Math.max(a[k], b[k]));
  const common = Math.max(w, 0) * Math.max(h, 0);
  return common / (a[2] * a[3] + b[2] * b[3] - common);
}

function showTracking() {
  $("beta-value").textContent = number(beta(), 2);
  const now = steps.at(-1);
  if (!now) return;
  const { frame, box, response } = now, theirs = data.boxes[frame];
  const words = `Frame ${frame + 1} of ${clip.frames.length}: box ` +
    box.map((side) => side.toFixed(1)).join(", ") +
    (response ? `, score ${now.score.toFixed(3)}` : "") +
    `; overlap with the library’s box ${percent(overlap(box, theirs))}.`;
  paint($("track-frame"), () => drawFrame($("track-frame"), clip.bitmaps[frame], [
    { box, ink: "a" }, { box: theirs, dash: [3, 6], width: 2 }]));
  for (const name of ["denominator", "filter"]) {
    showMap(`track-${name}`, now[name], `The ${name} by frequency`, { kind: "log", decades: 6 });
  }
  const map = response ?? new Float64Array(N * N);
  showMap("track-response", map, "Response; none in the first frame", { rolled: true });
  $("track-text").textContent = words;
  label("track-frame", words);
  $("track-step").disabled = atEnd();
}

/** How the gradient of the newest response is shared out. */
function showReach(shares) {
  const words = shares.length ? `The first template has ${percent(shares[0])} of the gradient, ` +
    `the newest ${percent(shares.at(-1))}.` : "None before there is a response.";
  paint($("reach"), () => drawShares($("reach"), shares));
  $("reach-text").textContent = words;
  label("reach", `Shares of the gradient by template. ${words}`);
}

const askReach = () => engine("tracking").latest(showReach, "trackReach", beta());

/** The middle of a spectrum. */
function zoomed(map) {
  const first = (N - ZOOM) >> 1, row = (i) => first + Math.floor(i / ZOOM);
  return Float64Array.from({ length: ZOOM * ZOOM }, (_, i) => map[row(i) * N + first + (i % ZOOM)]);
}

/** One column of Fig. 2. */
function addColumn(now) {
  const column = document.createElement("div"), first = steps[0];
  const change = (name) => percent(
    norm(now[name].map((value, i) => value - first[name][i])) / norm(first[name]));
  column.innerHTML = '<canvas width="76" height="76" aria-hidden="true"></canvas>'.repeat(3) +
    `<span>frame ${now.frame + 1}<br>${change("numerator")}<br>${change("denominator")}</span>`;
  drawPatch(column.children[0], now.patch);
  for (const [k, name] of ["numerator", "denominator"].entries()) {
    const range = [0, extent(first[name])[1]];
    drawMap(column.children[1 + k], zoomed(now[name]), { kind: "log", decades: 6, range });
  }
  $("film").append(column);
  $("film").scrollLeft = $("film").scrollWidth;
}

function add(now) {
  if (now.frame !== steps.length) return; // started over meanwhile
  steps.push(now);
  addColumn(now);
  showTracking();
  askReach();
}

async function startOver() {
  running = false;
  steps.length = 0;
  $("film").textContent = "";
  add(await engine("tracking").call("trackStart"));
}

async function step() {
  if (atEnd()) running = false;
  else add(await engine("tracking").call("trackStep", beta()));
}

async function play() {
  const wanted = !running;
  if (wanted && atEnd()) await startOver();
  running = wanted;
  $("play").textContent = running ? "Pause" : "Play";
  while (running) await step();
  $("play").textContent = "Play";
}

export function startTracking() {
  $("play").addEventListener("click", play);
  $("track-step").addEventListener("click", step);
  $("track-reset").addEventListener("click", startOver);
  $("beta").addEventListener("input", () => { showTracking(); if (steps.length) askReach(); });
  showTracking();
  paint($("online"), () => steps.length || startOver());
}
