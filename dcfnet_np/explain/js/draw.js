// Pictures of maps.  A map is (n, n) numbers; it is drawn pixel by pixel, scaled up without
// smoothing.

import { PRESET } from "./constants.js";

// Dark to light, even steps of lightness, safe for the colour-blind; and blue - paper - red for
// signed maps.
const HEAT = [[12, 8, 38], [54, 15, 91], [112, 29, 109], [170, 45, 93], [221, 81, 58], [249, 142, 8], [246, 215, 70], [252, 255, 164]];
const DARK = matchMedia("(prefers-color-scheme: dark)");

/** 256 steps from colour to colour, [red, green, blue]. */
function table(colours) {
  const steps = colours.length - 1;
  return Array.from({ length: 256 }, (_, i) => {
    const at = (i / 255) * steps, k = Math.min(Math.floor(at), steps - 1), t = at - k;
    return colours[k].map((value, c) => Math.round(value + t * (colours[k + 1][c] - value)));
  });
}

/** The same as pixels of an ImageData, one number each. */
const pixelsOf = (colours) => new Uint32Array(Uint8ClampedArray.from(colours.flatMap((rgb) => [...rgb, 255])).buffer);

const heat = table(HEAT), heatPixels = pixelsOf(heat);
const signedLight = pixelsOf(table([[20, 60, 150], [110, 160, 225], [250, 249, 247], [235, 140, 110], [165, 20, 30]]));
const signedDark = pixelsOf(table([[130, 190, 255], [50, 95, 180], [28, 32, 37], [190, 70, 50], [255, 170, 130]]));

export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
export const onThemeChange = (redraw) => DARK.addEventListener("change", redraw);

const buffers = new Map();
function buffer(width, height) {
  const key = `${width}x${height}`;
  if (!buffers.has(key)) {
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    const image = context.createImageData(width, height);
    buffers.set(key, { canvas, context, image, pixels: new Uint32Array(image.data.buffer) });
  }
  return buffers.get(key);
}

function paint(canvas, { canvas: small, context: from, image }) {
  const context = canvas.getContext("2d");
  if (canvas.width === image.width && canvas.height === image.height) { context.putImageData(image, 0, 0); return; }
  from.putImageData(image, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
}

export function extent(map) {
  let low = Infinity, high = -Infinity;
  for (const value of map) { if (value < low) low = value; if (value > high) high = value; }
  return [low, high];
}

/** kind: "heat" (low to high), "signed" (zero in the middle of the colours) or "log" (magnitudes, `decades` of them).
 *  rolled: index 0 goes to the middle.  range: [low, high] instead of the map's own.  Returns the range drawn. */
export function drawMap(canvas, map, { kind = "heat", rolled = false, range, decades = 7, n = PRESET.input_size } = {}) {
  const target = buffer(n, n), { pixels } = target, half = rolled ? (n + 1) >> 1 : 0;
  const colours = kind === "signed" ? (DARK.matches ? signedDark : signedLight) : heatPixels;
  let [low, high] = range ?? extent(map);
  if (kind === "signed") { high = Math.max(Math.abs(low), Math.abs(high)) || 1; low = -high; }
  const shown = [low, high];
  if (kind === "log") {
    map = map.map((value) => Math.log10(Math.max(value, 1e-300)));
    high = Math.log10(Math.max(high, 1e-300));
    low = high - decades;
    shown[0] = 10 ** low;
  }
  const scale = 255 / (high - low || 1);
  for (let r = 0; r < n; r++) for (let s = 0; s < n; s++) {
    const value = map[((r + half) % n) * n + (s < n - half ? s + half : s + half - n)];
    pixels[r * n + s] = colours[Math.min(255, Math.max(0, Math.round((value - low) * scale)))];
  }
  paint(canvas, target);
  return shown;
}

/** patch: (3, n, n) BGR, 0..255. */
export function drawPatch(canvas, patch, n = PRESET.input_size) {
  const target = buffer(n, n), pixels = target.image.data;
  for (let p = 0; p < n * n; p++) {
    for (let c = 0; c < 3; c++) pixels[p * 4 + 2 - c] = patch[c * n * n + p];
    pixels[p * 4 + 3] = 255;
  }
  paint(canvas, target);
}

/** A cross at a map's row and column, as large as the canvas. */
export function drawCross(canvas, row, column, style = "#ffffff", n = PRESET.input_size) {
  const context = canvas.getContext("2d"), x = ((column + 0.5) * canvas.width) / n, y = ((row + 0.5) * canvas.height) / n;
  for (const [width, ink] of [[5, "rgb(0 0 0 / .75)"], [2.2, style]]) {
    context.lineWidth = width;
    context.strokeStyle = ink;
    context.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      context.moveTo(x + 5 * dx, y + 5 * dy);
      context.lineTo(x + 16 * dx, y + 16 * dy);
    }
    context.stroke();
  }
}

