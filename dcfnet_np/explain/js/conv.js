// 3x3 convolution (cross-correlation), stride 1, forward and backward.  Mirrors ops/conv.py.
//
//   y[o, r, s] = b[o] + sum over c, i, j of  w[o, c, i, j] * x[c, r + i, s + j]
//
// Maps are { data, depth, height, width }.  With `border` 1 a map counts as surrounded by zeros and
// keeps its size; with 0 each convolution takes two pixels off.

/** Zeros around every map. */
export function pad(x) {
  const y = { data: new Float64Array(x.depth * (x.height + 2) * (x.width + 2)), depth: x.depth,
              height: x.height + 2, width: x.width + 2 };
  for (let row = 0; row < x.depth * x.height; row++) {
    const c = Math.floor(row / x.height), r = row % x.height;
    y.data.set(x.data.subarray(row * x.width, (row + 1) * x.width), (c * y.height + r + 1) * y.width + 1);
  }
  return y;
}

/** The inverse of `pad`, which is also its adjoint: the border goes. */
export function crop(x) {
  const y = { data: new Float64Array(x.depth * (x.height - 2) * (x.width - 2)), depth: x.depth,
              height: x.height - 2, width: x.width - 2 };
  for (let row = 0; row < y.depth * y.height; row++) {
    const c = Math.floor(row / y.height), r = row % y.height, from = (c * x.height + r + 1) * x.width + 1;
    y.data.set(x.data.subarray(from, from + y.width), row * y.width);
  }
  return y;
}

// Winograd's F(4x4, 3x3), as in ops/winograd.py: tiles of 4x4 outputs from 6x6 inputs by 36
// products of each pair of channels in the place of 144.  y = A^T [ (G w G^T) (B^T x B) ] A, and
// the sum over channels is 36 matrix products.
//
//        | 4  0 -5  0  1  0 |        |  1/4     0    0  |
//        | 0 -4 -4  1  1  0 |        | -1/6  -1/6  -1/6 |           | 1  1  1  1  1  0 |
//   B^T= | 0  4 -4 -1  1  0 |   G =  | -1/6   1/6  -1/6 |     A^T = | 0  1 -1  2 -2  0 |
//        | 0 -2 -1  2  1  0 |        | 1/24  1/12   1/6 |           | 0  1  1  4  4  0 |
//        | 0  2 -1 -2  1  0 |        | 1/24 -1/12   1/6 |           | 0  1 -1  8 -8  1 |
//        | 0  4  0 -5  0  1 |        |   0     0     1  |
const G = [[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6], [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]];

/** G w G^T: (O, C, 3, 3) to (36, O, C), with C filled up with zeros to `channels`. */
function transformWeights(weights, outputs, depth, channels) {
  const u = new Float64Array(36 * outputs * channels), step = outputs * channels;
  for (let o = 0; o < outputs; o++) for (let c = 0; c < depth; c++) for (let j = 0; j < 6; j++) {
    const k = (o * depth + c) * 9, h = G[j];
    const a = weights[k] * h[0] + weights[k + 1] * h[1] + weights[k + 2] * h[2];
    const b = weights[k + 3] * h[0] + weights[k + 4] * h[1] + weights[k + 5] * h[2];
    const d = weights[k + 6] * h[0] + weights[k + 7] * h[1] + weights[k + 8] * h[2];
    for (let i = 0; i < 6; i++) u[(i * 6 + j) * step + o * channels + c] = G[i][0] * a + G[i][1] * b + G[i][2] * d;
  }
  return u;
}

/** B^T x B for one row of tiles: rows `top` .. `top + 5` of x with its border to v, (36, channels, tiles).
 *  lines: (6, 4 tiles + 2), zero where x has no pixels. */
function transformInput(x, top, border, v, channels, tiles, lines) {
  const { data, depth, height, width } = x, long = 4 * tiles + 2, step = channels * tiles, zeros = new Float64Array(width);
  for (let c = 0; c < depth; c++) {
    const row = (i) => {
      const r = top - border + i, first = (c * height + r) * width;
      return r >= 0 && r < height ? data.subarray(first, first + width) : zeros;
    };
    const x0 = row(0), x1 = row(1), x2 = row(2), x3 = row(3), x4 = row(4), x5 = row(5);
    for (let s = 0, p = border; s < width; s++, p++) {
      const a = x0[s], b = x1[s], d = x2[s], e = x3[s], f = x4[s], g = x5[s];
      lines[p] = 4 * a - 5 * d + f;
      lines[long + p] = e + f - 4 * (b + d);
      lines[2 * long + p] = f - e + 4 * (b - d);
      lines[3 * long + p] = f - d + 2 * (e - b);
      lines[4 * long + p] = f - d - 2 * (e - b);
      lines[5 * long + p] = 4 * b - 5 * e + g;
    }
    for (let i = 0; i < 6; i++) for (let t = 0, s = i * long, k = (i * 6 * channels + c) * tiles; t < tiles; t++, s += 4, k++) {
      const a = lines[s], b = lines[s + 1], d = lines[s + 2], e = lines[s + 3], f = lines[s + 4], g = lines[s + 5];
      v[k] = 4 * a - 5 * d + f;
      v[k + step] = e + f - 4 * (b + d);
      v[k + 2 * step] = f - e + 4 * (b - d);
      v[k + 3 * step] = f - d + 2 * (e - b);
      v[k + 4 * step] = f - d - 2 * (e - b);
      v[k + 5 * step] = 4 * b - 5 * e + g;
    }
  }
}

