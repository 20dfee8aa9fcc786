// What the sections share: the data of the page, its settings, the engines, and small helpers.

import { LAYERS, PRESET } from "./constants.js";
import { Engine } from "./engine.js";

export const N = PRESET.input_size;
export const D = LAYERS.b2; // channels
export const $ = (id) => document.getElementById(id);
export const data = JSON.parse($("data").textContent);

export const clip = { frames: [], bitmaps: [] }; // frames: { rgba, width, height }, for the workers
export const middle = [data.box[0] + data.box[2] / 2, data.box[1] + data.box[3] / 2];
export const DEFAULTS = { frame: data.frame, centre: middle, padding: PRESET.padding, sigmaFactor: PRESET.sigma_factor,
                          lambda: PRESET.lam, band: null };
export const settings = structuredClone(DEFAULTS);
export const view = { channel: 0, latest: null }; // picked channel; newest result of `forward`

function floats(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return Float64Array.from(new Float32Array(bytes.buffer));
}

function parameters(base64) {
  const all = floats(base64), named = {};
  let first = 0;
  for (const [name, length] of Object.entries(LAYERS)) named[name] = all.slice(first, (first += length));
  return named;
}

export async function decodeFrames() {
  for (const address of data.frames) {
    const image = new Image();
    image.src = address;
    await image.decode();
    const canvas = document.createElement("canvas"), width = image.naturalWidth, height = image.naturalHeight;
    Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    clip.frames.push({ rgba: context.getImageData(0, 0, width, height).data, width, height });
    clip.bitmaps.push(canvas);
  }
}

const engines = new Map();
/** An experiment of its own, in a worker of its own, made when first asked for. */
export function engine(name) {
  if (!engines.has(name)) {
    const { box, boxes, mean } = data, { frames } = clip;
    const start = { frames, box, boxes, mean, weights: parameters(data.weights), random: parameters(data.random) };
    engines.set(name, new Engine(start, fail));
  }
  return engines.get(name);
}
export const idle = () => [...engines.values()].every((one) => one.idle);

export function fail(message) {
  $("failed").textContent = `Something went wrong: ${message}`;
  $("failed").hidden = false;
  console.error(message);
}

/** 0.0123 as "0.0123", 12345 as "12,300", 1e-7 as "1 × 10⁻⁷". */
export function number(value, digits = 3) {
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) {
    const [front, power] = value.toExponential(digits - 1).split("e");
    return `${Number(front)} × 10${Number(power) < 0 ? "⁻" : ""}${[...power.slice(1)].map((d) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[d]).join("")}`.replace("-", "−");
  }
  return Number(value.toPrecision(digits)).toLocaleString("en").replace("-", "−");
}

export const signed = (value, digits = 1) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(digits);
export const percent = (value) => `${number(100 * value, 2)} %`;

/** Runs `show` when the section comes near the screen for the first time. */
export function whenNear(id, show) {
  const observer = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    show();
  }, { rootMargin: "400px" });
  observer.observe($(id));
}

const visible = new Set(), unpainted = new Map();
const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) { visible.delete(target); continue; }
    visible.add(target);
    unpainted.get(target)?.();
    unpainted.delete(target);
  }
}, { rootMargin: "100px" });

/** Call `paint` now where the element is in sight, and otherwise when it comes: the newest one only. */
export function whenSeen(element, paint) {
  if (visible.has(element)) { paint(); return; }
  unpainted.set(element, paint);
  watcher.observe(element);
}

/** Dragging and arrow keys on a canvas: `move(point, kind)` with the point in [0, 1] x [0, 1] and kind "press" or
 *  "drag", `step([dx, dy])` for an arrow key (Shift: ten steps), `enter()` for Enter or Space. */
export function pointer(canvas, { move, step, enter }) {
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    move(at(event), "press");
  });
  canvas.addEventListener("pointermove", (event) => {
    if (canvas.hasPointerCapture(event.pointerId)) move(at(event), "drag");
  });
  canvas.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const found = steps[event.key], times = event.shiftKey ? 10 : 1;
    if (found) step(found.map((d) => d * times));
    else if (enter && (event.key === "Enter" || event.key === " ")) enter();
    else return;
    event.preventDefault();
  });
}
