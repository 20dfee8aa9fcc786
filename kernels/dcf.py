"""Launch functions of `dcf.cu`: the correlation filter layer, and the response loss.

The layer is in the Fourier domain.  The bins of a half spectrum or band may have any shape:
features (N, D, bins), label (bins), responses (N, bins).
"""

import math
from typing import Any, Literal, NamedTuple

import numpy as np

from dcfnet_np import backend
from dcfnet_np.backend import Array

from . import C_TYPES, blocks, launch, output, require, require_all, require_real

EXPRESSIONS = tuple(
    f"{kernel}<{ctype}{flag}>"
    for kernel, flags in (
        ("learn_filter", ("",)),
        ("dcf_forward", ("",)),
        ("dcf_backward", ("",)),
        ("respond", ("",)),
        ("update_model", (", false", ", true")),
        ("response_loss", ("",)),
    )
    for ctype in C_TYPES.values()
    for flag in flags
)


class Model(NamedTuple):
    """What T targets look like; their response is `respond(model_f, search_f, gain_f)`."""

    model_f: Array  # (T, D, bins)
    gain_f: Array  # (T, bins)
    energy: Array  # (T, bins) real


class _Spectra(NamedTuple):
    """What an array (N, D, bins) says of itself."""

    dtype: Any
    real: Any  # of its real numbers
    ctype: str
    n: int
    d: int
    bins: tuple[int, ...]
    size: int  # how many bins


def learn_filter(template_f: Array, label_f: Array, lam: float) -> tuple[Array, Array]:
    """Eq. 2, `ops.dcf.learn_filter`.

    Returns filter_f (N, D, bins) and the energy (N, bins), lambda included.
    """
    s = _spectra(template_f, "learn_filter: template_f")
    require(label_f, "learn_filter: label_f", s.dtype, s.bins)
    filter_f = output(None, "", s.dtype, template_f.shape)
    energy = output(None, "", s.real, (s.n, *s.bins))
    launch("dcf.cu", f"learn_filter<{s.ctype}>", (blocks(s.size, 32), s.n), (32, 8), template_f,
           label_f, filter_f, energy, s.d, s.size, s.real(lam))  # fmt: skip
    return filter_f, energy


