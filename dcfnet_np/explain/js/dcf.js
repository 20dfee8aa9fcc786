// The correlation filter layer: Eqs. 1-3 forward, Eqs. 5-11 backward.  Mirrors ops/dcf.py.
//
// Names with an F are half spectra { re, im }, for all channels a list of them.  `bins` lists the
// bins that are kept (the band); what is not kept stays zero.  An equation is written for one bin,
// with complex numbers { re, im }.

import { sideOf } from "./conv.js";
import { fastCorrelate, fastLearnFilter } from "./fast.js";
import { columnsOf, irfft2, rfft2, spectrum } from "./fourier.js";

export const at = (spectrum, i) => ({ re: spectrum.re[i], im: spectrum.im[i] });
export const same = (a) => a;
export const conj = (a) => ({ re: a.re, im: -a.im });
export const plus = (a, b) => ({ re: a.re + b.re, im: a.im + b.im });
export const minus = (a, b) => ({ re: a.re - b.re, im: a.im - b.im });
export const over = (a, real) => ({ re: a.re / real, im: a.im / real });
export const times = (a, b) =>
  ({ re: a.re * b.re - a.im * b.im, im: a.re * b.im + a.im * b.re });

function put(spectrum, i, value) {
  spectrum.re[i] = value.re;
  spectrum.im[i] = value.im;
}

/** The spectrum, as large as `like`, whose bins are `equation(i)`. */
export function eachBin(bins, like, equation) {
  const out = spectrum(like.re.length);
  for (const i of bins) put(out, i, equation(i));
  return out;
}

/** sum_k phi^k(x) phi^k(x)^* + lambda, the denominator of Eqs. 2, 9, 10 and 13.  Real. */
export function templateEnergy(templateF, lambda, bins) {
  const energy = new Float64Array(templateF[0].re.length);
  for (const i of bins) energy[i] = lambda;
  for (const { re, im } of templateF) for (const i of bins) energy[i] += re[i] ** 2 + im[i] ** 2;
  return energy;
}

/** Eq. 2: w^l = phi^l(x) y^* / energy. */
export function learnFilter(templateF, y, energy, bins) {
  return templateF.map((x) =>
    eachBin(bins, x, (i) => over(times(at(x, i), conj(at(y, i))), energy[i])));
}

/** The sum of Eq. 3: g^ = sum_l w^l* phi^l(z).  The page also shows it without the conjugate. */
export function correlate(filterF, searchF, bins, turned = conj) {
  const g = spectrum(filterF[0].re.length);
  filterF.forEach((w, l) => {
    for (const i of bins) put(g, i, plus(at(g, i), times(turned(at(w, i)), at(searchF[l], i))));
  });
  return g;
}

/** The layer and its loss, Eq. 4 without weight decay: L = || g - g~ ||^2, where g~ is the label.
 *  given: { label, labelF, bins, lambda }; flaw: what to break.  dresponse = dL/dg = 2 (g - g~). */
export function dcfForward(templateF, searchF, given, flaw = "none") {
  const { label, labelF, bins, lambda } = given, n = sideOf(label);
  const energy = templateEnergy(templateF, lambda, bins);
  const filterF = fastLearnFilter(templateF, labelF, energy, bins);
  const responseF = flaw === "conjugate" ? correlate(filterF, searchF, bins, same)
    : fastCorrelate(filterF, searchF, bins);
  const response = irfft2(responseF, n, flaw !== "mirror");
  const dresponse = response.map((g, p) => 2 * (g - label[p]));
  const loss = dresponse.reduce((sum, d) => sum + (d / 2) ** 2, 0);
  return { templateF, searchF, ...given, energy, filterF, responseF, response, dresponse, loss };
}

// Eqs. 7, 9, 10 and the sum of 11, for one channel: x of the template, z of the search, w of the
// filter; dg = rfft2(dL/dg), which is dL/dg^* by Eqs. 5 and 6.

/** Eq. 7: dL/d phi(z)^* = dL/dg^* w. */
export const searchGradientF = (dg, w, bins) =>
  eachBin(bins, dg, (i) => times(at(dg, i), at(w, i)));

/** Eq. 9: dL/d phi(x) = dL/dg^* (phi(z)^* y^* - g^* phi(x)^*) / energy; g is of all channels. */
export const templateGradientF = (dg, x, z, y, g, energy, bins) => eachBin(bins, dg, (i) => {
  const difference = minus(times(at(z, i), at(y, i)), times(at(g, i), at(x, i)));
  return over(times(at(dg, i), conj(difference)), energy[i]);
});

/** Eq. 10: dL/d phi(x)^* = dL/dg^* (-g^* phi(x)) / energy. */
export const templateConjGradientF = (dg, x, g, energy, bins) => eachBin(bins, dg, (i) =>
  over(times(at(dg, i), times(conj(at(g, i)), at(x, i))), -energy[i]));

/** The sum of Eq. 11: Eq. 10 plus the conjugate of Eq. 9. */
export const templateGradientSum = (eq9, eq10, bins, turned = conj) =>
  eachBin(bins, eq9, (i) => plus(at(eq10, i), turned(at(eq9, i))));

/** Eqs. 6 to 11 for all channels of a result of `dcfForward`; eq8 and eq11 are maps. */
export function dcfBackward(forward, flaw = "none") {
  const { templateF, searchF, labelF, bins, energy, filterF, responseF, dresponse } = forward;
  const n = sideOf(dresponse), maps = (spectra) => spectra.map((one) => irfft2(one, n));
  const eq6 = rfft2(dresponse), dg = flaw === "mirror" ? doubled(eq6, n) : eq6;
  const g = (l) => (flaw === "journal" ? correlate([filterF[l]], [searchF[l]], bins) : responseF);
  const eq7 = filterF.map((w) => searchGradientF(dg, w, bins));
  const eq9 = templateF.map((x, l) =>
    templateGradientF(dg, x, searchF[l], labelF, g(l), energy, bins));
  const eq10 = templateF.map((x, l) => templateConjGradientF(dg, x, g(l), energy, bins));
  const sum = eq9.map((nine, l) =>
    templateGradientSum(nine, eq10[l], bins, flaw === "conjugate" ? same : conj));
  return { eq6, eq7, eq8: maps(eq7), eq9, eq10, eq11: maps(sum) };
}

/** Counts the mirror images on the way in, though `irfft2` counts them on the way out. */
function doubled({ re, im }, n) {
  const twice = (part) => part.map((value, i) => (i % columnsOf(n) ? 2 * value : value));
  return { re: twice(re), im: twice(im) };
}
