// One experiment: everything between the frames and the numbers on the page.  Runs in a worker, see
// worker.js, where each method answers a question of the page.

import { PRESET, TRAINING } from "./constants.js";
import { cropPatch, isFlat } from "./crop.js";
import { dcfBackward, dcfForward, templateEnergy } from "./dcf.js";
import { modelResponseF, updateModel } from "./filter.js";
import { bandBins, columnsOf, gaussianLabel, hann, irfft2, labelBand, rfft2,
         wrapped } from "./fourier.js";
import { networkBackward, networkForward, sgdStep } from "./network.js";
import { throughTime, throughTimeBackward } from "./recurrent.js";

const N = PRESET.input_size; // pixels of a patch and of its maps
const GROW = 1 + PRESET.padding; // a window is so many times the target
const WINDOW = hann(N);

/** Standard deviation of the wish on a map of n pixels. */
const labelSigma = (n) => (PRESET.sigma_factor * n) / GROW;
const middleOf = ([x, y, w, h]) => [x + w / 2, y + h / 2];
const masked = (maps, window) => maps.map((map) => {
  const out = map.slice(); // a loop, here and there: `map` of a typed array is slow
  for (let i = 0; i < out.length; i++) out[i] *= window[i];
  return out;
});
const total = (a, b) => Object.fromEntries(
  Object.entries(a).map(([name, values]) => [name, values.map((value, i) => value + b[name][i])]));

/** The square root of the sum over channels of |x_f|^2, (bins). */
function magnitude(spectra, bins = [...spectra[0].re.keys()]) {
  return templateEnergy(spectra, 0, bins).map(Math.sqrt);
}

/** A value for every stored bin as a picture of the whole spectrum, frequency 0 in the middle. */
function wholeSpectrum(values, n = N) {
  const columns = columnsOf(n), out = new Float64Array(n * n), half = n >> 1;
  for (let r = 0; r < n; r++) for (let s = 0; s < n; s++) {
    const u = (r - half + n) % n, v = s - half;
    out[r * n + s] = v >= 0 ? values[u * columns + v] : values[((n - u) % n) * columns - v];
  }
  return out;
}

/** The largest value, and how far it is from (0, 0) on the circle: [row, column]. */
function peakOf(map, n = N) {
  let best = 0;
  map.forEach((value, i) => { if (value > map[best]) best = i; });
  return { value: map[best], shift: [wrapped(Math.floor(best / n), n), wrapped(best % n, n)] };
}

/** How well a target was recognised, from 0 to 1, by the peak of its response: as `score_of`. */
export function scoreOf(peak, responseF, n = N) {
  if (peak <= 1) return Math.max(peak, 0);
  let amplitude = 0; // of the whole spectrum, of which half is stored
  magnitude([responseF]).forEach((value, i) => {
    const v = i % columnsOf(n);
    amplitude += value * (v === 0 || 2 * v === n ? 1 : 2);
  });
  return Math.min((peak * n * n) / amplitude, 1);
}

export class Session {
  /** frames: [{ rgba, width, height }]; box: the target in frame 0, [x, y, w, h]; boxes: in every
   *  frame, for training; weights, random: parameters of the network; mean: of the image, BGR. */
  constructor(start) {
    Object.assign(this, start);
    this.kept = new Map();
    this.sent = {};
  }

  /** The value of `make` for these inputs: made once, kept until the inputs change. */
  keep(name, inputs, make) {
    const key = JSON.stringify(inputs);
    if (this.kept.get(name)?.key !== key) this.kept.set(name, { key, value: make() });
    return this.kept.get(name).value;
  }

  // --- forward: Eqs. 2 and 3

  centred(maps) { return maps.map((map, c) => map.map((value) => value - this.mean[c])); }

  /** From a patch to its features and their spectra. */
  extract(patch, window = WINDOW) {
    const { features } = networkForward(this.centred(patch.maps), this.weights, true);
    const seen = masked(features, window);
    return { patch, features: seen, spectra: seen.map(rfft2) };
  }

  branch(name, frame, centre, padding) {
    return this.keep(name, [frame, centre, padding], () => {
      const window = this.box.slice(2).map((side) => side * (1 + padding));
      return this.extract(cropPatch(this.frames[frame], centre, window, N));
    });
  }

