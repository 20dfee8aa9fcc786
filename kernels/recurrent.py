"""Launch functions of `recurrent.cu`: the filter through the frames of clips, forward and back.

Everything is in the Fourier domain, of S + 1 frames of N clips: spectra (S + 1, N, D, rows,
columns).  `ops.recurrent` is the specification.
"""

import math
from typing import Any, Literal, NamedTuple

import numpy as np

from dcfnet_np import backend
from dcfnet_np.backend import Array

from . import C_TYPES, blocks, launch, output, require, require_all

EXPRESSIONS = tuple(
    f"{kernel}<{ctype}, {ratio}>"
    for kernel in ("clip_forward", "clip_backward")
    for ctype in C_TYPES.values()
    for ratio in ("false", "true")
)


class Turns(NamedTuple):
    """exp(2 pi i k / H) for k < H, and the same of W: what moves spectra of (H, W) images."""

    height: Array  # (H,) complex
    width: Array  # (W,) complex


class Clips(NamedTuple):
    """What both directions start from."""

    spectra_f: Array  # (S + 1, N, D, rows, columns)
    label_f: Array  # (rows, columns)
    # (2,), lambda and the rate, on the device, so that a captured graph may see others
    numbers: Array
    # (S, N, 2) int32, rows and columns: where the target is in each frame but the last
    places: Array
    turns: Turns
    rule: Literal["ratio", "averages"]


class States(NamedTuple):
    """The two running means after each step, `ops.recurrent.State`."""

    a: Array  # (S, N, D, rows, columns)
    b: Array  # (S, N, rows, columns) complex


class Gradients(NamedTuple):
    """By the spectra; and by lambda, the rate and the label, of each clip and bin."""

    spectra: Array  # (S + 1, N, D, rows, columns)
    lam: Array  # (N, rows, columns) real
    rate: Array  # (N, rows, columns) real
    label: Array  # (N, rows, columns)


class Upstream(NamedTuple):
    """What `backward` goes by."""

    responses_f: Array  # (S, N, rows, columns): rfft2 of the gradients by the responses
    losses: Array  # (S, N): of `dcf.response_loss`
    shares: Array  # (S, N)
    limit: float = math.inf  # a clip whose mean loss is larger has gradients of zeros


def make_turns(shape: tuple[int, int], dtype: Any) -> Turns:
    """The tables for images of `shape`; dtype: float32 or float64."""
    cp = backend.cupy()
    what = np.result_type(dtype, np.complex64)
    return Turns(*(cp.asarray(np.exp(2j * np.pi * np.arange(n) / n).astype(what)) for n in shape))


def forward(clips: Clips, *, out: tuple[Array, States] | None = None) -> tuple[Array, States]:
    """The responses in frames 1 to S, (S, N, rows, columns), and the states."""
    who = "recurrent.forward"
    dtype, s, n, d, bins = _check(who, clips)
    responses_f, states = out or (None, States(None, None))
    responses_f = output(responses_f, f"{who}: responses_f", dtype, (s, n, *bins))
    a = output(states.a, f"{who}: a", dtype, (s, n, d, *bins))
    b = output(states.b, f"{who}: b", dtype, (s, n, *bins))
    _launch("clip_forward", clips, (a, b, responses_f))
    return responses_f, States(a, b)


def backward(
    clips: Clips,
    upstream: Upstream,
    known: tuple[Array, States],
    *,
    out: Gradients | None = None,
    later: Array | None = None,
) -> Gradients:
    """Gradients of `forward`, by the paper's convention (`ops.fourier`).

    known: what `forward` returned.  later: room, (N, D, rows, columns).
    """
    who, (responses_f, states) = "recurrent.backward", known
    dtype, s, n, d, bins = _check(who, clips)
    real = clips.numbers.dtype
    require_all(who, dtype, (s, n, *bins), b=states.b, responses_f=responses_f,
                dresponses_f=upstream.responses_f)  # fmt: skip
    require(states.a, f"{who}: a", dtype, (s, n, d, *bins))
    require_all(who, real, (s, n), losses=upstream.losses, shares=upstream.shares)
    given = out or Gradients(None, None, None, None)
    dspectra_f = output(given.spectra, f"{who}: dspectra_f", dtype, clips.spectra_f.shape)
    lam, rate = (output(v, f"{who}: out", real, (n, *bins)) for v in (given.lam, given.rate))
    label = output(given.label, f"{who}: out", dtype, (n, *bins))
    later = output(later, f"{who}: later", dtype, (n, d, *bins))
    arrays = *states, responses_f, *upstream[:3], dspectra_f, later, lam, rate, label
    _launch("clip_backward", clips, arrays, real.type(upstream.limit))
    return Gradients(dspectra_f, lam, rate, label)


def _check(who: str, clips: Clips) -> tuple[Any, int, int, int, tuple[int, int]]:
    """The complex dtype, and the lengths S, N, D, (rows, columns)."""
    spectra_f = clips.spectra_f
    dtype, shape = spectra_f.dtype, spectra_f.shape
    if dtype not in (np.complex64, np.complex128) or len(shape) != 5:
        wanted = "complex64 or complex128, (S + 1, N, D, rows, columns)"
        raise ValueError(f"{who}: spectra_f must be {wanted}, got {dtype} of {shape}")
    frames, n, d, *bins = shape
    require(spectra_f, f"{who}: spectra_f", dtype, shape)
    require(clips.label_f, f"{who}: label_f", dtype, tuple(bins))
    require(clips.numbers, f"{who}: numbers", np.empty(0, dtype).real.dtype, (2,))
    require(clips.places, f"{who}: places", np.int32, (frames - 1, n, 2))
    for table in clips.turns:
        require(table, f"{who}: turns", dtype, (None,))
    return dtype, frames - 1, n, d, (bins[0], bins[1])


def _launch(kernel: str, clips: Clips, arrays: tuple[Array, ...], *more: Any) -> None:
    frames, n, d, rows, columns = clips.spectra_f.shape
    ctype = C_TYPES[clips.numbers.dtype.name]
    name = f"{kernel}<{ctype}, {str(clips.rule == 'ratio').lower()}>"
    launch("recurrent.cu", name, (blocks(rows * columns, 32), n), (32, 8), *clips[:4],
           *clips.turns, *arrays, frames - 1, d, rows, columns, len(clips.turns.height),
           len(clips.turns.width), *more)  # fmt: skip
