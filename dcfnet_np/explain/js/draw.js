// Pictures of maps.  A map is (n, n) numbers; it is drawn pixel by pixel, scaled up without
// smoothing.

import { sideOf } from "./conv.js";
import { $, N, label, number, paint } from "./state.js";

// Dark to light, even steps of lightness, safe for the colour-blind; and blue - paper - red for
// signed maps.
const HEAT = [[12, 8, 38], [54, 15, 91], [112, 29, 109], [170, 45, 93], [221, 81, 58],
              [249, 142, 8], [246, 215, 70], [252, 255, 164]];
const SIGNED = [[20, 60, 150], [110, 160, 225], [250, 249, 247], [235, 140, 110], [165, 20, 30]];
const SIGNED_DARK = [[130, 190, 255], [50, 95, 180], [28, 32, 37], [190, 70, 50], [255, 170, 130]];
export const DARK = matchMedia("(prefers-color-scheme: dark)");

/** 256 steps from colour to colour, [red, green, blue]. */
function table(colours) {
  const steps = colours.length - 1;
  return Array.from({ length: 256 }, (_, i) => {
    const at = (i / 255) * steps, k = Math.min(Math.floor(at), steps - 1), t = at - k;
    return colours[k].map((value, c) => Math.round(value + t * (colours[k + 1][c] - value)));
  });
}

/** A colour as a pixel of an ImageData, one number. */
const pixel = ([red, green, blue]) => (255 << 24) | (blue << 16) | (green << 8) | red;
const heat = table(HEAT), heatPixels = heat.map(pixel);
const [light, dark] = [SIGNED, SIGNED_DARK].map((colours) => table(colours).map(pixel));

const limited = (value, low, high) => Math.min(Math.max(value, low), high);
export const colour = (name) =>
  getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

export function extent(map) {
  let low = Infinity, high = -Infinity;
  for (let i = 0; i < map.length; i++) {
    if (map[i] < low) low = map[i];
    if (map[i] > high) high = map[i];
  }
  return [low, high];
}

const small = document.createElement("canvas");
/** Fill the canvas with n x n pixels, each one number. */
function fill(canvas, n, pixels) {
  const image = new ImageData(new Uint8ClampedArray(pixels.buffer), n);
  if (small.width !== n) small.width = small.height = n;
  small.getContext("2d").putImageData(image, 0, 0);
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
}

/** kind: none (low to high), "signed" (zero in the middle of the colours) or "log" (magnitudes,
 *  `decades` of them).  rolled: index 0 goes to the middle.  range: [low, high] instead of the
 *  map's own.  cross: [row, column] of a mark; band: K of a frame around |u|, |v| <= K.  Returns
 *  the range drawn. */
export function drawMap(canvas, map, { kind, rolled, range, decades = 7, cross, band } = {}) {
  const n = sideOf(map), half = rolled ? (n + 1) >> 1 : 0;
  let [low, high] = range ?? extent(map), heights = map, colours = heatPixels;
  if (kind === "signed") {
    colours = DARK.matches ? dark : light;
    high = Math.max(Math.abs(low), Math.abs(high)) || 1;
    low = -high;
  }
  const shown = [kind === "log" ? high / 10 ** decades : low, high];
  if (kind === "log") {
    heights = map.map((value) => Math.log10(Math.max(value, 1e-300)));
    [low, high] = [Math.log10(high) - decades, Math.log10(high)];
  }
  const scale = 255 / (high - low || 1);
  const order = Array.from({ length: n }, (_, i) => (i + half) % n);
  const levels = new Uint8ClampedArray(n * n), pixels = new Uint32Array(n * n);
  for (let i = 0; i < n * n; i++) levels[i] = (heights[i] - low) * scale;
  let p = 0;
  for (const r of order) for (const s of order) pixels[p++] = colours[levels[r * n + s]];
  fill(canvas, n, pixels);
  if (cross) drawCross(canvas, cross, n);
  if (band) {
    const side = canvas.width / n, first = ((n >> 1) - band) * side + 1;
    const context = canvas.getContext("2d"), wide = (2 * band + 1) * side - 2;
    Object.assign(context, { lineWidth: 2, strokeStyle: "#ffffff" });
    context.strokeRect(first, first, wide, wide);
  }
  return shown;
}

