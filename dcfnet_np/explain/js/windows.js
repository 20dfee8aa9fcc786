// The two fixed windows of a correlation filter.  Mirrors vision/windows.py.

import { NEGLIGIBLE } from "./constants.js";

/** The desired response y: a Gaussian of standard deviation sigma (map pixels), its peak rolled to (0, 0). */
export function gaussianLabel(n, sigma) {
  const y = new Float64Array(n * n), wrapped = (i) => (i > n >> 1 ? i - n : i);
  for (let r = 0; r < n; r++) for (let s = 0; s < n; s++) {
    y[r * n + s] = Math.exp(-(wrapped(r) ** 2 + wrapped(s) ** 2) / (2 * sigma ** 2));
  }
  return y;
}

/** Hann window (n, n): one in the middle, zero at the edges, so that the circular correlation sees no seam. */
export function hann(n) {
  const line = Float64Array.from({ length: n }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / (n - 1)));
  return Float64Array.from({ length: n * n }, (_, i) => line[Math.floor(i / n)] * line[i % n]);
}

/** The band that a Gaussian label needs in single precision: beyond `reach` standard deviations in frequency its
 *  spectrum is negligible.  K = ceil(reach N / (2 pi sigma)); all bins if more. */
export function labelBand(n, sigma) {
  const reach = Math.sqrt(-2 * Math.log(NEGLIGIBLE));
  return Math.min(Math.ceil((reach * n) / (2 * Math.PI * sigma)), n >> 1);
}
