// From a frame to the network's input: a window, resampled to n x n pixels.  Mirrors
// vision/crop.py, single precision included (`Math.fround`), since rounding to whole grey levels
// would show the difference.

/** For each of n output pixels the two pixels of the frame that it is mixed from, and their
 *  weights: pixel j samples centre - length / 2 + j * length / (n - 1); outside the frame all is
 *  zero.  inside: the j that need no pixel from outside. */
function makeTaps(centre, length, n, limit) {
  const taps = [], inside = [], within = (i) => Math.min(Math.max(i, 0), limit - 1);
  for (let j = 0; j < n; j++) {
    const position = centre - length / 2 + (j * length) / (n - 1), low = Math.floor(position);
    const weight = (i, share) => (i === within(i) ? Math.fround(share) : 0);
    taps.push({ low: within(low), wLow: weight(low, 1 - (position - low)),
                high: within(low + 1), wHigh: weight(low + 1, position - low) });
    if (position >= 0 && position <= limit - 1) inside.push(j);
  }
  return { taps, inside };
}

/** frame: { rgba, width, height }; centre, window: [x, y], pixels.  Returns { maps, rows,
 *  columns }: blue, green, red in whole grey levels, and what lies inside the frame. */
export function cropPatch({ rgba, width, height }, centre, window, n) {
  const f = Math.fround, mix = (a, wa, b, wb) => f(f(a * wa) + f(b * wb));
  const across = makeTaps(centre[0], window[0], n, width);
  const down = makeTaps(centre[1], window[1], n, height);
  const maps = [2, 1, 0].map((colour) => { // the canvas has RGB, the network wants BGR
    const pixel = (row, column) => rgba[(row * width + column) * 4 + colour];
    const map = new Float64Array(n * n);
    down.taps.forEach((y, r) => across.taps.forEach((x, s) => {
      const left = mix(pixel(y.low, x.low), y.wLow, pixel(y.high, x.low), y.wHigh);
      const right = mix(pixel(y.low, x.high), y.wLow, pixel(y.high, x.high), y.wHigh);
      map[r * n + s] = roundToEven(mix(left, x.wLow, right, x.wHigh));
    }));
    return map;
  });
  return { maps, rows: down.inside, columns: across.inside };
}

/** Whether patches hold nothing: one colour, to half a grey level, or no pixel of the frame. */
export function isFlat(patches, n) {
  return [0, 1, 2].every((colour) => {
    const seen = patches.flatMap(({ maps, rows, columns }) =>
      rows.flatMap((r) => columns.map((s) => maps[colour][r * n + s])));
    const low = seen.reduce((a, b) => Math.min(a, b), Infinity);
    return seen.every((value) => value - low < 0.5);
  });
}

function roundToEven(x) {
  const low = Math.floor(x), rest = x - low;
  return rest === 0.5 ? low + (low % 2) : Math.round(x);
}
