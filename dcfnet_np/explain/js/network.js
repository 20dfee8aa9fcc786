// The network `light` of the paper's Table 1 (its lighter version): conv 3-32, ReLU, conv 32-32,
// LRN.  Mirrors network.py.  Parameters: { w1 (32, 3, 3, 3), b1 (32), w2 (32, 32, 3, 3), b2 (32) }.

import { LRN } from "./constants.js";
import { convForward, convInputGradient, convWeightGradients, crop, pad } from "./conv.js";
import { lrnBackward, lrnForward } from "./lrn.js";
import { reused } from "./memory.js";

/** Features of an image { data, depth: 3, height, width }, the mean taken off.  same: zeros around every map keep
 *  its size, as in tracking; without, two convolutions take four pixels off, as in training. */
export function networkForward(image, parameters, same) {
  const { w1, b1, w2, b2 } = parameters, border = same ? 1 : 0;
  const h1 = relu(convForward(image, w1, b1, border));
  const { y, cache } = lrnForward(convForward(h1, w2, b2, border));
  return { features: y, cache: { image, h1, lrn: cache, same } };
}

/** Channels first .. last - 1 of the features, with `same`: work that two workers can share.  The normalisation looks
 *  at some more channels on either side, which are computed and dropped.  The result lasts until the next call. */
export function networkChannels(image, { w1, b1, w2, b2 }, first, last) {
  const memory = (name) => (length) => reused(name, length);
  const h1 = relu(convForward(image, w1, b1, 1, memory("h1"))), reach = LRN.n >> 1;
  const from = Math.max(first - reach, 0), to = Math.min(last + reach, b2.length);
  const a2 = convForward(h1, w2.subarray(from * h1.depth * 9, to * h1.depth * 9), b2.subarray(from, to), 1, memory("a2"));
  const { y } = lrnForward(a2, reused("s", a2.data.length), a2.data), size = y.height * y.width;
  return { ...y, data: y.data.subarray((first - from) * size, (last - from) * size), depth: last - first };
}

/** In place. */
function relu(x) {
  const { data } = x;
  for (let i = 0; i < data.length; i++) if (data[i] < 0) data[i] = 0;
  return x;
}

/** The layers in reverse order.  dfeatures = dL/d features; returns the gradients of the parameters and, when
 *  asked for, of the image. */
export function networkBackward(dfeatures, parameters, { image, h1, lrn, same }, wantImage) {
  const around = same ? pad : (x) => x, inside = same ? crop : (x) => x;
  const da2 = lrnBackward(dfeatures, lrn);
  const { dw: w2, db: b2 } = convWeightGradients(da2, around(h1));
  const dh1 = inside(convInputGradient(da2, parameters.w2, h1.depth));
  const da1 = { ...dh1, data: new Float64Array(dh1.data.length) };
  // ReLU: nothing where it was 0
  for (let i = 0; i < da1.data.length; i++) da1.data[i] = h1.data[i] > 0 ? dh1.data[i] : 0;
  const { dw: w1, db: b1 } = convWeightGradients(da1, around(image));
  if (!wantImage) return { gradients: { w1, b1, w2, b2 } };
  return { gradients: { w1, b1, w2, b2 }, dimage: inside(convInputGradient(da1, parameters.w1, image.depth)) };
}
