// Local response normalisation across channels, forward and backward.  Mirrors ops/lrn.py.
//
//   s_c = k + alpha * sum of x_q^2 over |q - c| <= n/2          y_c = x_c * s_c^-beta

const LRN = { reach: 2, k: 1, alpha: 1e-4 / 5, beta: 0.75 }; // n = 5

/** Sum over the channels around each one, as a sum that moves along: in comes one, out goes one.  Its own adjoint. */
function channelSum(x, depth, size) {
  const y = new Float64Array(x.length), { reach } = LRN;
  for (let q = 0; q < reach; q++) for (let p = 0; p < size; p++) y[p] += x[q * size + p];
  for (let c = 0; c < depth; c++) {
    const here = c * size, before = Math.max(c - 1, 0) * size, comes = (c + reach) * size, goes = (c - reach - 1) * size;
    for (let p = 0; p < size; p++) {
      y[here + p] = y[before + p] + (c + reach < depth ? x[comes + p] : 0) - (c - reach - 1 >= 0 ? x[goes + p] : 0);
    }
  }
  return y;
}

export function lrnForward(x) {
  const y = new Float64Array(x.data.length), squares = new Float64Array(y.length);
  for (let i = 0; i < y.length; i++) squares[i] = x.data[i] ** 2;
  const s = channelSum(squares, x.depth, x.height * x.width);
  for (let i = 0; i < y.length; i++) {
    s[i] = LRN.k + LRN.alpha * s[i];
    const root = Math.sqrt(s[i]);
    y[i] = x.data[i] / (root * Math.sqrt(root)); // s^-3/4
  }
  return { y: { ...x, data: y }, cache: { x, y, s } };
}

/** dx_c = dy_c s_c^-beta - 2 alpha beta x_c * sum over |q - c| <= n/2 of dy_q y_q / s_q */
export function lrnBackward(dy, { x, y, s }) {
  const d = dy.data, parts = new Float64Array(d.length), dx = new Float64Array(d.length);
  for (let i = 0; i < d.length; i++) parts[i] = (d[i] * y[i]) / s[i];
  const through = channelSum(parts, x.depth, x.height * x.width);
  for (let i = 0; i < d.length; i++) dx[i] = d[i] / (Math.sqrt(s[i]) * Math.sqrt(Math.sqrt(s[i]))) - 2 * LRN.alpha * LRN.beta * x.data[i] * through[i];
  return { ...dy, data: dx };
}
