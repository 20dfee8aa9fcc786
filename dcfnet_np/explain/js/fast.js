// Tricks that make the page answer at once.  Each function computes the same numbers as a plain one
// elsewhere, and tests/explain compares the two.

import { sideOf } from "./conv.js";

// --- the convolution: `convForward` of conv.js, three times as fast, by Winograd's F(4x4, 3x3):
// tiles of 4x4 outputs from 6x6 inputs by 36 products of each pair of channels in the place of 144.
//
//   y = A^T [ sum over channels of (G w G^T) (B^T x B) ] A,   with matrices for one axis below
//
// Each function takes numbers that lie d apart from x[i] on, and writes some, e apart from y[o] on.

/** G: 3 weights to 6. */
function growWeights(x, i, d, y, o, e) {
  const [a, b, c] = [x[i], x[i + d], x[i + 2 * d]], even = a + c, wide = a + 4 * c;
  y[o] = a / 4;
  y[o + e] = -(even + b) / 6;
  y[o + 2 * e] = -(even - b) / 6;
  y[o + 3 * e] = (wide + 2 * b) / 24;
  y[o + 4 * e] = (wide - 2 * b) / 24;
  y[o + 5 * e] = c;
}

/** B^T: 6 inputs to 6. */
function turnInputs(x, i, d, y, o, e) {
  const a = x[i], b = x[i + d], c = x[i + 2 * d], f = x[i + 3 * d], g = x[i + 4 * d];
  y[o] = 4 * a - 5 * c + g;
  y[o + e] = f + g - 4 * (b + c);
  y[o + 2 * e] = g - f + 4 * (b - c);
  y[o + 3 * e] = g - c + 2 * (f - b);
  y[o + 4 * e] = g - c - 2 * (f - b);
  y[o + 5 * e] = 4 * b - 5 * f + x[i + 5 * d];
}

/** A^T: 6 products to 4 outputs. */
function shrinkOutputs(x, i, d, y, o, e) {
  const b = x[i + d], c = x[i + 2 * d], f = x[i + 3 * d], g = x[i + 4 * d];
  y[o] = x[i] + b + c + f + g;
  y[o + e] = b - c + 2 * (f - g);
  y[o + 2 * e] = b + c + 4 * (f + g);
  y[o + 3 * e] = b - c + 8 * (f - g) + x[i + 5 * d];
}

/** m = u v for each of the 36: (outputs, channels) by (channels, tiles); two by four at once. */
function multiply(u, v, m, outputs, channels, tiles) {
  m.fill(0);
  for (let row = 0; row < 36 * outputs; row += 2) for (let c = 0; c < channels; c += 4) {
    const k = row * channels + c, a0 = u[k], a1 = u[k + 1], a2 = u[k + 2], a3 = u[k + 3];
    const l = k + channels, b0 = u[l], b1 = u[l + 1], b2 = u[l + 2], b3 = u[l + 3];
    let i = (Math.floor(row / outputs) * channels + c) * tiles;
    for (let p = row * tiles, q = p + tiles; p < (row + 1) * tiles; p++, q++, i++) {
      const v0 = v[i], v1 = v[i + tiles], v2 = v[i + 2 * tiles], v3 = v[i + 3 * tiles];
      m[p] += a0 * v0 + a1 * v1 + a2 * v2 + a3 * v3;
      m[q] += b0 * v0 + b1 * v1 + b2 * v2 + b3 * v3;
    }
  }
}

/** For channels by the four and outputs by the two. */
export function fastConvForward(x, w, b) {
  const n = sideOf(x[0]), size = n - 2, tiles = Math.ceil(size / 4), wide = 4 * tiles + 2;
  const outputs = b.length, channels = x.length;
  const numbers = (length) => new Float64Array(length);
  const y = Array.from(b, () => numbers(size * size));
  const u = numbers(36 * outputs * channels), v = numbers(36 * channels * tiles);
  const m = numbers(36 * outputs * tiles), band = numbers(6 * wide), half = numbers(6 * wide);
  for (let k = 0, step = outputs * channels; k < step; k++) {
    for (let j = 0; j < 3; j++) growWeights(w, k * 9 + j, 3, half, j, 3);
    for (let i = 0; i < 6; i++) growWeights(half, i * 3, 1, u, i * 6 * step + k, step);
  }
  for (let top = 0; top < size; top += 4) { // a row of tiles
    x.forEach((map, c) => {
      for (let r = 0; r < 6; r++) {
        if (top + r < n) band.set(map.subarray((top + r) * n, (top + r + 1) * n), r * wide);
      }
      for (let s = 0; s < wide; s++) turnInputs(band, s, wide, half, s, wide);
      for (let i = 0; i < 6; i++) for (let t = 0; t < tiles; t++) {
        const to = (i * 6 * channels + c) * tiles + t;
        turnInputs(half, i * wide + 4 * t, 1, v, to, channels * tiles);
      }
    });
    multiply(u, v, m, outputs, channels, tiles);
    y.forEach((map, o) => {
      for (let i = 0; i < 6; i++) for (let t = 0; t < tiles; t++) {
        const from = (i * 6 * outputs + o) * tiles + t;
        shrinkOutputs(m, from, outputs * tiles, half, i * wide + 4 * t, 1);
      }
      for (let s = 0; s < size; s++) shrinkOutputs(half, s, wide, band, s, wide);
      for (let p = top * size; p < Math.min((top + 4) * size, map.length); p++) {
        map[p] = b[o] + band[(Math.floor(p / size) - top) * wide + (p % size)];
      }
    });
  }
  return y;
}