/** `drawMap` once the map is in sight, its range below it, and words for who cannot see it. */
export function showMap(id, map, words, options) {
  label(id, words);
  paint($(id), () => {
    const [low, high] = drawMap($(id), map, options);
    $(`${id}-range`).textContent = `${number(low, 2)} to ${number(high, 2)}`;
  });
}

/** patch: blue, green, red, 0..255. */
export function drawPatch(canvas, [blue, green, red], cross) {
  const pixels = new Uint32Array(red.length);
  for (let i = 0; i < red.length; i++) pixels[i] = pixel([red[i], green[i], blue[i]]);
  fill(canvas, N, pixels);
  if (cross) drawCross(canvas, cross, N, colour("a"));
}

function drawCross(canvas, [row, column], n, ink = "#ffffff") {
  const context = canvas.getContext("2d"), side = canvas.width / n;
  const x = (column + 0.5) * side, y = (row + 0.5) * side;
  for (const [lineWidth, strokeStyle] of [[5, "rgb(0 0 0 / .75)"], [2.2, ink]]) {
    Object.assign(context, { lineWidth, strokeStyle });
    context.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      context.moveTo(x + 5 * dx, y + 5 * dy);
      context.lineTo(x + 16 * dx, y + 16 * dy);
    }
    context.stroke();
  }
}

/** A frame with boxes: [{ box: [x, y, w, h], ink, dash, width }]; ink: a colour's name. */
export function drawFrame(canvas, bitmap, boxes) {
  const factor = Math.max(2, Math.round(600 / bitmap.width));
  Object.assign(canvas, { width: bitmap.width * factor, height: bitmap.height * factor });
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  for (const { box, ink, dash = [], width = 3 } of boxes) {
    const styles = [[width + 2.5, "rgb(0 0 0 / .55)"], [width, ink ? colour(ink) : "#ffffff"]];
    context.setLineDash(dash);
    for (const [lineWidth, strokeStyle] of styles) {
      Object.assign(context, { lineWidth, strokeStyle });
      context.strokeRect(...box.map((value) => value * factor));
    }
  }
}

/** A rolled map as a landscape, seen from a corner: every second pixel, far rows first.  ground:
 *  the colour behind it. */
export function drawSurface(canvas, map, [low, high], ground = "card") {
  const { width, height } = canvas, n = sideOf(map), count = (n + 1) >> 1, tall = 0.62;
  const turn = 0.6, tilt = 0.95, size = Math.min(0.68 * width, 0.88 * height);
  const points = Array.from({ length: count * count }, (_, k) => {
    const r = 2 * Math.floor(k / count), s = 2 * (k % count);
    const x = s / (n - 1) - 0.5, y = r / (n - 1) - 0.5;
    const z = (map[((r + count) % n) * n + ((s + count) % n)] - low) / (high - low || 1);
    const down = (x * Math.sin(turn) + y * Math.cos(turn)) * Math.cos(tilt);
    return { x: width / 2 + size * (x * Math.cos(turn) - y * Math.sin(turn)),
             y: height * 0.62 + size * (down - z * tall * Math.sin(tilt)), z };
  });
  const context = canvas.getContext("2d");
  context.fillStyle = colour(ground);
  context.fillRect(0, 0, width, height);
  for (let r = 0; r < count - 1; r++) for (let s = 0; s < count - 1; s++) {
    const k = r * count + s, corners = [k, k + 1, k + count + 1, k + count].map((i) => points[i]);
    const middle = corners.reduce((sum, { z }) => sum + z, 0) / 4;
    context.fillStyle = context.strokeStyle = shade(middle, corners[0].z - corners[2].z);
    context.beginPath();
    for (const { x, y } of corners) context.lineTo(x, y);
    context.closePath();
    context.fill();
    context.stroke();
  }
}

