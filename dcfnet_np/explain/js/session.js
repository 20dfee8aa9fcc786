// One experiment: everything between the frames and the numbers on the page.  Runs in a worker, see
// worker.js.

import { LAYERS, PRESET, TRAINING } from "./constants.js";
import { cropPatch, isFlat } from "./crop.js";
import { correlate, learnFilter, responseLoss, searchGradientF, templateConjGradientF, templateEnergy,
         templateGradientF, templateGradientSum } from "./dcf.js";
import { modelResponseF, updateModel } from "./filter.js";
import { extract, room } from "./features.js";
import { bandBins, irfft2, rfft2 } from "./fourier.js";
import { networkBackward, networkForward } from "./network.js";
import { sgdStep } from "./sgd.js";
import { gaussianLabel, hann, labelBand } from "./windows.js";

const N = PRESET.input_size; // pixels of a patch and of its maps
const BINS = N * ((N >> 1) + 1); // of one map's half spectrum
const D = LAYERS.b2; // channels
const GROW = 1 + PRESET.padding; // a window is so many times the target

/** Standard deviation of the wish on a map of n pixels. */
const labelSigma = (n) => (PRESET.sigma_factor * n) / GROW;

/** The square root of the sum over channels of |x_f|^2, (bins). */
function magnitude(xf, depth, size) {
  const out = new Float64Array(size);
  for (let k = 0; k < depth * size; k++) out[k % size] += xf.re[k] ** 2 + xf.im[k] ** 2;
  return out.map(Math.sqrt);
}

/** |x_f| of one channel, (bins). */
const magnitudeOf = (xf, channel, size) => magnitude({ re: xf.re.subarray(channel * size, (channel + 1) * size),
                                                       im: xf.im.subarray(channel * size, (channel + 1) * size) }, 1, size);

/** A value for every stored bin as a picture of the whole spectrum, frequency zero in the middle, (n, n). */
function wholeSpectrum(values, n) {
  const columns = (n >> 1) + 1, out = new Float32Array(n * n), half = n >> 1;
  for (let r = 0; r < n; r++) for (let s = 0; s < n; s++) {
    const u = (r - half + n) % n, v = s - half;
    out[r * n + s] = v >= 0 ? values[u * columns + v] : values[((n - u) % n) * columns - v];
  }
  return out;
}

/** Index of the largest value, and how far it is from (0, 0) on the circle: [row, column]. */
function peakOf(map, n) {
  let best = 0;
  for (let i = 1; i < map.length; i++) if (map[i] > map[best]) best = i;
  const wrapped = (i) => (i > n >> 1 ? i - n : i);
  return { value: map[best], shift: [wrapped(Math.floor(best / n)), wrapped(best % n)] };
}

/** How well a target was recognised, from 0 to 1, by the peak of its response: as `tracker.score_of`. */
export function scoreOf(peak, responseF, n) {
  if (peak <= 1) return Math.max(peak, 0);
  const columns = (n >> 1) + 1;
  let amplitude = 0; // of the whole spectrum, of which half is stored
  responseF.re.forEach((re, i) => {
    amplitude += Math.hypot(re, responseF.im[i]) * (i % columns === 0 || 2 * (i % columns) === n ? 1 : 2);
  });
  return Math.min((peak * n * n) / amplitude, 1);
}

export class Session {
  /** frames: [{ rgba, width, height }]; box: the target in frame 0, [x, y, w, h]; boxes: in every frame, for
   *  training; weights, random: parameters of the network; mean: of the image, BGR; helper: of helper.js, or null. */
  constructor({ frames, box, boxes, weights, random, mean }, helper) {
    Object.assign(this, { frames, box, boxes, weights, random, mean, helper });
    this.kept = new Map();
    this.shown = new Map();
    this.rooms = {};
  }