  /** All intermediates for the page's settings; what is slow is computed only where it changes. */
  intermediates(settings) {
    const { frame, centre, padding, sigmaFactor, lambda, band } = settings;
    const template = this.branch("template", 0, middleOf(this.box), padding);
    const search = this.branch("search", frame, centre, padding);
    const sigma = (sigmaFactor * N) / (1 + padding), K = band ?? labelBand(N, sigma);
    const wish = this.keep("label", sigma, () => {
      const label = gaussianLabel(N, sigma);
      return { label, labelF: rfft2(label) };
    });
    return this.keep("layer", { ...settings, channel: 0 }, () => {
      const given = { ...wish, bins: bandBins(N, K), lambda };
      return { template, search, sigma, K, ...dcfForward(template.spectra, search.spectra, given) };
    });
  }

  /** What the page shows of them, without patches and features that it has already. */
  forward(settings) {
    const x = this.intermediates(settings), { bins, filterF } = x, parts = {};
    for (const name of ["template", "search"]) {
      const { patch, features } = x[name];
      if (this.sent[name] !== features) parts[name] = { patch: patch.maps, features };
      this.sent[name] = features;
    }
    const energy = this.keep("energy", settings.padding, () =>
      templateEnergy(x.template.spectra, 0, bandBins(N, N)));
    const energies = Float64Array.from(bins, (i) => energy[i]).sort();
    return {
      ...parts, label: x.label, sigma: x.sigma, K: x.K, energies, energy: wholeSpectrum(energy),
      filter: wholeSpectrum(magnitude(filterF, bins)),
      filterImage: irfft2(filterF[settings.channel], N),
      response: x.response, loss: x.loss, peak: peakOf(x.response),
    };
  }

  /** The response as it should be, and with one mistake. */
  broken(settings, flaw) {
    const right = this.intermediates(settings), { templateF, searchF } = right;
    const wrong = {
      none: () => right,
      lambda: () => dcfForward(templateF, searchF, { ...right, lambda: 0 }),
      single: () => dcfForward(templateF.slice(0, 1), searchF.slice(0, 1), { ...right, lambda: 0 }),
      hann: () => {
        const bare = (name) => this.keep(`bare ${name}`, this.kept.get(name).key, () =>
          this.extract(right[name].patch, WINDOW.map(() => 1)).spectra);
        return dcfForward(bare("template"), bare("search"), right);
      },
    }[flaw] ?? (() => dcfForward(templateF, searchF, right, flaw));
    const shown = ({ response, loss }) => ({ response, loss, peak: peakOf(response) });
    return [right, wrong()].map(shown);
  }

  // --- backward: Eqs. 5 to 11

  gradients(settings, flaw) {
    const x = this.intermediates(settings);
    return this.keep("gradients", [{ ...settings, channel: 0 }, flaw], () =>
      ({ ...x, ...dcfBackward(x, flaw), through: {} }));
  }

  /** Eqs. 6 to 11 for one channel, magnitudes of spectra. */
  backward(settings, flaw) {
    const g = this.gradients(settings, flaw), l = settings.channel;
    const seen = (spectrum) => wholeSpectrum(magnitude([spectrum]));
    return { residual: g.dresponse, eq6: seen(g.eq6), eq7: seen(g.eq7[l]), eq8: g.eq8[l],
             eq9: seen(g.eq9[l]), eq10: seen(g.eq10[l]), eq11: g.eq11[l] };
  }

  /** Eq. 11 or 8, then window, LRN, convolution, ReLU, convolution backwards. */
  throughNetwork(branch, g) {
    if (!g.through[branch]) {
      const { cache } = networkForward(this.centred(g[branch].patch.maps), this.weights, true);
      const dfeatures = masked(branch === "template" ? g.eq11 : g.eq8, WINDOW);
      g.through[branch] = networkBackward(dfeatures, this.weights, cache);
    }
    return g.through[branch];
  }

  /** All arrays, for the console and for tests. */
  arrays(settings) {
    const g = this.gradients(settings, "none");
    const [x, z] = ["template", "search"].map((branch) => this.throughNetwork(branch, g));
    return {
      features: [g.template.features, g.search.features], filterF: g.filterF, response: g.response,
      peak: peakOf(g.response), loss: g.loss, dsearch: g.eq8, dtemplate: g.eq11,
      dimages: [x.dimage, z.dimage], parameters: total(x.gradients, z.gradients),
    };
  }