/** The band |u|, |v| <= K of a spectrum whose frequency zero is in the middle. */
export function drawSquare(canvas, K, n = PRESET.input_size) {
  const context = canvas.getContext("2d"), scale = canvas.width / n, first = ((n >> 1) - K) * scale;
  context.lineWidth = 2;
  context.strokeStyle = "#ffffff";
  context.strokeRect(first + 1, first + 1, (2 * K + 1) * scale - 2, (2 * K + 1) * scale - 2);
}

/** A frame with boxes: [{ box: [x, y, w, h], colour, dash }].  The canvas is three times the frame. */
export function drawFrame(canvas, bitmap, boxes) {
  const factor = Math.max(2, Math.round(600 / bitmap.width));
  if (canvas.width !== bitmap.width * factor) Object.assign(canvas, { width: bitmap.width * factor, height: bitmap.height * factor });
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  for (const { box: [x, y, w, h], colour: ink, dash = [], width = 3 } of boxes) {
    for (const [line, style] of [[width + 2.5, "rgb(0 0 0 / .55)"], [width, ink]]) {
      context.lineWidth = line;
      context.strokeStyle = style;
      context.setLineDash(dash);
      context.strokeRect(x * factor, y * factor, w * factor, h * factor);
    }
  }
  context.setLineDash([]);
}

/** The map as a landscape: every second or third pixel, far rows first.  turn, tilt in radians. */
export function drawSurface(canvas, map, { rolled = true, range, turn = 0.6, tilt = 0.95, n = PRESET.input_size, step = 2, ground = "card" } = {}) {
  const context = canvas.getContext("2d"), { width, height } = canvas, half = rolled ? (n + 1) >> 1 : 0;
  const [low, high] = range ?? extent(map), count = Math.ceil(n / step), tall = 0.62;
  const at = (i) => Math.min(i * step, n - 1);
  const sin = Math.sin(turn), cos = Math.cos(turn), flat = Math.cos(tilt), up = Math.sin(tilt);
  const size = Math.min(0.68 * width, 0.88 * height); // of the square that is seen from above
  const xs = new Float64Array(count * count), ys = new Float64Array(count * count), zs = new Float64Array(count * count);
  for (let i = 0; i < count; i++) for (let j = 0; j < count; j++) {
    const r = at(i), s = at(j), value = (map[((r + half) % n) * n + ((s + half) % n)] - low) / (high - low || 1);
    const x = s / (n - 1) - 0.5, y = r / (n - 1) - 0.5, k = i * count + j;
    xs[k] = width / 2 + size * (x * cos - y * sin);
    ys[k] = height * 0.62 + size * ((x * sin + y * cos) * flat - value * tall * up);
    zs[k] = value;
  }
  context.fillStyle = colour(ground);
  context.fillRect(0, 0, width, height);
  // Far quads first: the order of rows and of columns follows from the turn.
  const rows = [...Array(count - 1).keys()], columns = [...Array(count - 1).keys()];
  if (cos < 0) rows.reverse();
  if (sin < 0) columns.reverse();
  const outer = Math.abs(cos) > Math.abs(sin) ? rows : columns, byRow = outer === rows, inner = byRow ? columns : rows;
  let ink = null; // neighbours of one colour are one path
  const finish = () => { context.fill(); context.stroke(); };
  for (const a of outer) for (const b of inner) {
    const k = byRow ? a * count + b : b * count + a, l = k + count;
    const wanted = shade((zs[k] + zs[k + 1] + zs[l] + zs[l + 1]) / 4, zs[k] - zs[l + 1]);
    if (wanted !== ink) {
      if (ink) finish();
      context.beginPath();
      context.fillStyle = context.strokeStyle = ink = wanted;
    }
    context.moveTo(xs[k], ys[k]);
    context.lineTo(xs[k + 1], ys[k + 1]);
    context.lineTo(xs[l + 1], ys[l + 1]);
    context.lineTo(xs[l], ys[l]);
    context.closePath();
  }
  finish();
}