  /** The value of `make`, or of its promise, for these inputs: made once, kept until the inputs change. */
  async keep(name, inputs, make) {
    const key = JSON.stringify(inputs), old = this.kept.get(name);
    if (old?.key === key) return old.value;
    const value = await make();
    this.kept.set(name, { key, value });
    return value;
  }

  /** How many workers share the features. */
  workers() { return this.helper?.ready ? 2 : 1; }

  // --- forward: Eqs. 2 and 3
  // ------------------------------------------------------------------------------

  /** From a window of a frame to the spectra of its features. */
  branch(name, frame, centre, padding) {
    return this.keep(name, [frame, centre, padding], () => {
      const window = [this.box[2] * (1 + padding), this.box[3] * (1 + padding)];
      this.rooms[name] ??= room(D, N); // once: what was there has had its time
      return this.extract(cropPatch(this.frames[frame], centre, window, N), { into: this.rooms[name] });
    });
  }

  async extract(patch, { windowed = true, into = room(D, N) } = {}) {
    return { patch, ...(await extract(this.centred(patch), this.weights, windowed, this.helper, into)) };
  }

  centred(patch) {
    const { data, height, width } = patch, out = new Float64Array(data.length), size = height * width;
    for (let c = 0; c < 3; c++) for (let i = c * size; i < (c + 1) * size; i++) out[i] = data[i] - this.mean[c];
    return { ...patch, data: out };
  }

  /** All intermediates for the page's settings; what they do not touch is not computed again. */
  async intermediates(settings) {
    const { padding, sigmaFactor, lambda } = settings;
    const middle = [this.box[0] + this.box[2] / 2, this.box[1] + this.box[3] / 2];
    const template = await this.branch("template", 0, middle, padding);
    const search = await this.branch("search", settings.frame, settings.centre, padding);
    const sigma = (sigmaFactor * N) / (1 + padding), K = settings.band ?? labelBand(N, sigma);
    const { label, labelF } = await this.keep("label", [sigma], () => {
      const y = gaussianLabel(N, sigma);
      return { label: y, labelF: rfft2(y, 1, N, N) };
    });
    const bins = await this.keep("bins", [K], () => bandBins(N, N, K));
    const given = { label, labelF, bins, lambda };
    const filter = await this.keep("filter", [padding, sigma, K, lambda], () => this.learn(template.spectra, given));
    return { template, search, sigma, K, ...given, filter, ...filter, ...this.respond(filter, search.spectra, given) };
  }

  /** The correlation filter layer, Eq. 2 ... */
  learn(templateF, { labelF, bins, lambda, depth = D }) {
    const energy = templateEnergy(templateF, lambda, depth, BINS, bins);
    return { energy, filterF: learnFilter(templateF, labelF, energy, depth, BINS, bins) };
  }

  /** ... and Eqs. 3 and 4. */
  respond({ filterF }, searchF, { label, bins, flaws = [], depth = D }) {
    const responseF = correlate(filterF, searchF, depth, BINS, bins, flaws.includes("conjugate") ? 1 : -1);
    const response = irfft2(responseF, 1, N, N, !flaws.includes("mirror"));
    return { responseF, response, ...responseLoss(response, label) };
  }

  layer(templateF, searchF, given) { return this.respond(this.learn(templateF, given), searchF, given); }

  /** What the page shows of them, null for what it has already; `all` adds features and filter. */
  async forward(settings, { all = false } = {}) {
    const x = await this.intermediates(settings);
    const energy = await this.keep("energy", [settings.padding], () =>
      // of all bins, for the picture
      templateEnergy(x.template.spectra, 0, D, BINS, bandBins(N, N, N)));
    const branch = ({ patch, features }) => ({ patch: new Uint8ClampedArray(patch.data), features: new Float32Array(features) });
    const out = {
      template: this.onlyNew("template", x.template, branch), search: this.onlyNew("search", x.search, branch),
      label: this.onlyNew("label", x.label, (label) => ({ map: new Float32Array(label), sigma: x.sigma })),
      filter: this.onlyNew("filter", x.filter, ({ filterF }) => {
        const kept = Float64Array.from(x.bins, (i) => energy[i]).sort();
        return { filter: wholeSpectrum(magnitude(filterF, D, BINS), N), energy: wholeSpectrum(energy, N), K: x.K,
                 count: kept.length, energies: [kept[0], kept[kept.length >> 1], kept[kept.length - 1]] };
      }),
      response: new Float32Array(x.response), loss: x.loss, peak: peakOf(x.response, N),
    };
    if (all) Object.assign(out, { features: [x.template.features, x.search.features].map((f) => Float32Array.from(f)),
                                  filterF: { re: Float32Array.from(x.filterF.re), im: Float32Array.from(x.filterF.im) } });
    return out;
  }