/** m = u v for each of the 36: (outputs, channels) by (channels, tiles); two rows and four terms of a sum at once. */
function multiply(u, v, m, outputs, channels, tiles) {
  m.fill(0);
  for (let n = 0; n < 36; n++) for (let o = 0; o < outputs; o += 2) for (let c = 0; c < channels; c += 4) {
    const k = (n * outputs + o) * channels + c, l = k + channels;
    const a0 = u[k], a1 = u[k + 1], a2 = u[k + 2], a3 = u[k + 3], b0 = u[l], b1 = u[l + 1], b2 = u[l + 2], b3 = u[l + 3];
    let i = (n * channels + c) * tiles, p = (n * outputs + o) * tiles;
    for (const end = p + tiles; p < end; p++, i++) {
      const v0 = v[i], v1 = v[i + tiles], v2 = v[i + 2 * tiles], v3 = v[i + 3 * tiles];
      m[p] += a0 * v0 + a1 * v1 + a2 * v2 + a3 * v3;
      m[p + tiles] += b0 * v0 + b1 * v1 + b2 * v2 + b3 * v3;
    }
  }
}

/** A^T m A + bias for one row of tiles into rows `top` .. `top + 3` of y. */
function transformOutput(m, y, top, bias, tiles, lines) {
  const { data, depth, height, width } = y, long = 4 * tiles;
  for (let o = 0; o < depth; o++) {
    for (let i = 0; i < 6; i++) for (let t = 0, s = i * long; t < tiles; t++, s += 4) {
      const step = depth * tiles, k = (i * 6 * depth + o) * tiles + t;
      const b = m[k + step], d = m[k + 2 * step], e = m[k + 3 * step], f = m[k + 4 * step];
      lines[s] = m[k] + b + d + e + f;
      lines[s + 1] = b - d + 2 * (e - f);
      lines[s + 2] = b + d + 4 * (e + f);
      lines[s + 3] = b - d + 8 * (e - f) + m[k + 5 * step];
    }
    const first = (o * height + top) * width, rows = Math.min(4, height - top);
    for (let s = 0; s < width; s++) {
      const b = lines[long + s], d = lines[2 * long + s], e = lines[3 * long + s], f = lines[4 * long + s], p = first + s;
      data[p] = bias[o] + lines[s] + b + d + e + f;
      if (rows > 1) data[p + width] = bias[o] + b - d + 2 * (e - f);
      if (rows > 2) data[p + 2 * width] = bias[o] + b + d + 4 * (e + f);
      if (rows > 3) data[p + 3 * width] = bias[o] + b - d + 8 * (e - f) + lines[5 * long + s];
    }
  }
}

/** x: (C, H, W); weights: (O, C, 3, 3); bias: (O).  Returns (O, H - 2 + 2 border, W - 2 + 2 border).  O is even.
 *  memory: gives an array of a length, for the result. */
export function convForward(x, weights, bias, border = 0, memory = (length) => new Float64Array(length)) {
  const outputs = bias.length, height = x.height - 2 + 2 * border, width = x.width - 2 + 2 * border;
  const y = { data: memory(outputs * height * width), depth: outputs, height, width };
  const channels = 4 * Math.ceil(x.depth / 4), tiles = Math.ceil(width / 4), lines = new Float64Array(6 * (4 * tiles + 2));
  const out = new Float64Array(6 * 4 * tiles), u = transformWeights(weights, outputs, x.depth, channels);
  const v = new Float64Array(36 * channels * tiles), m = new Float64Array(36 * outputs * tiles);
  for (let top = 0; top < height; top += 4) {
    transformInput(x, top, border, v, channels, tiles, lines);
    multiply(u, v, m, outputs, channels, tiles);
    transformOutput(m, y, top, bias, tiles, out);
  }
  return y;
}

/** dL/dw and dL/db: each weight meets every pixel that it has multiplied.  dy: (O, H - 2, W - 2). */
export function convWeightGradients(dy, x) {
  const { data, depth, width } = x, size = dy.height * dy.width;
  const dw = new Float64Array(dy.depth * depth * 9), db = new Float64Array(dy.depth);
  for (let o = 0; o < dy.depth; o++) {
    for (let p = o * size; p < (o + 1) * size; p++) db[o] += dy.data[p];
    for (let c = 0; c < depth; c++) for (let i = 0; i < 3; i++) {
      let s0 = 0, s1 = 0, s2 = 0; // the three weights of kernel row i
      for (let r = 0; r < dy.height; r++) {
        let p = o * size + r * dy.width, k = (c * x.height + r + i) * width, x0 = data[k], x1 = data[k + 1];
        for (const end = p + dy.width; p < end; p++, k++) {
          const d = dy.data[p], x2 = data[k + 2];
          s0 += d * x0; s1 += d * x1; s2 += d * x2;
          x0 = x1; x1 = x2;
        }
      }
      dw.set([s0, s1, s2], (o * depth + c) * 9 + i * 3);
    }
  }
  return { dw, db };
}

/** dL/dx: every output hands its gradient back through the weights it came by, which is a convolution with the
 *  kernels turned by 180 degrees and inputs and outputs exchanged, of dy with two rows of zeros around it. */
export function convInputGradient(dy, weights, depth) {
  const turned = new Float64Array(weights.length);
  for (let o = 0; o < dy.depth; o++) for (let c = 0; c < depth; c++) for (let k = 0; k < 9; k++) {
    turned[(c * dy.depth + o) * 9 + 8 - k] = weights[(o * depth + c) * 9 + k];
  }
  // `convForward` makes two outputs at once; one more costs little
  const even = depth + (depth % 2);
  const more = new Float64Array(even * dy.depth * 9);
  more.set(turned);
  const dx = convForward(pad(dy), more, new Float64Array(even), 1);
  return { ...dx, data: dx.data.subarray(0, depth * dx.height * dx.width), depth };
}
