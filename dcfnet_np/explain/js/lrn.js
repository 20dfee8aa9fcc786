// Local response normalisation across channels, forward and backward.  Mirrors ops/lrn.py.
//
//   s_c = k + alpha * sum of x_q^2 over |q - c| <= n/2          y_c = x_c * s_c^-beta

const LRN = { reach: 2, k: 1, alpha: 1e-4 / 5, beta: 0.75 }; // n = 5

/** Sum over the channels around each one; it is its own adjoint. */
function channelSum(x, depth, size) {
  const y = new Float64Array(x.length);
  for (let c = 0; c < depth; c++) {
    for (let q = Math.max(0, c - LRN.reach); q <= Math.min(depth - 1, c + LRN.reach); q++) {
      for (let p = 0; p < size; p++) y[c * size + p] += x[q * size + p];
    }
  }
  return y;
}

export function lrnForward(x) {
  const size = x.height * x.width, y = new Float64Array(x.data.length);
  const s = channelSum(x.data.map((value) => value * value), x.depth, size);
  for (let i = 0; i < y.length; i++) {
    s[i] = LRN.k + LRN.alpha * s[i];
    const root = Math.sqrt(s[i]);
    y[i] = x.data[i] / (root * Math.sqrt(root)); // s^-3/4
  }
  return { y: { ...x, data: y }, cache: { x, y, s } };
}

/** dx_c = dy_c s_c^-beta - 2 alpha beta x_c * sum over |q - c| <= n/2 of dy_q y_q / s_q */
export function lrnBackward(dy, { x, y, s }) {
  const through = channelSum(dy.data.map((d, i) => (d * y[i]) / s[i]), x.depth, x.height * x.width);
  const dx = dy.data.map((d, i) => d * s[i] ** -LRN.beta - 2 * LRN.alpha * LRN.beta * x.data[i] * through[i]);
  return { ...dy, data: dx };
}
