// 3x3 convolution (cross-correlation), stride 1, forward and backward.  Mirrors ops/conv.py.
//
//   y[o, r, s] = b[o] + sum over c, i, j of  w[o, c, i, j] * x[c, r + i, s + j]
//
// A map is (n, n) numbers, x and y are lists of maps; w is (O, C, 3, 3), b is (O).

export const sideOf = (map) => Math.sqrt(map.length);

/** Zeros around a map: (n + 2, n + 2). */
export function pad(x) {
  const n = sideOf(x), y = new Float64Array((n + 2) ** 2);
  for (let r = 0; r < n; r++) y.set(x.subarray(r * n, (r + 1) * n), (r + 1) * (n + 2) + 1);
  return y;
}

/** The inverse of `pad`, which is also its adjoint: the border goes. */
export function unpad(x) {
  const n = sideOf(x), y = new Float64Array((n - 2) ** 2);
  for (let r = 1; r < n - 1; r++) y.set(x.subarray(r * n + 1, (r + 1) * n - 1), (r - 1) * (n - 2));
  return y;
}

const kernel = (w, o, c, depth) => w.subarray((o * depth + c) * 9, (o * depth + c + 1) * 9);

/** y[r, s] += sum over i, j of k[i, j] x[r + i, s + j]. */
function addCorrelation(y, x, [k00, k01, k02, k10, k11, k12, k20, k21, k22]) {
  const m = sideOf(y), n = m + 2;
  for (let r = 0; r < m; r++) {
    for (let p = r * m, a = r * n, b = a + n, c = b + n; p < (r + 1) * m; p++, a++, b++, c++) {
      y[p] += k00 * x[a] + k01 * x[a + 1] + k02 * x[a + 2]
            + k10 * x[b] + k11 * x[b + 1] + k12 * x[b + 2]
            + k20 * x[c] + k21 * x[c + 1] + k22 * x[c + 2];
    }
  }
}

/** A map for each bias, two pixels smaller than those of x. */
export function convForward(x, w, b) {
  return Array.from(b, (bias, o) => {
    const y = new Float64Array((sideOf(x[0]) - 2) ** 2).fill(bias);
    x.forEach((map, c) => addCorrelation(y, map, kernel(w, o, c, x.length)));
    return y;
  });
}

/** dL/dx: each output hands its gradient back through the weights that it came by, which is a
 *  convolution of dy, with two rows of zeros around it, by the kernels turned by 180 degrees. */
export function convInputGradient(dy, w, forward = convForward) {
  const depth = w.length / 9 / dy.length, turned = new Float64Array(w.length);
  for (let o = 0; o < dy.length; o++) for (let c = 0; c < depth; c++) {
    kernel(turned, c, o, dy.length).set(kernel(w, o, c, depth).slice().reverse());
  }
  return forward(dy.map((map) => pad(pad(map))), turned, new Float64Array(depth));
}

/** dL/dw and dL/db: each weight meets every pixel that it has multiplied. */
export function convWeightGradients(dy, x) {
  const dw = new Float64Array(dy.length * x.length * 9);
  dy.forEach((d, o) => x.forEach((map, c) => addProducts(kernel(dw, o, c, x.length), d, map)));
  return { dw, db: Float64Array.from(dy, (d) => d.reduce((sum, value) => sum + value, 0)) };
}

/** k[i, j] += sum over r, s of d[r, s] x[r + i, s + j]. */
function addProducts(k, d, x) {
  const m = sideOf(d), n = m + 2;
  for (let r = 0; r < m; r++) for (let i = 0; i < 3; i++) {
    let left = 0, middle = 0, right = 0;
    for (let p = r * m, q = (r + i) * n; p < (r + 1) * m; p++, q++) {
      left += d[p] * x[q];
      middle += d[p] * x[q + 1];
      right += d[p] * x[q + 2];
    }
    k[3 * i] += left;
    k[3 * i + 1] += middle;
    k[3 * i + 2] += right;
  }
}
