// The online model, Eq. 13: numerator and denominator of the filter as running means.  Mirrors
// filter.py, "ratio".

import { templateEnergy } from "./dcf.js";

/** model: { numerator { re, im } (D, bins), denominator (bins) }, or null for the first frame, which is the model.
 *  A <- (1 - beta) A + beta y^* phi(x),   B <- (1 - beta) B + beta (sum_k |phi^k(x)|^2 + lambda) */
export function updateModel(model, templateF, labelF, lambda, beta, depth, size, bins) {
  const energy = templateEnergy(templateF, lambda, depth, size, bins), share = model === null ? 1 : beta;
  model ??= { numerator: { re: new Float64Array(depth * size), im: new Float64Array(depth * size) },
              denominator: new Float64Array(size) };
  const { numerator: { re, im }, denominator } = model;
  for (const i of bins) denominator[i] = (1 - share) * denominator[i] + share * energy[i];
  for (let l = 0; l < depth; l++) for (const i of bins) {
    const k = l * size + i, yRe = labelF.re[i], yIm = -labelF.im[i];
    re[k] = (1 - share) * re[k] + share * (templateF.re[k] * yRe - templateF.im[k] * yIm);
    im[k] = (1 - share) * im[k] + share * (templateF.re[k] * yIm + templateF.im[k] * yRe);
  }
  return model;
}

/** Eq. 3 with w^ = A / B: g^ = sum_l A^l* phi^l(z) / B. */
export function modelResponseF(model, searchF, depth, size, bins) {
  const { numerator: a, denominator } = model, re = new Float64Array(size), im = new Float64Array(size);
  for (let l = 0; l < depth; l++) for (const i of bins) {
    const k = l * size + i;
    re[i] += (a.re[k] * searchF.re[k] + a.im[k] * searchF.im[k]) / denominator[i];
    im[i] += (a.re[k] * searchF.im[k] - a.im[k] * searchF.re[k]) / denominator[i];
  }
  return { re, im };
}
