// The network `light` of the paper's Table 1 (its lighter version): conv 3-32, ReLU, conv 32-32, LRN.  Mirrors
// network.py.  Parameters: { w1 (32, 3, 3, 3), b1 (32), w2 (32, 32, 3, 3), b2 (32) }.

import { convForward, convInputGradient, convWeightGradients, crop, pad } from "./conv.js";
import { lrnBackward, lrnForward } from "./lrn.js";

/** Features of an image { data, depth: 3, height, width }, the mean taken off.  same: zeros around every map keep
 *  its size, as in tracking; without, two convolutions take four pixels off, as in training. */
export function networkForward(image, parameters, same) {
  const { w1, b1, w2, b2 } = parameters;
  const x1 = same ? pad(image) : image;
  const a1 = convForward(x1, w1, b1);
  const h1 = { ...a1, data: new Float64Array(a1.data.length) };
  for (let i = 0; i < h1.data.length; i++) h1.data[i] = Math.max(a1.data[i], 0); // ReLU
  const x2 = same ? pad(h1) : h1;
  const a2 = convForward(x2, w2, b2);
  const { y, cache } = lrnForward(a2);
  return { features: y, cache: { x1, h1, x2, lrn: cache, same } };
}

/** The layers in reverse order.  dfeatures = dL/d features; returns the gradients of the parameters and, when
 *  asked for, of the image. */
export function networkBackward(dfeatures, parameters, { x1, h1, x2, lrn, same }, wantImage) {
  const da2 = lrnBackward(dfeatures, lrn);
  const { dw: w2, db: b2 } = convWeightGradients(da2, x2);
  const dx2 = convInputGradient(da2, parameters.w2, x2.depth);
  const dh1 = same ? crop(dx2) : dx2;
  const da1 = { ...dh1, data: new Float64Array(dh1.data.length) };
  for (let i = 0; i < da1.data.length; i++) da1.data[i] = h1.data[i] > 0 ? dh1.data[i] : 0; // ReLU: nothing where it was 0
  const { dw: w1, db: b1 } = convWeightGradients(da1, x1);
  if (!wantImage) return { gradients: { w1, b1, w2, b2 } };
  const dx1 = convInputGradient(da1, parameters.w1, x1.depth);
  return { gradients: { w1, b1, w2, b2 }, dimage: same ? crop(dx1) : dx1 };
}
