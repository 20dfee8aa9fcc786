// The two-dimensional real Fourier transform: unnormalised forward, 1/(HW) backward.  Mirrors
// ops/fourier.py.
//
// A real map keeps half of its spectrum, columns v = 0 .. W/2: X[-u, -v] = conj X[u, v].  A
// spectrum is { re, im }, each (D, H, W/2 + 1).  All arithmetic of this page is in double
// precision.

/** Twiddle factors and work space for transforms of length n, of any factors. */
function makePlan(n) {
  const factors = [];
  let rest = n;
  for (let p = 2; p * p <= rest; p++) while (rest % p === 0) { factors.push(p); rest /= p; }
  if (rest > 1) factors.push(rest);
  const cos = Float64Array.from({ length: n }, (_, k) => Math.cos((2 * Math.PI * k) / n));
  const sin = Float64Array.from({ length: n }, (_, k) => -Math.sin((2 * Math.PI * k) / n));
  return { n, factors, cos, sin };
}

const plans = new Map();
function planOf(n) {
  if (!plans.has(n)) plans.set(n, makePlan(n));
  return plans.get(n);
}

/** X[u, s] = sum over r of x[r, s] exp(-2 pi i u r / n), every column s at once: Stockham's FFT along axis 0.
 *  from, to: { re, im } of (n, width); both are overwritten.  Returns the one that holds the result. */
function fftDown(from, to, n, width) {
  const { factors, cos, sin } = planOf(n);
  let done = 1; // product of the factors done
  for (const p of factors) {
    if (p === 5) { // 125 = 5 5 5
      fives(from, to, n, width, done);
      [from, to] = [to, from];
      done *= 5;
      continue;
    }
    // numbers that share their twiddle factors
    const { re, im } = from, run = (n / (done * p)) * width;
    const c = new Float64Array(p), s = new Float64Array(p);
    for (let j = 0; j < done; j++) for (let q = 0; q < p; q++) {
      const turn = ((j + q * done) * n) / (done * p);
      for (let r = 0; r < p; r++) { c[r] = cos[(turn * r) % n]; s[r] = sin[(turn * r) % n]; }
      const first = j * p * run, out = (j + q * done) * run;
      for (let k = 0; k < run; k++) {
        let sumRe = re[first + k], sumIm = im[first + k];
        for (let r = 1, i = first + run + k; r < p; r++, i += run) {
          sumRe += re[i] * c[r] - im[i] * s[r];
          sumIm += re[i] * s[r] + im[i] * c[r];
        }
        to.re[out + k] = sumRe;
        to.im[out + k] = sumIm;
      }
    }
    [from, to] = [to, from];
    done *= p;
  }
  return from;
}

/** One factor 5 of `fftDown`, with the symmetry of the fifth roots of one: cos and sin of r and 5 - r are the same
 *  but for a sign, so sums and differences of two inputs serve two outputs. */
function fives(from, to, n, width, done) {
  const { cos, sin } = planOf(n), { re, im } = from, run = (n / (done * 5)) * width, turn = n / (done * 5);
  const c1 = Math.cos((2 * Math.PI) / 5), c2 = Math.cos((4 * Math.PI) / 5);
  const s1 = Math.sin((2 * Math.PI) / 5), s2 = Math.sin((4 * Math.PI) / 5);
  const re2 = to.re, im2 = to.im, next = done * run;
  for (let j = 0; j < done; j++) {
    const t = j * turn, wr1 = cos[t], wi1 = sin[t], wr2 = cos[2 * t], wi2 = sin[2 * t];
    const wr3 = cos[3 * t], wi3 = sin[3 * t], wr4 = cos[4 * t], wi4 = sin[4 * t];
    for (let k = 0, i = j * 5 * run, o = j * run; k < run; k++, i++, o++) {
      const i1 = i + run, i2 = i1 + run, i3 = i2 + run, i4 = i3 + run;
      const x1 = re[i1] * wr1 - im[i1] * wi1, y1 = re[i1] * wi1 + im[i1] * wr1;
      const x2 = re[i2] * wr2 - im[i2] * wi2, y2 = re[i2] * wi2 + im[i2] * wr2;
      const x3 = re[i3] * wr3 - im[i3] * wi3, y3 = re[i3] * wi3 + im[i3] * wr3;
      const x4 = re[i4] * wr4 - im[i4] * wi4, y4 = re[i4] * wi4 + im[i4] * wr4;
      const ax = x1 + x4, ay = y1 + y4, bx = x1 - x4, by = y1 - y4; // of r = 1 and 4
      const cx = x2 + x3, cy = y2 + y3, dx = x2 - x3, dy = y2 - y3; // of r = 2 and 3
      const px = re[i] + c1 * ax + c2 * cx, py = im[i] + c1 * ay + c2 * cy, qx = s1 * bx + s2 * dx, qy = s1 * by + s2 * dy;
      const ux = re[i] + c2 * ax + c1 * cx, uy = im[i] + c2 * ay + c1 * cy, vx = s2 * bx - s1 * dx, vy = s2 * by - s1 * dy;
      re2[o] = re[i] + ax + cx; im2[o] = im[i] + ay + cy;
      re2[o + next] = px + qy; im2[o + next] = py - qx;
      re2[o + 2 * next] = ux + vy; im2[o + 2 * next] = uy - vx;
      re2[o + 3 * next] = ux - vy; im2[o + 3 * next] = uy + vx;
      re2[o + 4 * next] = px - qy; im2[o + 4 * next] = py + qx;
    }
  }
}

