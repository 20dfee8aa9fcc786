// From a patch to windowed features and their spectra, by one worker or shared by two.

import { rfft2 } from "./fourier.js";
import { networkChannels } from "./network.js";
import { hann } from "./windows.js";

const windows = new Map();
function windowOf(n) {
  if (!windows.has(n)) windows.set(n, hann(n));
  return windows.get(n);
}

/** Room for features (channels, n, n) and their spectra { re, im }, (channels, n, n / 2 + 1). */
export function room(channels, n) {
  const bins = channels * n * ((n >> 1) + 1);
  return { features: new Float64Array(channels * n * n),
           spectra: { re: new Float64Array(bins), im: new Float64Array(bins) } };
}

/** Channels first .. last - 1 of an image (3, n, n), the mean taken off, `windowed` by the Hann window, and their
 *  spectra, written to `into`, a `room` for them. */
export function extractChannels(image, parameters, windowed, first, last, into) {
  const { data, depth, height: n } = networkChannels(image, parameters, first, last), size = n * n, window = windowOf(n);
  const { features, spectra } = into;
  features.set(data);
  if (windowed) for (let c = 0; c < depth; c++) for (let p = 0, i = c * size; p < size; p++, i++) features[i] *= window[p];
  rfft2(features, depth, n, n, spectra);
  return into;
}

/** All channels, written to `into`.  helper: of helper.js, computes the second half meanwhile; null does without. */
export async function extract(image, parameters, windowed, helper, into) {
  const channels = parameters.b2.length, n = image.height, half = helper?.ready ? channels >> 1 : channels;
  const asked = half < channels ? helper.ask(image, parameters, windowed, half, channels) : null;
  extractChannels(image, parameters, windowed, 0, half, into);
  if (asked) {
    const other = await asked, { re, im } = other.spectra;
    into.features.set(other.features, half * n * n);
    into.spectra.re.set(re, into.spectra.re.length - re.length);
    into.spectra.im.set(im, into.spectra.im.length - im.length);
  }
  return into;
}
