"""The definitions, as loops: slow, plain, and written without a look at the library."""

import numpy as np


def conv2d(x, w, b, padding, dilation):
    n, c, height, width = x.shape
    o, _, kh, kw = w.shape
    oh, ow = height + 2 * padding - dilation * (kh - 1), width + 2 * padding - dilation * (kw - 1)
    y = np.zeros((n, o, oh, ow), x.dtype)
    for image, out, row, column in np.ndindex(n, o, oh, ow):
        total = b[out]
        for channel, i, j in np.ndindex(c, kh, kw):
            source_row, source_column = (
                row + i * dilation - padding,
                column + j * dilation - padding,
            )
            if 0 <= source_row < height and 0 <= source_column < width:
                total += w[out, channel, i, j] * x[image, channel, source_row, source_column]
        y[image, out, row, column] = total
    return y


def lrn(x, n, k, alpha, beta):
    y = np.zeros_like(x)
    for image, c, row, column in np.ndindex(*x.shape):
        total = k
        for q in range(x.shape[1]):
            if abs(q - c) <= n // 2:
                total += alpha * x[image, q, row, column] ** 2
        y[image, c, row, column] = x[image, c, row, column] * total**-beta
    return y


def dft2(x):
    """Full two-dimensional DFT of one image, unnormalised."""
    height, width = x.shape
    out = np.zeros((height, width), complex)
    for u, v, row, column in np.ndindex(height, width, height, width):
        out[u, v] += x[row, column] * np.exp(-2j * np.pi * (u * row / height + v * column / width))
    return out


def circular_correlation(w, x):
    """(w * x)[r, s] = sum over i, j of w[i, j] x[r + i, s + j], indices modulo the size."""
    height, width = x.shape
    out = np.zeros((height, width))
    for row, column, i, j in np.ndindex(height, width, height, width):
        out[row, column] += w[i, j] * x[(row + i) % height, (column + j) % width]
    return out


def crop(frame, centre, window, size):
    """One patch (3, size, size), bilinear, zeros outside; window (w, h), centre (x, y)."""
    height, width = frame.shape[:2]
    patch = np.zeros((3, size, size))
    for i, j, channel in np.ndindex(size, size, 3):
        y = centre[1] - window[1] / 2 + i * window[1] / (size - 1)
        x = centre[0] - window[0] / 2 + j * window[0] / (size - 1)
        row, column = int(np.floor(y)), int(np.floor(x))
        for dy, dx in np.ndindex(2, 2):
            if 0 <= row + dy < height and 0 <= column + dx < width:
                weight = (1 - abs(y - row - dy)) * (1 - abs(x - column - dx))
                patch[channel, i, j] += weight * frame[row + dy, column + dx, channel]
    return patch