function transposed(x, height, width, out) {
  for (let r = 0; r < height; r++) for (let s = 0; s < width; s++) out[s * height + r] = x[r * width + s];
}

const complex = (length) => ({ re: new Float64Array(length), im: new Float64Array(length) });

/** Complex transform of z, (height, width), along both axes; returns (width, height), transposed.  z and `spare`, of
 *  the same size, are overwritten; one of them holds the result. */
function fft2(z, spare, height, width) {
  const rows = fftDown(z, spare, height, width), turned = rows === z ? spare : z;
  transposed(rows.re, height, width, turned.re);
  transposed(rows.im, height, width, turned.im);
  return fftDown(turned, rows, width, height);
}

/** rfft2: x (D, H, W) real to its half spectrum, `out`.  Two maps a, b share a transform: a + i b, taken apart after. */
export function rfft2(x, depth, height, width, out = complex(depth * height * ((width >> 1) + 1))) {
  const columns = (width >> 1) + 1, size = height * width;
  const z = complex(size), spare = complex(size);
  for (let d = 0; d < depth; d += 2) {
    const pair = d + 1 < depth;
    z.re.set(x.subarray(d * size, (d + 1) * size));
    if (pair) z.im.set(x.subarray((d + 1) * size, (d + 2) * size)); else z.im.fill(0);
    const { re, im } = fft2(z, spare, height, width);
    for (let v = 0; v < columns; v++) for (let u = 0; u < height; u++) {
      // the mirror bin
      const i = v * height + u, m = ((width - v) % width) * height + ((height - u) % height);
      const a = d * height * columns + u * columns + v, b = a + height * columns;
      out.re[a] = (re[i] + re[m]) / 2;
      out.im[a] = (im[i] - im[m]) / 2;
      if (pair) {
        out.re[b] = (im[i] + im[m]) / 2;
        out.im[b] = (re[m] - re[i]) / 2;
      }
    }
  }
  return out;
}

/** irfft2: the real maps (D, H, W) of odd width whose half spectra are xf.  A bin of a column v > 0 stands for itself
 *  and for its mirror image, so it counts twice; `mirrored = false` forgets that, to show what happens. */
export function irfft2(xf, depth, height, width, mirrored = true) {
  const columns = (width >> 1) + 1, size = height * width, out = new Float64Array(depth * size);
  const z = complex(size), spare = complex(size);
  for (let d = 0; d < depth; d += 2) {
    const pair = d + 1 < depth;
    // The full spectrum of a + i b, conjugated: F^-1(z) = conj(F(conj z)) / (HW).
    for (let u = 0; u < height; u++) for (let v = 0; v < width; v++) {
      const stored = v < columns, uu = stored ? u : (height - u) % height, vv = stored ? v : width - v;
      const a = d * height * columns + uu * columns + vv, b = a + height * columns, sign = stored ? 1 : -1;
      const i = u * width + v, count = mirrored || v === 0 ? 1 : 1 / 2;
      z.re[i] = count * (xf.re[a] - (pair ? sign * xf.im[b] : 0));
      z.im[i] = -count * (sign * xf.im[a] + (pair ? xf.re[b] : 0));
    }
    const { re, im } = fft2(z, spare, height, width);
    for (let r = 0; r < height; r++) for (let s = 0; s < width; s++) {
      out[d * size + r * width + s] = re[s * height + r] / size;
      if (pair) out[(d + 1) * size + r * width + s] = -im[s * height + r] / size;
    }
  }
  return out;
}

/** Indices, in one map's half spectrum, of the bins |u| <= K, v <= K: the band.  K >= W/2 keeps all. */
export function bandBins(height, width, K) {
  const columns = (width >> 1) + 1, bins = [];
  for (let u = 0; u < height; u++) for (let v = 0; v < columns; v++) {
    if (Math.min(u, height - u) <= K && v <= K) bins.push(u * columns + v);
  }
  return Int32Array.from(bins);
}
