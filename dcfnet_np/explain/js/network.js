// The network `light` of the paper's Table 1 (its lighter version): conv 3-32, ReLU, conv 32-32,
// LRN.  Mirrors network.py.  Parameters: { w1 (32, 3, 3, 3), b1 (32), w2 (32, 32, 3, 3), b2 (32) }.

import { convForward, convInputGradient, convWeightGradients, pad, unpad } from "./conv.js";
import { fastConvForward } from "./fast.js";
import { lrnBackward, lrnForward } from "./lrn.js";

/** Features of an image of 3 maps, the mean taken off.  same: zeros around every map keep its size,
 *  as in tracking; without, two convolutions take four pixels off, as in training. */
export function networkForward(image, { w1, b1, w2, b2 }, same) {
  const around = (x) => (same ? x.map(pad) : x);
  const x1 = around(image), a1 = convForward(x1, w1, b1);
  for (const map of a1) for (let i = 0; i < map.length; i++) if (map[i] < 0) map[i] = 0; // ReLU
  const x2 = around(a1);
  const { y, cache } = lrnForward(fastConvForward(x2, w2, b2));
  return { features: y, cache: { x1, x2, lrn: cache, same } };
}

/** The layers in reverse order.  dfeatures = dL/d features; returns the gradients of the parameters
 *  and of the image. */
export function networkBackward(dfeatures, { w1, w2 }, { x1, x2, lrn, same }) {
  const inside = (x) => (same ? x.map(unpad) : x);
  const da2 = lrnBackward(dfeatures, lrn), second = convWeightGradients(da2, x2);
  const dx2 = convInputGradient(da2, w2, fastConvForward); // ReLU: nothing passes where it was 0
  const da1 = inside(dx2.map((map, c) => map.map((d, i) => (x2[c][i] > 0 ? d : 0))));
  const first = convWeightGradients(da1, x1);
  const gradients = { w1: first.dw, b1: first.db, w2: second.dw, b2: second.db };
  return { gradients, dimage: inside(convInputGradient(da1, w1)) };
}

/** v <- momentum v + dL/dtheta + decay theta,   theta <- theta - rate v;  written in place. */
export function sgdStep(parameters, gradients, velocity, { rate, momentum, decay }) {
  for (const [name, theta] of Object.entries(parameters)) {
    const v = velocity[name], d = gradients[name];
    for (let i = 0; i < theta.length; i++) {
      v[i] = momentum * v[i] + d[i] + decay * theta[i];
      theta[i] -= rate * v[i];
    }
  }
}