/** Colour of the landscape at a height in [0, 1], lighter on slopes towards the light. */
function shade(height, slope) {
  const brightness = limited(0.957 + 2.2 * slope, 0.6, 1.25);
  const rgb = heat[limited(Math.round(30 + 225 * height), 0, 255)];
  return `rgb(${rgb.map((value) => Math.round(value * brightness)).join()})`;
}

/** The filters of the first layer, (32, 3, 3, 3), in colour, and below their change. */
export function drawKernels(canvas, kernels, before) {
  const context = canvas.getContext("2d"), across = 16, cell = canvas.width / across;
  const side = (cell - 6) / 3, change = kernels.map((value, i) => value - before[i]);
  context.clearRect(0, 0, canvas.width, canvas.height);
  [kernels, change].forEach((values, block) => {
    const largest = Math.max(...values.map(Math.abs)) || 1;
    for (let o = 0; o < values.length / 27; o++) for (let p = 0; p < 9; p++) {
      const rgb = [2, 1, 0].map((c) => 128 + (127 * values[o * 27 + c * 9 + p]) / largest);
      const top = Math.floor(o / across) * cell + block * (2 * cell + 10);
      context.fillStyle = `rgb(${rgb.map(Math.round).join()})`;
      context.fillRect((o % across) * cell + (p % 3) * side, top + Math.floor(p / 3) * side,
                       Math.ceil(side), Math.ceil(side));
    }
  });
}

/** Losses over steps as dots, and the mean of the last ten as a line. */
export function drawCurve(canvas, losses) {
  const context = canvas.getContext("2d"), { width, height } = canvas;
  const left = 46, bottom = height - 26, right = width - 8, steps = Math.max(20, losses.length);
  const top = Math.max(1, ...losses) * 1.05, x = (i) => left + ((right - left) * (i + 0.5)) / steps;
  const y = (value) => bottom - ((bottom - 10) * value) / top;
  const line = (points, strokeStyle, lineWidth) => {
    Object.assign(context, { strokeStyle, lineWidth });
    context.beginPath();
    for (const point of points) context.lineTo(...point);
    context.stroke();
  };
  context.clearRect(0, 0, width, height);
  const fillStyle = colour("faint");
  Object.assign(context, { font: "13px system-ui", fillStyle, textAlign: "right" });
  for (const value of [0, 1, 2, 3, 4].map((i) => (top * i) / 4)) {
    context.fillText(number(value, 2), left - 8, y(value) + 4);
    line([[left, y(value)], [right, y(value)]], colour("line"), 1);
  }
  context.fillText(`step ${steps}`, right, height - 4);
  context.fillStyle = colour("a");
  losses.forEach((value, i) => context.fillRect(x(i) - 2, y(value) - 2, 5, 5));
  const means = losses.map((_, i) => {
    const last = losses.slice(Math.max(0, i - 9), i + 1);
    return [x(i), y(last.reduce((a, b) => a + b) / last.length)];
  });
  line(means, colour("accent"), 2.5);
}

/** Shares of 1 as bars, one for each frame. */
export function drawShares(canvas, shares) {
  const context = canvas.getContext("2d"), { width, height } = canvas, bottom = height - 22;
  const count = Math.max(20, shares.length), step = width / count;
  context.clearRect(0, 0, width, height);
  Object.assign(context, { font: "13px system-ui", fillStyle: colour("faint"), textAlign: "left" });
  context.fillText("template of frame 1", 0, height - 5);
  context.fillStyle = colour("accent");
  shares.forEach((share, t) => {
    const high = Math.max(1, (bottom - 4) * share);
    context.fillRect(t * step + 1, bottom - high, step - 2, high);
  });
}
