// The online model, Eq. 13: numerator and denominator of the filter as running means.  Mirrors
// filter.py, "ratio".

import { at, conj, correlate, eachBin, over, templateEnergy, times } from "./dcf.js";

/** model: { numerator: a spectrum for each channel, denominator }, or null before the first frame.
 *  A <- (1 - beta) A + beta y^* phi(x),   B <- (1 - beta) B + beta (sum_k |phi^k(x)|^2 + lambda) */
export function updateModel(model, templateF, y, lambda, beta, bins) {
  const newest = {
    numerator: templateF.map((x) => eachBin(bins, x, (i) => times(conj(at(y, i)), at(x, i)))),
    denominator: templateEnergy(templateF, lambda, bins),
  };
  if (model === null) return newest;
  const mean = (old, now) => old.map((value, i) => (1 - beta) * value + beta * now[i]);
  return {
    numerator: model.numerator.map(({ re, im }, l) =>
      ({ re: mean(re, newest.numerator[l].re), im: mean(im, newest.numerator[l].im) })),
    denominator: mean(model.denominator, newest.denominator),
  };
}

/** Eq. 3 with w^ = A / B: g^ = sum_l A^l* phi^l(z) / B. */
export function modelResponseF({ numerator, denominator }, searchF, bins) {
  const sum = correlate(numerator, searchF, bins);
  return eachBin(bins, sum, (i) => over(at(sum, i), denominator[i]));
}