  /** `show` of a value that the page has not been given before. */
  onlyNew(name, value, show) {
    if (this.shown.get(name) === value) return null;
    this.shown.set(name, value);
    return show(value);
  }

  /** One channel's filter w^l as an image. */
  async filterMap(settings, { channel }) {
    const { filterF } = await this.intermediates(settings), part = [channel * BINS, (channel + 1) * BINS];
    return { map: Float32Array.from(irfft2({ re: filterF.re.subarray(...part), im: filterF.im.subarray(...part) }, 1, N, N)) };
  }

  /** The response as it should be, and with one mistake. */
  async broken(settings, { flaw }) {
    const right = await this.intermediates(settings), { template, search } = right;
    let wrong = right;
    if (flaw === "conjugate" || flaw === "mirror") {
      wrong = this.respond(right.filter, search.spectra, { ...right, flaws: [flaw] });
    } else if (flaw === "lambda" || flaw === "single") {
      wrong = this.layer(template.spectra, search.spectra, { ...right, lambda: 0, depth: flaw === "single" ? 1 : D });
    } else if (flaw === "hann") {
      const bare = (name) => this.keep(`bare ${name}`, this.kept.get(name).key, () => this.extract(right[name].patch, { windowed: false }));
      wrong = this.layer((await bare("template")).spectra, (await bare("search")).spectra, right);
    }
    const shown = ({ response, loss }) => ({ response: Float32Array.from(response), peak: peakOf(response, N), loss });
    return { right: shown(right), wrong: shown(wrong) };
  }

  // --- backward: Eqs. 5 to 11
  // -----------------------------------------------------------------------------

  async gradients(settings, flaw) {
    const x = await this.intermediates(settings);
    return this.keep("gradients", [settings, flaw], () => ({ ...this.layerGradients(x, flaw), loss: x.loss, dresponse: x.dresponse, images: {} }));
  }

  layerGradients(x, flaw) {
    const { bins, energy, filterF, labelF } = x, templateF = x.template.spectra, searchF = x.search.spectra;
    const dresponseF = rfft2(x.dresponse, 1, N, N); // Eqs. 5 and 6
    const into = { ...dresponseF };
    if (flaw === "mirror") { // counts the mirror images on the way in, and again on the way out
      const columns = (N >> 1) + 1;
      for (const part of ["re", "im"]) into[part] = dresponseF[part].map((d, i) => (i % columns ? 2 * d : d));
    }
    const eq7 = searchGradientF(into, filterF, D, BINS, bins);
    const eq8 = irfft2(eq7, D, N, N);
    let eq9, eq10;
    if (flaw === "journal") { // one channel's own product in the place of the whole response
      eq9 = { re: new Float64Array(D * BINS), im: new Float64Array(D * BINS) };
      eq10 = { re: new Float64Array(D * BINS), im: new Float64Array(D * BINS) };
      for (let l = 0; l < D; l++) {
        const one = (xf) => ({ re: xf.re.subarray(l * BINS, (l + 1) * BINS), im: xf.im.subarray(l * BINS, (l + 1) * BINS) });
        const own = correlate(one(filterF), one(searchF), 1, BINS, bins);
        const nine = templateGradientF(into, one(templateF), one(searchF), labelF, own, energy, 1, BINS, bins);
        const ten = templateConjGradientF(into, one(templateF), own, energy, 1, BINS, bins);
        for (const part of ["re", "im"]) { eq9[part].set(nine[part], l * BINS); eq10[part].set(ten[part], l * BINS); }
      }
    } else {
      eq9 = templateGradientF(into, templateF, searchF, labelF, x.responseF, energy, D, BINS, bins);
      eq10 = templateConjGradientF(into, templateF, x.responseF, energy, D, BINS, bins);
    }
    const conjugated = flaw === "conjugate" ? { re: eq9.re, im: eq9.im.map((im) => -im) } : eq9;
    const eq11 = irfft2(templateGradientSum(conjugated, eq10), D, N, N);
    return { dresponseF, eq7, eq8, eq9, eq10, eq11 };
  }

