// Local response normalisation across channels, forward and backward.  Mirrors ops/lrn.py.
//
//   s_c = k + alpha * sum of x_q^2 over |q - c| <= n/2          y_c = x_c * s_c^-beta

const LRN = { reach: 2, k: 1, alpha: 1e-4 / 5, beta: 0.75 }; // n = 5

/** Sum over the channels around each one.  Its own adjoint. */
function channelSum(x, depth, size) {
  const y = new Float64Array(x.length);
  for (let c = 0; c < depth; c++) {
    for (let q = Math.max(c - LRN.reach, 0); q <= Math.min(c + LRN.reach, depth - 1); q++) {
      for (let here = c * size, there = q * size, end = here + size; here < end; here++, there++) y[here] += x[there];
    }
  }
  return y;
}

export function lrnForward(x) {
  const { data } = x, y = new Float64Array(data.length);
  for (let i = 0; i < y.length; i++) y[i] = data[i] * data[i]; // for the sum only
  const s = channelSum(y, x.depth, x.height * x.width);
  for (let i = 0; i < y.length; i++) {
    s[i] = LRN.k + LRN.alpha * s[i];
    const root = Math.sqrt(s[i]);
    y[i] = data[i] / (root * Math.sqrt(root)); // s^-3/4
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
