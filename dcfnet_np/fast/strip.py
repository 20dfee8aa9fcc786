"""The network and the band-limited transform on one CPU core, fast.

`network.forward` and `ops.fourier` are the definition; this is how it is computed where time
counts, in tracking and in training:

- convolutions by Winograd's F(4, 3) on images cut into tiles (`fast.winograd`), the first one, of 3
  channels, plainly;
- the cosine window costs nothing: it is an outer product, so it is multiplied into the matrices of
  the band's DFT;
- every array is made once and used again: memory that is fresh has to be mapped and cleared by the
  system first;
- a `Strip` of rows is a piece of work for one core.  The transform is linear: the spectrum of an
  image is the sum of the spectra of its strips, so strips share nothing.

docs/decisions.md says what was tried; `dcfnet bench` measures each stage against the machine.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from .. import network
from ..ops.fourier import Band, mirror_count
from ..ops.lrn import banded_matrix
from . import winograd


def supports(architecture: str | network.Architecture) -> bool:
    """Whether a network is two or more convolutions without dilation, ReLU between, LRN behind."""
    specs = network.get_architecture(architecture)
    convolutions = specs[:-1:2]
    return (
        all(isinstance(spec, network.Conv) and spec.dilation == 1 for spec in convolutions)
        and all(isinstance(spec, network.Relu) for spec in specs[1:-1:2])
        and len(specs) % 2 == 0
        and len(convolutions) > 1
        and isinstance(specs[-1], network.Lrn)
    )


class Kernels(NamedTuple):
    """Parameters in the form in which `Strip` multiplies them; made once for many images."""

    first: np.ndarray  # (O, 3(3C + 1)): the first convolution, its columns (i, (j, c) and the bias)
    transformed: list[np.ndarray]  # of every later convolution: U, (6, 1, O, 3C)
    biases: list[np.ndarray]  # (O, 1)


def make_kernels(
    parameters: network.Parameters, architecture: str | network.Architecture
) -> Kernels:
    """Transform the parameters of `architecture` for `Strip`."""
    names = [name for name, spec in network.layers(architecture) if isinstance(spec, network.Conv)]
    w = parameters[f"{names[0]}.weight"]
    o, c = w.shape[:2]
    first = np.zeros((o, 3, 3 * c + 1), w.dtype)
    first[:, :, :-1] = w.transpose(0, 2, 3, 1).reshape(o, 3, 3 * c)
    # times the ones of the middle one of three rows
    first[:, 1, -1] = parameters[f"{names[0]}.bias"]
    return Kernels(
        first.reshape(o, -1),
        [winograd.kernel_transform(parameters[f"{name}.weight"]) for name in names[1:]],
        [parameters[f"{name}.bias"][:, None] for name in names[1:]],
    )


class BandDft:
    """The band-limited transform of a windowed feature map, and its inverse, as matrices.

    band: of the map (h, w).  The map lies in the middle of an image of `shape` (H, W), (H - h) / 2
    rows from its edge: 0 with "same" padding; with "valid" padding the outer features are computed
    all the same, and left out here.  windows: two vectors, (h,) and (w,), whose outer product is
    the window, which stands in rows and columns:

        parts = rows @ (features * window) @ columns
        dfeatures = rows^T @ parts @ inverse_columns

    `join` makes a spectrum of `parts`, and `split` does the reverse, as in `ops.fourier`.
    """

    def __init__(
        self, band: Band, shape: tuple[int, int], windows: tuple[np.ndarray, np.ndarray]
    ) -> None:
        self.band = band
        (height, width), (h, w) = shape, band.shape
        top, left = (height - h) // 2, (width - w) // 2
        dtype = band.rows.dtype
        self.rows = np.zeros((len(band.rows), height), dtype)
        self.rows[:, top : top + h] = band.rows * windows[0].astype(dtype)
        columns = np.zeros((4 * -(-width // 4), band.columns.shape[1]), dtype)
        columns[left : left + w] = band.columns * windows[1].astype(dtype)[:, None]
        # Tiles keep column 4t + k of an image at place k T + t.
        tiles = columns.reshape(-1, 4, columns.shape[1]).transpose(1, 0, 2)
        self.columns = tiles.reshape(columns.shape)
        weights = mirror_count(band.shape, band, dtype) / (h * w)
        self.inverse_columns = np.ascontiguousarray((self.columns * np.repeat(weights, 2)).T)

    def join(self, parts: np.ndarray, spectrum: np.ndarray) -> None:
        """`ops.fourier.join_parts` into `spectrum`; parts are used up."""
        ku, _ = self.band.limits
        c, s = parts[..., : ku + 1, :], parts[..., ku + 1 :, :]
        s *= -1j
        np.add(c, s, out=spectrum[..., : ku + 1, :])
        np.subtract(c[..., :0:-1, :], s[..., :0:-1, :], out=spectrum[..., ku + 1 :, :])

    def split(self, spectrum: np.ndarray, parts: np.ndarray) -> None:
        """`ops.fourier.split_parts` into `parts`."""
        ku, _ = self.band.limits
        positive, negative = spectrum[..., 1 : ku + 1, :], spectrum[..., :ku:-1, :]
        even, odd = parts[..., : ku + 1, :], parts[..., ku + 1 :, :]
        even[..., 0, :] = spectrum[..., 0, :]
        odd[..., 0, :] = 0
        np.add(positive, negative, out=even[..., 1:, :])
        np.subtract(positive, negative, out=odd[..., 1:, :])
        odd *= 1j


class Strip:
    """Rows `first` to `last` of an image's features, and all the arrays that compute them.

    shape: (H, W) of images and maps ("same" padding).  One object works for one thread, on one
    image at a time; what `forward` leaves in it is what `backward` needs.
    """

    def __init__(
        self,
        architecture: str | network.Architecture,
        dft: BandDft,
        shape: tuple[int, int],
        rows: tuple[int, int] | None = None,
        dtype: Any = np.float32,
        backward: bool = False,
    ) -> None:
        """backward: keep what `backward` needs."""
        if not supports(architecture):
            raise ValueError(f"Strip: {architecture!r} is no architecture that `supports` takes")
        specs = network.get_architecture(architecture)
        convolutions = [spec for spec in specs if isinstance(spec, network.Conv)]
        (self.lrn,) = [spec for spec in specs if isinstance(spec, network.Lrn)]
        height, self.width = shape
        self.dft, self.dtype = dft, dtype
        self.first, self.last = rows or (0, height)
        # Every convolution but the last makes rows beyond the strip, for the next ones to use: a
        # halo.  Those beyond the image stay zero: that is the padding.
        halos = range(len(convolutions) - 1, -1, -1)
        heights = [self.last - self.first + 2 * halo for halo in halos]
        self.inside = [
            slice(max(0, halo - self.first), min(n, height - self.first + halo))
            for halo, n in zip(halos, heights)
        ]
        self._make_first_buffers(convolutions[0].c_in, heights[0])
        self._make_buffers([spec.c_out for spec in convolutions], heights, backward)
        if backward:
            self._make_backward_buffers()
        self.log_window: np.ndarray | None = None
        self.dpower = 0.0

    def use(self, dft: BandDft, log_window: np.ndarray | None = None) -> None:
        """Take another window of the same band from here on.

        log_window: (h, w), where the window is a power of another one, the logarithm of that one:
        `backward` then leaves the gradient by the power in `dpower`.
        """
        self.dft = dft
        np.copyto(self.dft_rows, dft.rows[:, self.first : self.last])
        self.log_window = None if log_window is None else self._as_tiles(dft, log_window)

    def _as_tiles(self, dft: BandDft, values: np.ndarray) -> np.ndarray:
        """values (h, w) of a map, as `y` has its pixels: (4, rows, tiles), zeros beyond."""
        height, (h, w) = dft.rows.shape[1], values.shape
        top, left = (height - h) // 2, (self.width - w) // 2
        padded = np.zeros((height, 4 * self.y.shape[-1]), self.dtype)
        padded[top : top + h, left : left + w] = values
        tiles = padded[self.first : self.last].reshape(-1, self.y.shape[-1], 4)
        return np.ascontiguousarray(tiles.transpose(2, 0, 1))

    def _make_first_buffers(self, c: int, rows: int) -> None:
        """The image with its padding, and im2col but for its rows: columns (j, c), then ones."""
        tiles = -(-self.width // 4)
        self.padded = np.zeros((rows + 2, c, 4 * tiles + 2), self.dtype)
        self.stack = np.zeros((4, rows + 2, 3 * c + 1, tiles), self.dtype)
        for k in range(4):  # the ones are for the bias
            self.stack[k, :, -1, : len(range(k, self.width, 4))] = 1
        self.stack_rows = winograd.kernel_rows(self.stack, rows)

    def _make_buffers(self, channels: list[int], heights: list[int], backward: bool) -> None:
        tiles, dtype = -(-self.width // 4), self.dtype
        # Of the later convolutions: input, zeros for its ReLU, V, M.
        self.maps = [
            winograd.make_tiles(n, c, self.width, dtype)
            for n, c in zip(heights[:-1], channels[:-1])
        ]
        self.zeros = [np.zeros(x.shape[1:], dtype) for x in self.maps]
        self.v = [np.zeros((6, *x.shape[1:]), dtype) for x in self.maps]
        self.v_rows = [winograd.kernel_rows(v[..., 1:], n) for v, n in zip(self.v, heights[1:])]
        self.m = [np.empty((6, n, c, tiles), dtype) for n, c in zip(heights[1:], channels[1:])]
        self.work = [np.empty(x.shape[1:], dtype) for x in self.maps]
        # Features before LRN, its s, s**beta; features after it, for the transform in the order D,
        # rows, (k, t).  What is not needed any more gives its memory: the less there is, the more
        # of it stays in the core's cache.
        n, d = heights[-1], channels[-1]
        self.y, self.s = np.empty((2, 4, n, d, tiles), dtype)
        self.power = self.m[-1][:4]
        spare = self.v[-1].reshape(-1)
        if backward or spare.size < self.y.size:  # the last convolution may widen the network
            spare = np.empty(self.y.size, dtype)
        self.features = spare[: self.y.size].reshape(d, n, 4, tiles)
        self.banded = banded_matrix(d, self.lrn.n, dtype) * np.dtype(dtype).type(self.lrn.alpha)
        self.dft_rows = np.ascontiguousarray(self.dft.rows[:, self.first : self.last])
        self.product = np.empty((d, n, self.dft.columns.shape[1]), dtype)
        self.parts = np.empty((d, len(self.dft.rows), self.dft.columns.shape[1]), dtype)

    def __reduce__(self) -> Any:
        """A copy's arrays would share no memory any more, and its numbers would be wrong."""
        raise TypeError(
            "Strip: it cannot be copied or pickled, since its arrays share memory; make another one"
        )

    @property
    def reads(self) -> slice:
        """The rows of the image that the strip depends on."""
        halo = len(self.maps) + 1
        return slice(max(self.first - halo, 0), min(self.last + halo, self.dft.rows.shape[1]))

    def forward(
        self, pixels: np.ndarray, mean: np.ndarray, kernels: Kernels, spectrum: np.ndarray
    ) -> None:
        """The spectrum of the strip's features, (D, bins) complex, into `spectrum`.

        pixels: (R, C, W), rows `reads` of the image, rows before channels; mean: (C, 1), taken off
        them.
        """
        self.read(pixels, mean)
        self.first_convolution(kernels)
        for layer in range(len(self.m)):
            self.relu(layer)
            self.convolution(layer, kernels)
        self.normalise()
        self.transform(spectrum)

    def read(self, pixels: np.ndarray, mean: np.ndarray) -> None:
        """stack[k, r, (j, c), t] = pixels[r, c, 4t + k + j - 1] - mean[c], zeros beyond."""
        n, c, width = pixels.shape
        top = self.reads.start - (self.first - len(self.maps) - 1)  # rows of padding above
        np.subtract(pixels, mean, out=self.padded[top : top + n, :, 1 : 1 + width])
        row, channel, column = self.padded.strides
        shape = 4, len(self.padded), 3, c, self.stack.shape[-1]
        columns = as_strided(self.padded, shape, (column, row, column, channel, 4 * column))
        self.stack[:, :, :-1].reshape(columns.shape)[...] = columns

    def first_convolution(self, kernels: Kernels) -> None:
        """The first convolution, plainly: rows r, r+1, r+2 of the stack are im2col's columns."""
        np.matmul(kernels.first, self.stack_rows[:, self.inside[0]], out=self._written(0))

    def relu(self, layer: int) -> None:
        """max(x, 0) of the map that convolution `layer` + 1 reads.

        An array of zeros is much faster than 0.
        """
        x = self.maps[layer]
        if self.width % 4:  # the last tile's columns beyond the image
            x[self.width % 4 :, ..., -1] = 0
        for phase in x:
            np.maximum(phase, self.zeros[layer], out=phase)

    def convolution(self, layer: int, kernels: Kernels) -> None:
        """Convolution `layer` + 1, by Winograd."""
        m = self.m[layer]
        winograd.input_transform(self.maps[layer], self.v[layer], self.work[layer])
        np.matmul(kernels.transformed[layer], self.v_rows[layer], out=m)
        m[1] += kernels.biases[layer]
        if layer + 1 < len(self.m):
            winograd.output_transform(m[:, self.inside[layer + 1]], self._written(layer + 1))
        else:
            winograd.output_transform(m, self.y)

    def _written(self, layer: int) -> np.ndarray:
        """The part of a map that a convolution writes: rows of the image, all tiles."""
        return self.maps[layer][:, self.inside[layer], :, 1:]

    def normalise(self) -> None:
        """y * s**-beta, s = k + alpha * sum of y**2 over n channels: `ops.lrn.lrn_forward`."""
        lrn, y, s, power = self.lrn, self.y, self.s, self.power
        np.multiply(y, y, out=power)
        np.matmul(self.banded, power, out=s)
        s += lrn.k
        if lrn.beta == 0.75:  # two square roots: several times as fast as a power
            np.sqrt(s, out=power)
            power *= s
            np.sqrt(power, out=power)
        else:
            np.power(s, lrn.beta, out=power)
        np.divide(y, power, out=self.features.transpose(2, 1, 0, 3))

    def transform(self, spectrum: np.ndarray) -> None:
        """The window and the band of the spectrum: two matrix products, see `ops.fourier.rfft2`."""
        features = self.features.reshape(*self.product.shape[:2], -1)
        np.matmul(features, self.dft.columns, out=self.product)
        np.matmul(self.dft_rows, self.product, out=self.parts)
        self.dft.join(self.parts.view(spectrum.dtype), spectrum)

    def _make_backward_buffers(self) -> None:
        self.dy, self.through = np.empty((2, *self.y.shape), self.dtype)
        tiles = self.y.shape[-1]
        # Gradients of M with two zero rows above and below, as rows of kernels that stand on their
        # head need them.
        shapes = [(6, m.shape[1] + 4, m.shape[2], tiles + 1) for m in self.m]
        self.dm = [np.zeros(shape, self.dtype) for shape in shapes]
        self.dm_rows = [
            winograd.kernel_rows(dm[..., 1:], v.shape[1]) for dm, v in zip(self.dm, self.v)
        ]
        self.dmaps = [
            winograd.make_tiles(x.shape[1], x.shape[2], self.width, self.dtype) for x in self.maps
        ]
        self.positive = [np.empty(x.shape[1:], bool) for x in self.maps]
        self.pixels = [
            tuple(np.empty((a.shape[1], tiles, a.shape[2]), self.dtype) for a in (m, v))
            for m, v in zip(self.m, self.v)
        ]
        shape = (*self.stack_rows.shape[:2], self.maps[0].shape[2], self.stack_rows.shape[2])
        self.first_products = np.empty(shape, self.dtype)

    def backward(
        self, dspectrum: np.ndarray, kernels: Kernels
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Gradients (dw, db) of every convolution, first to last, after the newest `forward`.

        dspectrum: (D, bins) complex, the gradient by the features in the paper's convention, Eqs. 8
        and 11.  The steps of `forward` in reverse.
        """
        self.dft.split(dspectrum, self.parts.view(dspectrum.dtype))
        np.matmul(self.dft_rows.T, self.parts, out=self.product)
        features = self.features.reshape(*self.product.shape[:2], -1)
        np.matmul(self.product, self.dft.inverse_columns, out=features)
        dy = self._lrn_backward()
        gradients = []
        for layer in reversed(range(len(self.m))):
            x, dx, v, dm = self.maps[layer], self.dmaps[layer], self.v[layer], self.dm[layer]
            winograd.output_transform_backward(dy, dm[:, 2:-2, :, 1:])
            du = winograd.kernel_products(dm[:, 2:-2, :, 1:], v[..., 1:], *self.pixels[layer])
            gradients.append((winograd.kernel_transform_backward(du), dm[1].sum(0)[:, 1:].sum(1)))
            v[..., 0] = 0  # from here on v is its own gradient
            reversed_kernel = winograd.reversed_kernel(kernels.transformed[layer])
            np.matmul(reversed_kernel, self.dm_rows[layer], out=v[..., 1:])
            winograd.input_transform_backward(v, dx, self.work[layer])
            # ReLU; what lies beyond the image is 0 and gets no gradient either
            for phase, dphase in zip(x, dx):
                dphase *= np.greater(phase, 0, out=self.positive[layer])
            dy = dx[..., 1:]
        return [self._first_gradient(dy), *reversed(gradients)]

    def _lrn_backward(self) -> np.ndarray:
        """`ops.lrn.lrn_backward`: d / s**beta - 2 alpha beta y * (sum of d * y / s**(beta + 1))."""
        dfeatures, dy, through = self.features.transpose(2, 1, 0, 3), self.dy, self.through
        np.divide(dfeatures, self.power, out=dy)
        np.multiply(dy, self.y, out=through)  # is window * dL/d(windowed feature) * feature too,
        if self.log_window is not None:  # and d(window)/d(power) = window * log_window
            self.dpower = float(np.einsum("krdt,krt->", through, self.log_window))
        through /= self.s
        np.matmul(self.banded, through, out=self.power)
        self.power *= self.y
        self.power *= 2 * self.lrn.beta
        dy -= self.power
        return dy

    def _first_gradient(self, dy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """dw, db of the first convolution, dy (4, R, O, T): dy times im2col a row, then summed."""
        np.matmul(dy, self.stack_rows.transpose(0, 1, 3, 2), out=self.first_products)
        dw = self.first_products.sum((0, 1)).reshape(dy.shape[2], 3, -1)  # (O, i, (j, c) and bias)
        db = dw[:, 1, -1].copy()
        dw = dw[:, :, :-1].reshape(len(dw), 3, 3, -1)
        return np.ascontiguousarray(dw.transpose(0, 3, 1, 2)), db