  /** dL/d one number, by the equations and by central differences (L(+h) - L(-h)) / 2h.
   *  branch: "template" or "search"; image: of its picture, green, or else of its features. */
  difference(settings, { branch, image, row, column, step, flaw }) {
    const g = this.gradients(settings, flaw), { patch, features } = g[branch], p = row * N + column;
    const channel = image ? 1 : settings.channel, maps = image ? patch.maps : features;
    const byFeatures = branch === "template" ? g.eq11 : g.eq8;
    const gradient = image ? this.throughNetwork(branch, g).dimage : byFeatures;
    const squares = features.map((map) => map.reduce((sum, f) => sum + f * f, 0));
    // in units of a feature's size
    const h = step * Math.sqrt(squares.reduce((a, b) => a + b) / (squares.length * N * N));
    const lossAt = (change) => {
      const moved = [...maps], spectra = { template: g.templateF, search: g.searchF };
      moved[channel] = maps[channel].map((value, i) => (i === p ? value + change : value));
      spectra[branch] = image ? this.extract({ maps: moved }).spectra
        : spectra[branch].map((old, l) => (l === channel ? rfft2(moved[l]) : old));
      return dcfForward(spectra.template, spectra.search, g).loss;
    };
    const plus = lossAt(h), minus = lossAt(-h), numeric = (plus - minus) / (2 * h);
    return { analytic: gradient[channel][p], numeric, plus, minus, h, value: maps[channel][p] };
  }

  // --- training

  trainStart(start) {
    const n = TRAINING.map, label = gaussianLabel(n, labelSigma(TRAINING.size)), pairs = [];
    for (let i = 0; i < this.frames.length; i++) {
      const last = Math.min(i + TRAINING.gap, this.frames.length - 1);
      for (let j = i + 1; j <= last; j++) pairs.push([i, j]);
    }
    const images = this.boxes.map((box, i) => {
      const window = box.slice(2).map((side) => GROW * side);
      return this.centred(cropPatch(this.frames[i], middleOf(box), window, TRAINING.size).maps);
    });
    const parameters = structuredClone(start === "random" ? this.random : this.weights);
    const velocity = structuredClone(parameters);
    for (const v of Object.values(velocity)) v.fill(0);
    this.training = {
      parameters, velocity, images, pairs, window: hann(n), step: 0,
      given: { label, labelF: rfft2(label), bins: bandBins(n, n), lambda: PRESET.lam },
    };
    return { w1: parameters.w1, decay: TRAINING.decay };
  }

  /** Loss and gradients of a pair of frames: Eq. 4 forward, Eqs. 5 to 11 and network backward. */
  pairGradients(pair) {
    const { parameters, images, window, given } = this.training;
    const branches = pair.map((i) => networkForward(images[i], parameters, false));
    const spectra = branches.map(({ features }) => masked(features, window).map(rfft2));
    const forward = dcfForward(...spectra, given), { eq8, eq11 } = dcfBackward(forward);
    const [template, search] = [eq11, eq8].map((d, k) =>
      networkBackward(masked(d, window), parameters, branches[k].cache).gradients);
    return { loss: forward.loss, gradients: total(template, search) };
  }

  trainStep(rate) {
    const t = this.training, { batch: count, momentum, decay } = TRAINING;
    // A stride that has no factor in common with most numbers of pairs: neighbours in a batch are
    // far apart in time.
    const first = t.step * count, next = (k) => t.pairs[((first + k) * 37) % t.pairs.length];
    const batch = Array.from({ length: count }, (_, k) => next(k));
    const results = batch.map((pair) => this.pairGradients(pair));
    const loss = results.reduce((sum, one) => sum + one.loss, 0) / count, gradients = {};
    for (const [name, sum] of Object.entries(results.map((one) => one.gradients).reduce(total))) {
      gradients[name] = sum.map((value) => value / count);
    }
    sgdStep(t.parameters, gradients, t.velocity, { rate, momentum, decay });
    return { step: ++t.step, loss, batch, gradients, parameters: t.parameters };
  }

  // --- the online tracker, Eqs. 12 and 13

