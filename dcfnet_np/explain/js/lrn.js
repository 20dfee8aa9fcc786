// Local response normalisation across channels, forward and backward.  Mirrors ops/lrn.py.
//
//   s_c = k + alpha * sum of x_q^2 over |q - c| <= n/2          y_c = x_c * s_c^-beta

import { LRN } from "./constants.js";

/** s^-beta; for the paper's 3/4 two square roots, which are several times as fast. */
const power = (s) => (LRN.beta === 3 / 4 ? 1 / Math.sqrt(s * Math.sqrt(s)) : s ** -LRN.beta);

/** For each channel c the sum of a_q b_q over the channels q around it. */
function sumAround(a, b) {
  return a.map((_, c) => {
    const sum = new Float64Array(a[c].length), reach = LRN.n >> 1;
    a.slice(Math.max(c - reach, 0), c + reach + 1).forEach((map, k) => {
      const other = b[Math.max(c - reach, 0) + k];
      for (let i = 0; i < sum.length; i++) sum[i] += map[i] * other[i];
    });
    return sum;
  });
}

/** x: a list of maps. */
export function lrnForward(x) {
  const s = sumAround(x, x), y = x.map((map, c) => {
    const out = new Float64Array(map.length);
    for (let i = 0; i < out.length; i++) {
      s[c][i] = LRN.k + LRN.alpha * s[c][i];
      out[i] = map[i] * power(s[c][i]);
    }
    return out;
  });
  return { y, cache: { x, y, s } };
}

/** dx_c = dy_c s_c^-beta - 2 alpha beta x_c * sum over |q - c| <= n/2 of dy_q y_q / s_q */
export function lrnBackward(dy, { x, y, s }) {
  const through = sumAround(dy, y.map((map, c) => map.map((value, i) => value / s[c][i])));
  return dy.map((d, c) => d.map((value, i) =>
    value * power(s[c][i]) - 2 * LRN.alpha * LRN.beta * x[c][i] * through[c][i]));
}