// --- the transform, of 125 = 5 5 5

const C1 = Math.cos((2 * Math.PI) / 5), C2 = Math.cos((4 * Math.PI) / 5);
const S1 = Math.sin((2 * Math.PI) / 5), S2 = Math.sin((4 * Math.PI) / 5);

/** `fftPass` for p = 5.  The fifth roots of one come in pairs, r and 5 - r, whose cosines are the
 *  same and whose sines differ in sign: sums and differences of two inputs serve two outputs. */
export function fastPassOfFive(from, to, p, done, run) {
  const { re, im } = from, { re: yRe, im: yIm } = to, step = done * run;
  for (let j = 0; j < done; j++) {
    const turns = [1, 2, 3, 4].map((r) => (-2 * Math.PI * r * j) / (done * 5));
    const [c1, c2, c3, c4] = turns.map(Math.cos), [s1, s2, s3, s4] = turns.map(Math.sin);
    for (let i = j * 5 * run, o = j * run, end = o + run; o < end; o++, i++) {
      const i1 = i + run, i2 = i1 + run, i3 = i2 + run, i4 = i3 + run, x = re[i], y = im[i];
      const x1 = re[i1] * c1 - im[i1] * s1, y1 = re[i1] * s1 + im[i1] * c1;
      const x2 = re[i2] * c2 - im[i2] * s2, y2 = re[i2] * s2 + im[i2] * c2;
      const x3 = re[i3] * c3 - im[i3] * s3, y3 = re[i3] * s3 + im[i3] * c3;
      const x4 = re[i4] * c4 - im[i4] * s4, y4 = re[i4] * s4 + im[i4] * c4;
      const ax = x1 + x4, ay = y1 + y4, bx = x1 - x4, by = y1 - y4; // of r = 1 and 4
      const cx = x2 + x3, cy = y2 + y3, dx = x2 - x3, dy = y2 - y3; // of r = 2 and 3
      const ex = x + C1 * ax + C2 * cx, ey = y + C1 * ay + C2 * cy;
      const fx = x + C2 * ax + C1 * cx, fy = y + C2 * ay + C1 * cy;
      const gx = S1 * bx + S2 * dx, gy = S1 * by + S2 * dy;
      const hx = S2 * bx - S1 * dx, hy = S2 * by - S1 * dy;
      yRe[o] = x + ax + cx;
      yIm[o] = y + ay + cy;
      yRe[o + step] = ex + gy;
      yIm[o + step] = ey - gx;
      yRe[o + 2 * step] = fx + hy;
      yIm[o + 2 * step] = fy - hx;
      yRe[o + 3 * step] = fx - hy;
      yIm[o + 3 * step] = fy + hx;
      yRe[o + 4 * step] = ex - gy;
      yIm[o + 4 * step] = ey + gx;
    }
  }
}

// --- the filter: the plain ones make two objects a bin, which the browser must clear away

const spectrum = (size) => ({ re: new Float64Array(size), im: new Float64Array(size) });

/** `learnFilter` of dcf.js, Eq. 2. */
export function fastLearnFilter(templateF, y, energy, bins) {
  return templateF.map(({ re, im }) => {
    const w = spectrum(re.length);
    for (const i of bins) {
      const a = y.re[i] / energy[i], b = -y.im[i] / energy[i];
      w.re[i] = re[i] * a - im[i] * b;
      w.im[i] = re[i] * b + im[i] * a;
    }
    return w;
  });
}

/** `correlate` of dcf.js, the sum of Eq. 3. */
export function fastCorrelate(filterF, searchF, bins) {
  const g = spectrum(searchF[0].re.length);
  filterF.forEach((w, l) => {
    const z = searchF[l];
    for (const i of bins) {
      g.re[i] += w.re[i] * z.re[i] + w.im[i] * z.im[i];
      g.im[i] += w.re[i] * z.im[i] - w.im[i] * z.re[i];
    }
  });
  return g;
}