  trackStart() {
    const sigma = labelSigma(N), bins = bandBins(N, labelBand(N, sigma));
    this.track = { frame: 0, centre: middleOf(this.box), size: this.box.slice(2), model: null,
                   labelF: rfft2(gaussianLabel(N, sigma)), bins, templates: [], search: null };
    return this.learn(0);
  }

  /** Detection in the next frame at every scale, a move, an update of the model. */
  trackStep(beta) {
    const t = this.track, frame = this.frames[++t.frame];
    const scales = PRESET.scale_factors.map((factor, i) => {
      const window = t.size.map((side) => factor * side * GROW);
      const { patch, spectra } = this.extract(cropPatch(frame, t.centre, window, N));
      const responseF = modelResponseF(t.model, spectra, t.bins); // Eq. 3
      const response = irfft2(responseF, N), peak = peakOf(response);
      const weighed = peak.value * PRESET.scale_penalties[i];
      return { patch, window, spectra, responseF, response, peak, weighed };
    });
    const best = scales.reduce((a, b) => (b.weighed > a.weighed ? b : a));
    t.search = best.spectra;
    const flat = isFlat(scales.map(({ patch }) => patch), N), found = !flat && best.weighed > 0;
    if (found) this.move(best, frame);
    const score = found ? scoreOf(best.peak.value, best.responseF) : 0;
    const response = flat ? new Float64Array(N * N) : best.response;
    return { ...this.learn(found ? beta : 0), response, score };
  }

  /** To the peak, and to the size of the scale that has it, within the preset's limits. */
  move({ peak: { shift: [row, column] }, window }, { width, height }) {
    const t = this.track, first = this.box.slice(2), { min_scale, min_size, max_scale } = PRESET;
    t.centre = [t.centre[0] + (column * window[0]) / N, t.centre[1] + (row * window[1]) / N];
    t.size = window.map((side, k) => {
      const smallest = Math.max(min_scale * first[k], min_size);
      const largest = Math.min([width, height][k], max_scale * first[k]);
      return Math.min(Math.max(side / GROW, smallest), largest);
    });
  }

  /** A template cut out at the new place, and what Fig. 2 shows of the model. */
  learn(beta) {
    const t = this.track, window = t.size.map((side) => GROW * side);
    const { patch, spectra } = this.extract(cropPatch(this.frames[t.frame], t.centre, window, N));
    const rate = t.model && isFlat([patch], N) ? 0 : beta;
    t.model = updateModel(t.model, spectra, t.labelF, PRESET.lam, rate, t.bins); // Eq. 13
    if (rate > 0 || t.search === null) t.templates.push(spectra);
    const { denominator } = t.model, top = magnitude(t.model.numerator);
    return {
      frame: t.frame, box: [t.centre[0] - t.size[0] / 2, t.centre[1] - t.size[1] / 2, ...t.size],
      patch: patch.maps, numerator: wholeSpectrum(top), denominator: wholeSpectrum(denominator),
      filter: wholeSpectrum(top.map((a, i) => (denominator[i] > 0 ? a / denominator[i] : 0))),
    };
  }
  /** Each template's share of the gradient of || g - g~ ||^2, g the newest response and g~ the
   *  label at its peak, had the filter been learnt with this beta.  [] before a response. */
  trackReach(beta) {
    const { templates, search, labelF, bins } = this.track;
    if (!search) return [];
    const given = { labelF, bins, lambda: PRESET.lam };
    const before = templates.slice(0, -1), forward = throughTime(before, search, given, beta);
    const response = irfft2(forward.responseF, N), { shift } = peakOf(response);
    const label = gaussianLabel(N, labelSigma(N)), inside = (k) => ((k % N) + N) % N;
    const dresponse = response.map((g, p) => {
      const row = inside(Math.floor(p / N) - shift[0]), column = inside((p % N) - shift[1]);
      return 2 * (g - label[row * N + column]);
    });
    const twice = (i) => (i % columnsOf(N) ? 2 : 1); // a bin that stands for its mirror image too
    const size = (one) =>
      Math.sqrt(templateEnergy(one, 0, bins).reduce((sum, e, i) => sum + twice(i) * e, 0));
    const dg = rfft2(dresponse);
    const sizes = throughTimeBackward(dg, before, search, given, beta, forward).map(size);
    const sum = sizes.reduce((a, b) => a + b);
    return sizes.map((one) => one / sum);
  }
}
