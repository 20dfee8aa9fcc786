// 3x3 convolution (cross-correlation), stride 1, forward and backward.  Mirrors ops/conv.py.
//
//   y[o, r, s] = b[o] + sum over c, i, j of  w[o, c, i, j] * x[c, r + i, s + j]
//
// Maps are { data, depth, height, width }.  The border is dealt with outside: `pad` puts zeros around a map for
// "same" size; without it each convolution takes two pixels off.

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

/** x: (C, H, W); weights: (O, C, 3, 3); bias: (O).  Returns (O, H - 2, W - 2).  Two outputs at once, O is even. */
export function convForward(x, weights, bias) {
  const { data, depth, width } = x, h = x.height - 2, w = width - 2, size = h * w, outputs = bias.length;
  const y = new Float64Array(outputs * size), below = 2 * width;
  for (let o = 0; o < outputs; o += 2) {
    y.fill(bias[o], o * size, (o + 1) * size);
    y.fill(bias[o + 1], (o + 1) * size, (o + 2) * size);
    for (let c = 0; c < depth; c++) {
      const [a0, a1, a2, a3, a4, a5, a6, a7, a8] = weights.subarray((o * depth + c) * 9, (o * depth + c) * 9 + 9);
      const second = ((o + 1) * depth + c) * 9;
      const [b0, b1, b2, b3, b4, b5, b6, b7, b8] = weights.subarray(second, second + 9);
      for (let r = 0; r < h; r++) {
        let i = (c * x.height + r) * width, p = o * size + r * w, q = p + size;
        // The 3x3 pixels under the kernel; each step to the right brings three new ones.
        let x0 = data[i], x1 = data[i + 1], x3 = data[i + width], x4 = data[i + width + 1];
        let x6 = data[i + below], x7 = data[i + below + 1];
        for (const end = p + w; p < end; p++, q++, i++) {
          const x2 = data[i + 2], x5 = data[i + width + 2], x8 = data[i + below + 2];
          y[p] += a0 * x0 + a1 * x1 + a2 * x2 + a3 * x3 + a4 * x4 + a5 * x5 + a6 * x6 + a7 * x7 + a8 * x8;
          y[q] += b0 * x0 + b1 * x1 + b2 * x2 + b3 * x3 + b4 * x4 + b5 * x5 + b6 * x6 + b7 * x7 + b8 * x8;
          x0 = x1; x1 = x2; x3 = x4; x4 = x5; x6 = x7; x7 = x8;
        }
      }
    }
  }
  return { data: y, depth: outputs, height: h, width: w };
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
 *  kernels turned by 180 degrees and inputs and outputs exchanged, of dy with two more rows of zeros around it. */
export function convInputGradient(dy, weights, depth) {
  const turned = new Float64Array(weights.length);
  for (let o = 0; o < dy.depth; o++) for (let c = 0; c < depth; c++) for (let k = 0; k < 9; k++) {
    turned[(c * dy.depth + o) * 9 + 8 - k] = weights[(o * depth + c) * 9 + k];
  }
  return convForward(pad(pad(dy)), turned, new Float64Array(depth));
}
