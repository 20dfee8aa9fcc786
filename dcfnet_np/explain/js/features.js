// From a patch to windowed features and their spectra, by one worker or shared by two.

import { rfft2 } from "./fourier.js";
import { networkChannels } from "./network.js";
import { hann } from "./windows.js";

const windows = new Map();
function windowOf(n) {
  if (!windows.has(n)) windows.set(n, hann(n));
  return windows.get(n);
}

/** Channels first .. last - 1 of an image (3, n, n), the mean taken off: features (channels, n, n), `windowed` by the
 *  Hann window, and spectra { re, im } (channels, n, n / 2 + 1). */
export function extractChannels(image, parameters, windowed, first, last) {
  const { data, depth, height: n } = networkChannels(image, parameters, first, last), size = n * n, window = windowOf(n);
  if (windowed) for (let c = 0; c < depth; c++) for (let p = 0, i = c * size; p < size; p++, i++) data[i] *= window[p];
  return { features: data, spectra: rfft2(data, depth, n, n) };
}

/** One list of channels after another, as one. */
function joined(a, b) {
  const both = new Float64Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

/** All channels.  helper: of helper.js, computes the second half meanwhile; null does without. */
export async function extract(image, parameters, windowed, helper) {
  const channels = parameters.b2.length, half = channels >> 1;
  if (!helper?.ready) return extractChannels(image, parameters, windowed, 0, channels);
  const asked = helper.ask(image, parameters, windowed, half, channels);
  const a = extractChannels(image, parameters, windowed, 0, half), b = await asked;
  return { features: joined(a.features, b.features),
           spectra: { re: joined(a.spectra.re, b.spectra.re), im: joined(a.spectra.im, b.spectra.im) } };
}
