// What the sections share: the data of the page, its settings, and small helpers.

import { LAYERS, PRESET } from "./constants.js";

export const $ = (id) => document.getElementById(id);
export const label = (id, text) => $(id).setAttribute("aria-label", text);
export const data = JSON.parse($("data").textContent);
export const N = PRESET.input_size; // pixels of a map
export const D = LAYERS.b2; // channels
export const middle = [data.box[0] + data.box[2] / 2, data.box[1] + data.box[3] / 2];
export const clip = { frames: [], bitmaps: [] }; // frames: { rgba, width, height }, for the workers
export const DEFAULTS = { frame: data.frame, centre: middle, padding: PRESET.padding, channel: 0,
                          sigmaFactor: PRESET.sigma_factor, lambda: PRESET.lam, band: null };
export const settings = structuredClone(DEFAULTS);
export const view = { latest: null }; // the newest result of `forward`

export async function decodeFrames() {
  for (const address of data.frames) {
    const image = new Image();
    image.src = address;
    await image.decode();
    const canvas = document.createElement("canvas");
    const { naturalWidth: width, naturalHeight: height } = image;
    Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    clip.frames.push({ rgba: context.getImageData(0, 0, width, height).data, width, height });
    clip.bitmaps.push(canvas);
  }
}

export function fail(message) {
  $("failed").textContent = `Something went wrong: ${message}`;
  $("failed").hidden = false;
  console.error(message);
}

/** 0.0123 as "0.0123", 12345 as "12,300", 1e-7 as "1 × 10⁻⁷". */
export function number(value, digits = 3) {
  const size = Math.abs(value);
  if (size === 0 || (size >= 1e-3 && size < 1e6)) {
    return Number(value.toPrecision(digits)).toLocaleString("en").replace("-", "−");
  }
  const [front, power] = value.toExponential(digits - 1).split("e");
  const raised = power.replace(/./g, (sign) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[sign] ?? (sign === "-" ? "⁻" : ""));
  return `${Number(front)} × 10${raised}`.replace("-", "−");
}

export const signed = (value, digits = 1) =>
  (value < 0 ? "−" : "+") + Math.abs(value).toFixed(digits);
export const percent = (value) => `${number(100 * value, 2)} %`;
export const norm = (x) => Math.sqrt(x.reduce((sum, value) => sum + value * value, 0));
export const chosen = (name) => document.querySelector(`#${name} input:checked`).value;

const draws = new Map(), visible = new Set(), waiting = new Set();
const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting) visible.add(target); else visible.delete(target);
    if (isIntersecting && waiting.delete(target)) draws.get(target)();
  }
}, { rootMargin: "100px" });

/** Call `draw` now where the element is in sight, and otherwise when it comes: the newest only. */
export function paint(element, draw) {
  draws.set(element, draw);
  if (visible.has(element)) { draw(); return; }
  waiting.add(element);
  watcher.observe(element);
}

/** Draw all again, for new colours. */
export const redraw = () => { for (const [element, draw] of draws) paint(element, draw); };

/** Dragging and arrow keys on a canvas: `move(point, kind)` with the point in [0, 1] x [0, 1] and
 *  kind "press" or "drag", `step([dx, dy])` for an arrow key (Shift: ten steps), `enter()` for
 *  Enter or Space. */
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