  /** Eqs. 6 to 11 for one channel, magnitudes of spectra; `all` adds the gradients of all channels. */
  async backward(settings, { channel, flaw, all = false }) {
    const g = await this.gradients(settings, flaw), map = (x) => Float32Array.from(x.subarray(channel * N * N, (channel + 1) * N * N));
    const seen = (xf) => wholeSpectrum(magnitudeOf(xf, channel, BINS), N);
    const out = {
      loss: g.loss, residual: Float32Array.from(g.dresponse), dresponseF: wholeSpectrum(magnitude(g.dresponseF, 1, BINS), N),
      eq7: seen(g.eq7), eq8: map(g.eq8), eq9: seen(g.eq9), eq10: seen(g.eq10), eq11: map(g.eq11),
    };
    if (all) Object.assign(out, { dsearch: Float32Array.from(g.eq8), dtemplate: Float32Array.from(g.eq11) });
    return out;
  }

  /** Gradient by the pixels of a patch: Eq. 11 or 8, then window, LRN, convolution, ReLU, convolution backwards. */
  imageGradient(branch, patch, { eq8, eq11, images }) {
    if (!images[branch]) {
      const window = hann(N), data = (branch === "template" ? eq11 : eq8).map((value, i) => value * window[i % (N * N)]);
      const { cache } = networkForward(this.centred(patch), this.weights, true);
      images[branch] = networkBackward({ data, depth: D, height: N, width: N }, this.weights, cache, true);
    }
    return images[branch];
  }

  /** dL/d patch of both branches, and by the parameters of the network: the gradients of both branches add. */
  async throughNetwork(settings, { flaw }) {
    const x = await this.intermediates(settings), g = await this.gradients(settings, flaw);
    const [template, search] = ["template", "search"].map((branch) => this.imageGradient(branch, x[branch].patch, g));
    const total = {};
    for (const name of Object.keys(this.weights)) {
      total[name] = Float32Array.from(template.gradients[name], (d, i) => d + search.gradients[name][i]);
    }
    return { template: Float32Array.from(template.dimage.data), search: Float32Array.from(search.dimage.data), parameters: total };
  }

  /** dL/d one number, by the equations and by central differences (L(+h) - L(-h)) / 2h.
   *  what: "template" or "search" features, or "template image" or "search image", green. */
  async difference(settings, { what, channel, row, column, step, flaw }) {
    const x = await this.intermediates(settings), g = await this.gradients(settings, flaw), branch = what.split(" ")[0], image = what.endsWith("image");
    const index = (image ? 1 : channel) * N * N + row * N + column;
    const analytic = image ? this.imageGradient(branch, x[branch].patch, g).dimage.data[index] : g[branch === "template" ? "eq11" : "eq8"][index];
    const value = image ? x[branch].patch.data[index] : x[branch].features[index];
    // in units of a feature's size
    const h = step * Math.sqrt(x[branch].features.reduce((sum, f) => sum + f * f, 0) / (D * N * N));
    const layerAt = async (step) => {
      const spectra = { template: x.template.spectra, search: x.search.spectra };
      if (image) {
        const patch = { ...x[branch].patch, data: x[branch].patch.data.slice() };
        patch.data[index] += step;
        ({ spectra: spectra[branch] } = await this.extract(patch));
      } else {
        const features = x[branch].features.slice(channel * N * N, (channel + 1) * N * N);
        features[row * N + column] += step;
        const one = rfft2(features, 1, N, N), old = spectra[branch];
        spectra[branch] = { re: old.re.slice(), im: old.im.slice() };
        spectra[branch].re.set(one.re, channel * BINS);
        spectra[branch].im.set(one.im, channel * BINS);
      }
      return this.layer(spectra.template, spectra.search, x).loss;
    };
    const plus = await layerAt(h), minus = await layerAt(-h);
    return { analytic, numeric: (plus - minus) / (2 * h), plus, minus, h, value };
  }

