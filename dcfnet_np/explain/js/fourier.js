// The two-dimensional real Fourier transform: unnormalised forward, 1 / n^2 backward.  Mirrors
// ops/fourier.py, and the two windows of vision/windows.py.
//
// A real map (n, n), n odd, keeps half of its spectrum, the columns v = 0 .. n/2, since
// X[-u, -v] = conj X[u, v].  A spectrum is { re, im }, each (n, n/2 + 1).

import { NEGLIGIBLE } from "./constants.js";
import { sideOf } from "./conv.js";
import { fastPassOfFive } from "./fast.js";

export const columnsOf = (n) => (n >> 1) + 1;
export const spectrum = (size) => ({ re: new Float64Array(size), im: new Float64Array(size) });

/** X[u, s] = sum over r of x[r, s] exp(-2 pi i u r / n), each of the `width` columns s by itself:
 *  Stockham's FFT, one pass from `from` to `to` and back for each prime factor p of n.  Returns the
 *  one that holds the result. */
function fftDown(from, to, n, width) {
  for (let p = 2, done = 1; done < n; p++) for (; (n / done) % p === 0; done *= p) {
    const pass = p === 5 ? fastPassOfFive : fftPass;
    pass(from, to, p, done, (n / done / p) * width);
    [from, to] = [to, from];
  }
  return from;
}

/** A factor p after those whose product is `done`; `run` numbers share a twiddle factor. */
export function fftPass(from, to, p, done, run) {
  for (let j = 0; j < done; j++) for (let q = 0; q < p; q++) {
    const out = (j + q * done) * run;
    for (const part of [to.re, to.im]) part.fill(0, out, out + run);
    for (let r = 0; r < p; r++) {
      const turn = (-2 * Math.PI * r * (j + q * done)) / (done * p);
      addTurned(from, (j * p + r) * run, to, out, run, Math.cos(turn), Math.sin(turn));
    }
  }
}

/** y[k] += x[i] (c + i s) for `run` numbers. */
function addTurned({ re, im }, i, { re: yRe, im: yIm }, k, run, c, s) {
  for (const end = k + run; k < end; k++, i++) {
    yRe[k] += re[i] * c - im[i] * s;
    yIm[k] += re[i] * s + im[i] * c;
  }
}

/** x (rows, columns) into y (columns, rows). */
function transpose(x, rows, columns, y) {
  for (let r = 0; r < rows; r++) {
    for (let s = 0; s < columns; s++) y[s * rows + r] = x[r * columns + s];
  }
}

const spaces = new Map(); // work space, used again: fresh memory costs as much as a transform
function workspace(n) {
  if (!spaces.has(n)) spaces.set(n, [spectrum(n * n), spectrum(n * n)]);
  return spaces.get(n);
}

/** A map's half spectrum: along the rows first, of which half is kept, then down the columns. */
export function rfft2(x) {
  const n = sideOf(x), stored = columnsOf(n), [a, b] = workspace(n);
  transpose(x, n, n, a.re);
  a.im.fill(0);
  const rows = fftDown(a, b, n, n), turned = rows === a ? b : a;
  for (const part of ["re", "im"]) transpose(rows[part], stored, n, turned[part]);
  const { re, im } = fftDown(turned, rows, n, stored);
  return { re: re.slice(0, n * stored), im: im.slice(0, n * stored) };
}

/** The map of a half spectrum, by F^-1(z) = conj(F(conj z)) / n^2.  A bin of a column v > 0 stands
 *  for its mirror image too and counts twice; `mirrored = false` forgets that, to show it. */
export function irfft2(xf, n, mirrored = true) {
  const stored = columnsOf(n), [a, b] = workspace(n), map = new Float64Array(n * n);
  for (let i = 0; i < n * stored; i++) {
    const count = (mirrored && i % stored ? 2 : 1) / (n * n);
    a.re[i] = count * xf.re[i];
    a.im[i] = -count * xf.im[i];
  }
  const columns = fftDown(a, b, n, stored), turned = columns === a ? b : a;
  for (const part of ["re", "im"]) {
    transpose(columns[part], n, stored, turned[part]);
    turned[part].fill(0, stored * n); // the columns that are not stored
  }
  transpose(fftDown(turned, columns, n, n).re, n, n, map);
  return map;
}

/** Indices, in a half spectrum, of the bins |u| <= K, v <= K: the band.  K >= n/2 keeps all. */
export function bandBins(n, K) {
  const bins = [];
  for (let u = 0; u < n; u++) for (let v = 0; v <= Math.min(K, n >> 1); v++) {
    if (Math.min(u, n - u) <= K) bins.push(u * columnsOf(n) + v);
  }
  return bins;
}

/** The band that a Gaussian of sigma map pixels needs in single precision: beyond `reach` standard
 *  deviations in frequency its spectrum is negligible.  K = ceil(reach n / (2 pi sigma)). */
export function labelBand(n, sigma) {
  const reach = Math.sqrt(-2 * Math.log(NEGLIGIBLE));
  return Math.min(Math.ceil((reach * n) / (2 * Math.PI * sigma)), n >> 1);
}

/** An index on a circle of n, as far from 0 as it is. */
export const wrapped = (i, n) => (i > n >> 1 ? i - n : i);

const line = (n, height) => Float64Array.from({ length: n }, (_, i) => height(i));
/** The map whose pixels are the products of their row's and their column's number. */
const outer = (one, n = one.length) => line(n * n, (i) => one[Math.floor(i / n)] * one[i % n]);

/** The desired response y: a Gaussian of sigma map pixels, its peak rolled to (0, 0). */
export const gaussianLabel = (n, sigma) =>
  outer(line(n, (i) => Math.exp(-(wrapped(i, n) ** 2) / (2 * sigma ** 2))));

/** Hann window: zero at the edges, so that the circular correlation sees no seam. */
export const hann = (n) => outer(line(n, (i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / (n - 1))));
