// Section 9: the tracker on the clip, and its numerator and denominator over time.

import { colour, drawCross, drawFrame, drawMap, drawPatch, extent } from "./draw.js";
import { range } from "./forward.js";
import { $, N, clip, data, engine, number, percent, whenNear } from "./state.js";

export const steps = []; // result of every frame so far
let running = false;

const beta = () => 10 ** Number($("beta").value);

function overlap(a, b) {
  const side = (k) => Math.max(0, Math.min(a[k] + a[k + 2], b[k] + b[k + 2]) - Math.max(a[k], b[k]));
  const common = side(0) * side(1);
  return common / (a[2] * a[3] + b[2] * b[3] - common);
}

/** |now - first| / |first| */
function change(now, first) {
  let difference = 0, total = 0;
  now.forEach((value, i) => { difference += (value - first[i]) ** 2; total += first[i] ** 2; });
  return Math.sqrt(difference / total);
}

export function showTracking() {
  $("beta-value").textContent = number(beta(), 2);
  const now = steps.at(-1);
  if (!now) return;
  const theirs = data.boxes[now.frame];
  drawFrame($("track-frame"), clip.bitmaps[now.frame], [{ box: now.box, colour: colour("a") }, { box: theirs, colour: "#ffffff", dash: [3, 6], width: 2 }]);
  range("track-denominator", drawMap($("track-denominator"), now.denominator, { kind: "log", decades: 6 }));
  $("track-denominator").setAttribute("aria-label", "Denominator of the filter by frequency");
  range("track-filter", drawMap($("track-filter"), now.filter, { kind: "log", decades: 5 }));
  if (now.response) {
    range("track-response", drawMap($("track-response"), now.response, { rolled: true }));
  } else {
    $("track-response").getContext("2d").clearRect(0, 0, 250, 250);
    $("track-response-range").textContent = "from the second frame on";
  }
  const words = `Frame ${now.frame + 1} of ${clip.frames.length}: box ${now.box.map((side) => side.toFixed(1)).join(", ")}` +
    (now.response ? `, score ${now.score.toFixed(3)}` : "") + `; overlap with the library’s box ${percent(overlap(now.box, theirs))}.`;
  $("track-text").textContent = words;
  $("track-frame").setAttribute("aria-label", words);
  $("track-response").setAttribute("aria-label", now.response ? `Response, score ${now.score.toFixed(3)}` : "No response yet");
  $("track-filter").setAttribute("aria-label", "Magnitude of the filter by frequency");
  $("track-step").disabled = now.frame + 1 >= clip.frames.length;
}

const ZOOM = 63;
/** The middle of a spectrum, the band with a little around it. */
function middleOf(map) {
  const first = (N - ZOOM) >> 1;
  return Float32Array.from({ length: ZOOM * ZOOM }, (_, i) => map[(first + Math.floor(i / ZOOM)) * N + first + (i % ZOOM)]);
}

/** One column of Fig. 2. */
function addColumn(now) {
  const column = document.createElement("div"), first = steps[0];
  column.innerHTML = '<canvas width="76" height="76"></canvas>'.repeat(3);
  const [patch, numerator, denominator] = column.children;
  drawPatch(patch, now.patch);
  for (const [canvas, name] of [[numerator, "numerator"], [denominator, "denominator"]]) {
    drawMap(canvas, middleOf(now[name]), { kind: "log", decades: 6, range: [0, extent(first[name])[1]], n: ZOOM });
    canvas.setAttribute("aria-hidden", "true");
  }
  patch.setAttribute("aria-hidden", "true");
  const text = document.createElement("span");
  text.innerHTML = `frame ${now.frame + 1}<br>${percent(change(now.numerator, first.numerator))}<br>${percent(change(now.denominator, first.denominator))}`;
  column.append(text);
  $("film").append(column);
  $("film").scrollLeft = $("film").scrollWidth;
}

async function startOver() {
  running = false;
  const now = await engine("tracking").call("trackStart");
  steps.length = 0;
  steps.push(now);
  $("film").textContent = "";
  addColumn(now);
  showTracking();
}

async function step() {
  if (!steps.length) await startOver();
  if (steps.at(-1).frame + 1 >= clip.frames.length) { running = false; return; }
  const now = await engine("tracking").call("trackStep", null, { beta: beta() });
  if (now.frame !== steps.length) return; // started over meanwhile
  steps.push(now);
  addColumn(now);
  showTracking();
}

async function play() {
  running = !running;
  if (running && steps.length === clip.frames.length) { await startOver(); running = true; }
  $("play").textContent = running ? "Pause" : "Play";
  while (running) await step();
  $("play").textContent = "Play";
}

export function startTracking() {
  $("play").addEventListener("click", play);
  $("track-step").addEventListener("click", step);
  $("track-reset").addEventListener("click", startOver);
  $("beta").addEventListener("input", showTracking);
  showTracking();
  whenNear("online", startOver);
}