  // --- training
  // -------------------------------------------------------------------------------------------

  trainStart(_, { start }) {
    const copy = (p) => Object.fromEntries(Object.entries(p).map(([name, value]) => [name, Float64Array.from(value)]));
    const n = TRAINING.map, label = gaussianLabel(n, labelSigma(TRAINING.size));
    const pairs = [];
    for (let i = 0; i < this.frames.length; i++) for (let gap = 1; gap <= TRAINING.gap; gap++) {
      if (i + gap < this.frames.length) pairs.push([i, i + gap]);
    }
    const images = this.boxes.map(([x, y, w, h], i) =>
      this.centred(cropPatch(this.frames[i], [x + w / 2, y + h / 2], [GROW * w, GROW * h], TRAINING.size)));
    this.training = {
      parameters: copy(start === "random" ? this.random : this.weights), velocity: copy(this.weights), images, pairs, label,
      labelF: rfft2(label, 1, n, n), bins: bandBins(n, n, n), window: hann(n), size: n * ((n >> 1) + 1), step: 0,
    };
    for (const v of Object.values(this.training.velocity)) v.fill(0);
    return { w1: Float32Array.from(this.training.parameters.w1), pairs: pairs.length, decay: TRAINING.decay };
  }

  /** Loss and gradients of one pair: Eq. 4 forward, Eqs. 5 to 11 and the network backward. */
  pairGradients([i, j]) {
    const { parameters, images, label, labelF, bins, window, size } = this.training, n = TRAINING.map;
    const branches = [i, j].map((k) => networkForward(images[k], parameters, false));
    const [templateF, searchF] = branches.map(({ features }) =>
      rfft2(features.data.map((value, p) => value * window[p % (n * n)]), D, n, n));
    const energy = templateEnergy(templateF, PRESET.lam, D, size, bins);
    const filterF = learnFilter(templateF, labelF, energy, D, size, bins);
    const responseF = correlate(filterF, searchF, D, size, bins);
    const { loss, dresponse } = responseLoss(irfft2(responseF, 1, n, n), label);

    const dresponseF = rfft2(dresponse, 1, n, n);
    const eq9 = templateGradientF(dresponseF, templateF, searchF, labelF, responseF, energy, D, size, bins);
    const eq10 = templateConjGradientF(dresponseF, templateF, responseF, energy, D, size, bins);
    const both = [templateGradientSum(eq9, eq10), searchGradientF(dresponseF, filterF, D, size, bins)];
    const gradients = both.map((df, k) => {
      const data = irfft2(df, D, n, n).map((d, p) => d * window[p % (n * n)]);
      return networkBackward({ data, depth: D, height: n, width: n }, parameters, branches[k].cache, false).gradients;
    });
    return { loss, gradients };
  }

