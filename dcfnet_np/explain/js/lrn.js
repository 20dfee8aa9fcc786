// Local response normalisation across channels, forward and backward.  Mirrors ops/lrn.py.
//
//   s_c = k + alpha * sum of x_q^2 over |q - c| <= n/2          y_c = x_c * s_c^-beta

import { LRN } from "./constants.js";

const reach = LRN.n >> 1;

/** s^-beta; two square roots are several times as fast as a power. */
const power = (s) => (LRN.beta === 0.75 ? 1 / (Math.sqrt(s) * Math.sqrt(Math.sqrt(s))) : s ** -LRN.beta);

/** y_c = sum of a_q b_q over the channels q around c. */
function channelSum(a, b, depth, size, y) {
  y.fill(0);
  for (let c = 0; c < depth; c++) {
    for (let q = Math.max(c - reach, 0); q <= Math.min(c + reach, depth - 1); q++) {
      for (let here = c * size, there = q * size, end = here + size; here < end; here++, there++) y[here] += a[there] * b[there];
    }
  }
  return y;
}

/** s, y: memory; y may be that of x. */
export function lrnForward(x, s = new Float64Array(x.data.length), y = new Float64Array(x.data.length)) {
  const { data } = x;
  channelSum(data, data, x.depth, x.height * x.width, s);
  for (let i = 0; i < y.length; i++) {
    s[i] = LRN.k + LRN.alpha * s[i];
    y[i] = data[i] * power(s[i]);
  }
  return { y: { ...x, data: y }, cache: { x, y, s } };
}

/** dx_c = dy_c s_c^-beta - 2 alpha beta x_c * sum over |q - c| <= n/2 of dy_q y_q / s_q */
export function lrnBackward(dy, { x, y, s }) {
  const d = dy.data, dx = new Float64Array(d.length);
  const through = channelSum(d, y.map((value, i) => value / s[i]), x.depth, x.height * x.width, new Float64Array(d.length));
  for (let i = 0; i < d.length; i++) dx[i] = d[i] * power(s[i]) - 2 * LRN.alpha * LRN.beta * x.data[i] * through[i];
  return { ...dy, data: dx };
}