def respond(
    model_f: Array, search_f: Array, gain_f: Array, *, scales: int = 1, out: Array | None = None
) -> Array:
    """Eq. 3 before its inverse transform: the sum over channels of conj(model_f) search_f, times
    `gain_f`; `update_model` keeps the two apart.

    model_f: (T, D, bins); search_f: (T * scales, D, bins), the scales of a target together;
    gain_f: (T, bins).
    Returns (T * scales, bins), in `out` if given.
    """
    s = _spectra(search_f, "respond: search_f")
    if scales < 1 or s.n % scales:
        raise ValueError(
            f"respond: search_f must hold {scales} scales of every target, got {s.n} maps"
        )
    require(model_f, "respond: model_f", s.dtype, (s.n // scales, s.d, *s.bins))
    require(gain_f, "respond: gain_f", s.dtype, (s.n // scales, *s.bins))
    out = output(out, "respond: out", s.dtype, (s.n, *s.bins))
    launch("dcf.cu", f"respond<{s.ctype}>", (blocks(s.size, 32), s.n), (32, 8), model_f, gain_f,
           search_f, out, s.d, s.size, scales)  # fmt: skip
    return out


def update_model(
    template_f: Array,
    label_f: Array,
    rates: Array,
    ranges: Array,
    model: Model,
    lam: float,
    rule: Literal["ratio", "averages"],
) -> None:
    """Eq. 13 ("ratio") or the released codes' rule ("averages"), as in `filter.OnlineFilter`.

    template_f: (T, D, bins); label_f: (bins); rates: (T,) real, the weight of the newest frame: 1
    starts a target anew, 0 leaves it alone; ranges: (T, 3, 2) float32, smallest and largest value
    of each colour behind template_f: one colour leaves it alone too.  `model` is changed in place.
    """
    who = "update_model"
    s = _spectra(template_f, f"{who}: template_f")
    require(label_f, f"{who}: label_f", s.dtype, s.bins)
    require(rates, f"{who}: rates", s.real, (s.n,))
    require(ranges, f"{who}: ranges", np.float32, (s.n, 3, 2))
    require(model.model_f, f"{who}: model_f", s.dtype, template_f.shape)
    require(model.gain_f, f"{who}: gain_f", s.dtype, (s.n, *s.bins))
    require(model.energy, f"{who}: energy", s.real, (s.n, *s.bins))
    name = f"update_model<{s.ctype}, {str(rule == 'ratio').lower()}>"
    launch("dcf.cu", name, (blocks(s.size, 32), s.n), (32, 8), template_f, label_f, rates, ranges,
           *model, s.d, s.size, s.real(lam))  # fmt: skip


def dcf_forward(
    template_f: Array,
    search_f: Array,
    label_f: Array,
    lam: float,
    *,
    out: tuple[Array, Array] | None = None,
) -> tuple[Array, Array]:
    """Eqs. 2 and 3 fused.

    Returns response_f (N, bins) and the energy (N, bins), which `dcf_backward` needs.
    `out`, if given, is these two.
    """
    who = "dcf_forward"
    s = _spectra(template_f, f"{who}: template_f")
    require(search_f, f"{who}: search_f", s.dtype, template_f.shape)
    require(label_f, f"{who}: label_f", s.dtype, s.bins)
    response_f, energy = out or (None, None)
    response_f = output(response_f, f"{who}: response_f", s.dtype, (s.n, *s.bins))
    energy = output(energy, f"{who}: energy", s.real, (s.n, *s.bins))
    launch("dcf.cu", f"dcf_forward<{s.ctype}>", (blocks(s.size, 32), s.n), (32, 8), template_f,
           search_f, label_f, response_f, energy, s.d, s.size, s.real(lam))  # fmt: skip
    return response_f, energy


def dcf_backward(
    dresponse_f: Array,
    template_f: Array,
    search_f: Array,
    label_f: Array,
    response_f: Array,
    energy: Array,
    *,
    out: tuple[Array, Array] | None = None,
) -> tuple[Array, Array]:
    """Eqs. 7, 9, 10 and the sum of Eq. 11, fused, by the paper's convention (`ops.fourier`).

    dresponse_f = rfft2(dresponse): (N, bins); the others as `dcf_forward` took and gave them.
    Returns the transforms of dtemplate and dsearch, (N, D, bins) each: `irfft2` makes Eqs. 11 and 8
    of them.
    `out`, if given, is these two.
    """
    who, shape = "dcf_backward", template_f.shape
    s = _spectra(template_f, f"{who}: template_f")
    require(search_f, f"{who}: search_f", s.dtype, shape)
    require(label_f, f"{who}: label_f", s.dtype, s.bins)
    maps = s.n, *s.bins
    require_all(who, s.dtype, maps, dresponse_f=dresponse_f, response_f=response_f)
    require(energy, f"{who}: energy", s.real, maps)
    dtemplate_f, dsearch_f = out or (None, None)
    dtemplate_f = output(dtemplate_f, f"{who}: dtemplate_f", s.dtype, shape)
    dsearch_f = output(dsearch_f, f"{who}: dsearch_f", s.dtype, shape)
    launch("dcf.cu", f"dcf_backward<{s.ctype}>", (blocks(s.size, 128), s.n), (128,), template_f,
           search_f, label_f, response_f, energy, dresponse_f, dtemplate_f, dsearch_f,
           s.d, s.size)  # fmt: skip
    return dtemplate_f, dsearch_f


def response_loss(
    response: Array,
    label: Array,
    *,
    shares: Array | None = None,
    limit: float = math.inf,
    out: tuple[Array, Array] | None = None,
) -> tuple[Array, Array]:
    """Eq. 4's data term, `ops.loss`, and its gradient.

    response: (N, H, W) float32 or float64; label: (H, W) or (N, H, W); shares: (N,), how much each
    map counts, 1 / N when not given.  limit: a map whose own loss is larger has a gradient of
    zeros.  Nothing comes back to the host.
    Returns each map's part of the loss (N,), which add up to it, and dresponse (N, H, W).
    `out`, if given, is these two.
    """
    who, dtype, per_map = "response_loss", response.dtype, len(label.shape) == 3
    ctype = require_real(response, f"{who}: response", (None, None, None))
    require(label, f"{who}: label", dtype, response.shape if per_map else response.shape[1:])
    n, height, width = response.shape
    if shares is None:
        shares = backend.cupy().full(n, 1 / max(n, 1), dtype)
    require(shares, f"{who}: shares", dtype, (n,))
    losses, dresponse = out or (None, None)
    losses = output(losses, f"{who}: losses", dtype, (n,))
    dresponse = output(dresponse, f"{who}: dresponse", dtype, response.shape)
    launch("dcf.cu", f"response_loss<{ctype}>", (n,), (256,), response, label, shares, losses,
           dresponse, height * width, int(per_map), dtype.type(limit))  # fmt: skip
    return losses, dresponse


def _spectra(array: Array, name: str) -> _Spectra:
    """TypeError or ValueError, in the name of `name`, for what is not (N, D, bins) and complex."""
    if array.dtype not in (np.complex64, np.complex128):
        raise TypeError(f"{name} must be complex64 or complex128, got {array.dtype}")
    if len(array.shape) < 3:
        raise ValueError(f"{name} must be (N, D, bins), got {array.shape}")
    require(array, name, array.dtype, array.shape)
    real = np.float32 if array.dtype == np.complex64 else np.float64
    n, d, *bins = array.shape
    what = array.dtype, real, C_TYPES[real.__name__], n, d
    return _Spectra(*what, tuple(bins), math.prod(bins))