  trainStep(_, { rate }) {
    const { parameters, velocity, pairs } = this.training, total = {};
    // A stride that has no factor in common with most numbers of pairs: neighbours in a batch are
    // far apart in time.
    const batch = Array.from({ length: TRAINING.batch }, (_, k) => pairs[((this.training.step * TRAINING.batch + k) * 37) % pairs.length]);
    let loss = 0;
    for (const pair of batch) {
      const one = this.pairGradients(pair);
      loss += one.loss / TRAINING.batch;
      for (const branch of one.gradients) for (const [name, d] of Object.entries(branch)) {
        total[name] ??= new Float64Array(d.length);
        for (let i = 0; i < d.length; i++) total[name][i] += d[i] / TRAINING.batch;
      }
    }
    sgdStep(parameters, total, velocity, { rate, momentum: TRAINING.momentum, decay: TRAINING.decay });
    this.training.step++;
    const single = (p) => Object.fromEntries(Object.entries(p).map(([name, value]) => [name, Float32Array.from(value)]));
    return { step: this.training.step, loss, batch, gradients: single(total), parameters: single(parameters) };
  }

  // --- the online tracker, Eqs. 12 and 13
  // -------------------------------------------------------------------

  trackStart() {
    const [x, y, w, h] = this.box, sigma = labelSigma(N), label = gaussianLabel(N, sigma), K = labelBand(N, sigma);
    this.track = { frame: 0, centre: [x + w / 2, y + h / 2], size: [w, h], model: null,
                   labelF: rfft2(label, 1, N, N), bins: bandBins(N, N, K) };
    return this.update(0, 0);
  }

  /** Detection in the next frame at every scale, a move, an update of the model.  As `Tracker.update`. */
  async trackStep(_, { beta }) {
    const t = this.track, frame = this.frames[t.frame + 1];
    const scales = [];
    for (const [i, factor] of PRESET.scale_factors.entries()) {
      const window = t.size.map((side) => factor * side * GROW);
      const patch = cropPatch(frame, t.centre, window, N), { spectra } = await this.extract(patch);
      const responseF = modelResponseF(t.model, spectra, D, BINS, t.bins); // Eq. 3
      const response = irfft2(responseF, 1, N, N), peak = peakOf(response, N);
      scales.push({ patch, window, responseF, response, peak, weighed: peak.value * PRESET.scale_penalties[i] });
    }
    const best = scales.reduce((a, b) => (b.weighed > a.weighed ? b : a));
    t.frame += 1;
    const flat = isFlat(scales.map(({ patch }) => patch)), found = !flat && best.weighed > 0;
    if (found) {
      const [row, column] = best.peak.shift, first = this.box.slice(2);
      t.centre = [t.centre[0] + (column * best.window[0]) / N, t.centre[1] + (row * best.window[1]) / N];
      t.size = best.window.map((side, k) => {
        const smallest = Math.max(PRESET.min_scale * first[k], PRESET.min_size);
        return Math.min(Math.max(side / GROW, smallest), [frame.width, frame.height][k], PRESET.max_scale * first[k]);
      });
    }
    const response = flat ? new Float32Array(N * N) : Float32Array.from(best.response);
    const score = found ? scoreOf(best.peak.value, best.responseF, N) : 0;
    return { ...(await this.update(t.frame, found ? beta : 0)), response, score };
  }

  /** A template cut out at the new place, and what Fig. 2 shows of the model. */
  async update(number, beta) {
    const t = this.track, patch = cropPatch(this.frames[number], t.centre, t.size.map((side) => GROW * side), N);
    const { spectra } = await this.extract(patch), rate = t.model && isFlat([patch]) ? 0 : beta;
    t.model = updateModel(t.model, spectra, t.labelF, PRESET.lam, rate, D, BINS, t.bins); // Eq. 13
    const { numerator, denominator } = t.model, top = magnitude(numerator, D, BINS);
    return {
      frame: number, box: [t.centre[0] - t.size[0] / 2, t.centre[1] - t.size[1] / 2, ...t.size],
      patch: Uint8ClampedArray.from(patch.data), numerator: wholeSpectrum(top, N),
      denominator: wholeSpectrum(denominator, N),
      filter: wholeSpectrum(top.map((a, i) => (denominator[i] > 0 ? a / denominator[i] : 0)), N),
    };
  }
}