const shades = new Map();
/** Colour of the landscape at a height in [0, 1], lighter on slopes towards the light; in 128 times 32 steps. */
function shade(height, slope) {
  const step = Math.min(127, Math.max(0, Math.round((30 + 225 * height) / 2)));
  const light = Math.min(31, Math.max(0, Math.round(17 + 105 * slope))), key = step * 32 + light;
  if (!shades.has(key)) shades.set(key, `rgb(${heat[2 * step].map((value) => Math.round(value * (0.6 + 0.021 * light))).join()})`);
  return shades.get(key);
}

/** The filters of the first layer, (32, 3, 3, 3), in colour, and below what has changed since `before`. */
export function drawKernels(canvas, kernels, before) {
  const context = canvas.getContext("2d"), across = 16, cell = canvas.width / across;
  context.clearRect(0, 0, canvas.width, canvas.height);
  const change = kernels.map((value, i) => value - before[i]);
  [kernels, change].forEach((values, block) => {
    const largest = extent(values.map(Math.abs))[1] || 1;
    for (let o = 0; o < 32; o++) for (let p = 0; p < 9; p++) {
      const [blue, green, red] = [0, 1, 2].map((c) => Math.round(128 + (127 * values[o * 27 + c * 9 + p]) / largest));
      context.fillStyle = `rgb(${red},${green},${blue})`;
      const side = (cell - 6) / 3, x = (o % across) * cell + (p % 3) * side;
      const y = Math.floor(o / across) * cell + Math.floor(p / 3) * side + block * (2 * cell + 10);
      context.fillRect(x, y, Math.ceil(side), Math.ceil(side));
    }
  });
}

/** Losses over steps as dots, and the mean of the last ten as a line. */
export function drawCurve(canvas, losses) {
  const context = canvas.getContext("2d"), { width, height } = canvas, left = 46, bottom = height - 26, right = width - 8;
  context.clearRect(0, 0, width, height);
  const top = Math.max(1, ...losses) * 1.05, steps = Math.max(20, losses.length);
  const x = (i) => left + ((right - left) * (i + 0.5)) / steps, y = (value) => bottom - ((bottom - 10) * value) / top;
  context.font = "13px system-ui, sans-serif";
  context.fillStyle = colour("faint");
  context.strokeStyle = colour("line");
  context.lineWidth = 1;
  const tick = [0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 1e4].find((t) => top / t <= 5) ?? top / 4;
  for (let value = 0; value <= top; value += tick) {
    context.textAlign = "right";
    context.fillText(String(value), left - 8, y(value) + 4);
    context.beginPath();
    context.moveTo(left, y(value));
    context.lineTo(right, y(value));
    context.stroke();
  }
  context.textAlign = "center";
  context.fillText("step", (left + right) / 2, height - 4);
  context.textAlign = "right";
  context.fillText(String(steps), right, height - 4);
  context.fillStyle = colour("a");
  losses.forEach((value, i) => { context.beginPath(); context.arc(x(i), y(value), 3, 0, 7); context.fill(); });
  context.strokeStyle = colour("accent");
  context.lineWidth = 2.5;
  context.beginPath();
  losses.forEach((_, i) => {
    const last = losses.slice(Math.max(0, i - 9), i + 1), mean = last.reduce((a, b) => a + b) / last.length;
    if (i) context.lineTo(x(i), y(mean)); else context.moveTo(x(i), y(mean));
  });
  context.stroke();
}
