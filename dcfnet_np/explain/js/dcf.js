// The correlation filter layer: Eqs. 1-3 forward, Eqs. 5-11 backward.  Mirrors ops/dcf.py.
//
// Every ..._f is a half spectrum { re, im }: (D, bins), or (bins) after a sum over channels. 
// `bins` lists the bins that are kept (the band); what is not kept stays zero.  `size` is the
// number of bins of one map.

const spectrum = (length) => ({ re: new Float64Array(length), im: new Float64Array(length) });

/** sum_k phi^k(x) phi^k(x)^* + lambda, the denominator of Eqs. 2, 4, 9, 10.  Real, (bins). */
export function templateEnergy(templateF, lambda, depth, size, bins) {
  const energy = new Float64Array(size);
  for (const i of bins) energy[i] = lambda;
  for (let l = 0; l < depth; l++) for (const i of bins) {
    const k = l * size + i;
    energy[i] += templateF.re[k] ** 2 + templateF.im[k] ** 2;
  }
  return energy;
}

/** Eq. 2: w^l = phi^l(x) y^* / energy. */
export function learnFilter(templateF, labelF, energy, depth, size, bins) {
  const filterF = spectrum(depth * size);
  for (let l = 0; l < depth; l++) for (const i of bins) {
    const k = l * size + i, yRe = labelF.re[i] / energy[i], yIm = -labelF.im[i] / energy[i];
    filterF.re[k] = templateF.re[k] * yRe - templateF.im[k] * yIm;
    filterF.im[k] = templateF.re[k] * yIm + templateF.im[k] * yRe;
  }
  return filterF;
}

/** The sum of Eq. 3: g^ = sum_l w^l* phi^l(z).  sign = -1 conjugates the filter; +1 forgets to, to show it. */
export function correlate(filterF, searchF, depth, size, bins, sign = -1) {
  const responseF = spectrum(size);
  for (let l = 0; l < depth; l++) for (const i of bins) {
    const k = l * size + i, wIm = sign * filterF.im[k];
    responseF.re[i] += filterF.re[k] * searchF.re[k] - wIm * searchF.im[k];
    responseF.im[i] += filterF.re[k] * searchF.im[k] + wIm * searchF.re[k];
  }
  return responseF;
}

/** Eq. 7: dL/d phi^l(z)^* = dL/dg^* w^l.  dresponseF = rfft2(dL/dg), Eqs. 5 and 6. */
export function searchGradientF(dresponseF, filterF, depth, size, bins) {
  const out = spectrum(depth * size);
  for (let l = 0; l < depth; l++) for (const i of bins) {
    const k = l * size + i;
    out.re[k] = dresponseF.re[i] * filterF.re[k] - dresponseF.im[i] * filterF.im[k];
    out.im[k] = dresponseF.re[i] * filterF.im[k] + dresponseF.im[i] * filterF.re[k];
  }
  return out;
}

/** Eq. 9: dL/d phi^l(x) = dL/dg^* (phi^l(z)^* y^* - g^* phi^l(x)^*) / energy, g^ the response of all channels. */
export function templateGradientF(dresponseF, templateF, searchF, labelF, responseF, energy, depth, size, bins) {
  const out = spectrum(depth * size);
  for (let l = 0; l < depth; l++) for (const i of bins) {
    const k = l * size + i;
    // (z y - g x)^*, all of it conjugated at the end
    const re = searchF.re[k] * labelF.re[i] - searchF.im[k] * labelF.im[i]
             - responseF.re[i] * templateF.re[k] + responseF.im[i] * templateF.im[k];
    const im = searchF.re[k] * labelF.im[i] + searchF.im[k] * labelF.re[i]
             - responseF.re[i] * templateF.im[k] - responseF.im[i] * templateF.re[k];
    out.re[k] = (dresponseF.re[i] * re + dresponseF.im[i] * im) / energy[i];
    out.im[k] = (dresponseF.im[i] * re - dresponseF.re[i] * im) / energy[i];
  }
  return out;
}

/** Eq. 10: dL/d phi^l(x)^* = dL/dg^* (-g^* phi^l(x)) / energy. */
export function templateConjGradientF(dresponseF, templateF, responseF, energy, depth, size, bins) {
  const out = spectrum(depth * size), { re: dRe, im: dIm } = dresponseF;
  for (const i of bins) {
    const re = -(dRe[i] * responseF.re[i] + dIm[i] * responseF.im[i]) / energy[i];
    const im = -(dIm[i] * responseF.re[i] - dRe[i] * responseF.im[i]) / energy[i];
    for (let l = 0; l < depth; l++) {
      const k = l * size + i;
      out.re[k] = re * templateF.re[k] - im * templateF.im[k];
      out.im[k] = re * templateF.im[k] + im * templateF.re[k];
    }
  }
  return out;
}

/** The sum of Eq. 11: Eq. 10 plus the conjugate of Eq. 9.  F^-1 of it is dL/d phi(x). */
export function templateGradientSum(byTemplate, byConjugate) {
  return { re: byConjugate.re.map((re, k) => re + byTemplate.re[k]),
           im: byConjugate.im.map((im, k) => im - byTemplate.im[k]) };
}

/** Eq. 4 without weight decay: L = || g - g~ ||^2, and dL/dg = 2 (g - g~).  g~ is the label. */
export function responseLoss(response, label) {
  const dresponse = response.map((g, p) => 2 * (g - label[p]));
  return { loss: dresponse.reduce((sum, d) => sum + (d * d) / 4, 0), dresponse };
}
