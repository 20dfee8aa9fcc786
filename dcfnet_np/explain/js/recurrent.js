// Eq. 13 through time, backwards: what a loss of the last response says to every template.  Mirrors
// ops/recurrent.py, "ratio".

import { at, conj, eachBin, over, plus, times } from "./dcf.js";
import { modelResponseF, updateModel } from "./filter.js";

const scaled = (a, real) => ({ re: a.re * real, im: a.im * real });

/** The model of all templates, and its response g^ to searchF.  given: { labelF, bins, lambda } */
export function throughTime(templates, searchF, { labelF, bins, lambda }, beta) {
  const learn = (model, x) => updateModel(model, x, labelF, lambda, beta, bins);
  const model = templates.reduce(learn, null);
  return { model, responseF: modelResponseF(model, searchF, bins) };
}

/** Gradients by the templates, spectra; dg = rfft2(dL/dg).
 *  By the last state: A' = dg^* phi(z) / B, B' = -Re(dg^* g^) / B.  By template t: its
 *  weight in that state, beta_t times (1 - beta) for each later frame, of A' y + 2 B' phi(x_t). */
export function throughTimeBackward(dg, templates, searchF, given, beta, forward) {
  const { labelF, bins } = given, { model: { denominator }, responseF } = forward;
  const byA = searchF.map((z) =>
    eachBin(bins, z, (i) => over(times(conj(at(dg, i)), at(z, i)), denominator[i])));
  const byB = new Float64Array(denominator.length);
  for (const i of bins) byB[i] = -times(conj(at(dg, i)), at(responseF, i)).re / denominator[i];
  let later = 1; // (1 - beta) for each later frame
  return templates.map((_, k) => templates.length - 1 - k).map((t) => {
    const share = later * (t ? beta : 1);
    later *= 1 - beta;
    return templates[t].map((x, l) => eachBin(bins, x, (i) =>
      scaled(plus(times(at(byA[l], i), at(labelF, i)), scaled(at(x, i), 2 * byB[i])), share)));
  }).reverse();
}
