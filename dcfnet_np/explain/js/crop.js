// From a frame to the network's input: a window, resampled to n x n pixels.  Mirrors
// vision/crop.py, single precision included (`Math.fround`), since rounding to whole grey levels
// would show the difference.

/** For each of n output pixels the two pixels of the frame that it is mixed from, and their weights: pixel j
 *  samples centre - length / 2 + j * length / (n - 1); pixels outside the frame count as zero.  inside: the j that
 *  need none of these. */
function makeTaps(centre, length, n, limit) {
  const index = new Int32Array(2 * n), weight = new Float32Array(2 * n), inside = [], step = length / (n - 1);
  for (let j = 0; j < n; j++) {
    const position = centre - length / 2 + j * step, low = Math.floor(position), share = position - low;
    [[low, 1 - share], [low + 1, share]].forEach(([i, w], k) => {
      index[2 * j + k] = Math.min(Math.max(i, 0), limit - 1);
      weight[2 * j + k] = i >= 0 && i < limit ? w : 0;
    });
    if (position >= 0 && position <= limit - 1) inside.push(j);
  }
  return { index, weight, inside };
}

/** frame: { rgba, width, height }; centre, window: [x, y], pixels.  Returns (3, n, n), BGR, whole grey levels, and
 *  `extremes`: the smallest and the largest value of each colour inside the frame. */
export function cropPatch(frame, centre, window, n) {
  const across = makeTaps(centre[0], window[0], n, frame.width), down = makeTaps(centre[1], window[1], n, frame.height);
  const f = Math.fround, out = new Float64Array(3 * n * n);
  const mix = (a, wa, b, wb) => f(f(a * wa) + f(b * wb));
  for (let r = 0; r < n; r++) {
    const top = down.index[2 * r] * frame.width, low = down.index[2 * r + 1] * frame.width;
    const wt = down.weight[2 * r], wl = down.weight[2 * r + 1];
    for (let s = 0; s < n; s++) {
      const x0 = across.index[2 * s], x1 = across.index[2 * s + 1], w0 = across.weight[2 * s], w1 = across.weight[2 * s + 1];
      for (let c = 0; c < 3; c++) {
        const k = 2 - c; // the canvas has RGB, the network wants BGR
        const left = mix(frame.rgba[(top + x0) * 4 + k], wt, frame.rgba[(low + x0) * 4 + k], wl);
        const right = mix(frame.rgba[(top + x1) * 4 + k], wt, frame.rgba[(low + x1) * 4 + k], wl);
        out[(c * n + r) * n + s] = roundToEven(mix(left, w0, right, w1));
      }
    }
  }
  const extremes = [0, 1, 2].map((c) => {
    let low = Infinity, high = 0;
    for (const r of down.inside) for (const s of across.inside) {
      const value = out[(c * n + r) * n + s];
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
    return [low, high];
  });
  return { data: out, depth: 3, height: n, width: n, extremes };
}

/** Whether patches hold nothing: one colour, to half a grey level, or no pixel of the frame at all. */
export function isFlat(patches) {
  return [0, 1, 2].every((c) => {
    const lows = patches.map(({ extremes }) => extremes[c][0]), highs = patches.map(({ extremes }) => extremes[c][1]);
    return Math.max(...highs) - Math.min(...lows) < 0.5;
  });
}

function roundToEven(x) {
  const low = Math.floor(x), rest = x - low;
  return rest === 0.5 ? low + (low % 2) : Math.round(x);
}
