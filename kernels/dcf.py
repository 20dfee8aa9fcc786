"""Launch functions of `dcf.cu`: the correlation filter layer, and the response loss.

The layer is in the Fourier domain.  The bins of a half spectrum or band may have any shape:
features (N, D, bins), label (bins), responses (N, bins).
"""

import math
from typing import Literal, NamedTuple

import numpy as np

from dcfnet_np import backend
from dcfnet_np.backend import Array

from . import blocks, launch, require

_TYPES = ("float", "double")
EXPRESSIONS = (
    *(f"{kernel}<{ctype}>" for kernel in ("learn_filter", "dcf_forward", "dcf_backward")
      for ctype in _TYPES),
    *(f"{kernel}<{ctype}, {flag}>" for kernel in ("respond", "update_model") for ctype in _TYPES
      for flag in ("false", "true")),
    *(f"response_loss<{ctype}>" for ctype in _TYPES),
)  # fmt: skip
# dtype of spectra -> dtype of real numbers and C++ name
_REAL = {
    np.dtype(np.complex64): (np.float32, "float"),
    np.dtype(np.complex128): (np.float64, "double"),
}


class Model(NamedTuple):
    """What T targets look like; their response is `respond(model_f, search_f, gain_f)`."""

    model_f: Array  # (T, D, bins)
    gain_f: Array  # (T, bins)
    energy: Array  # (T, bins) real


def learn_filter(template_f: Array, label_f: Array, lam: float) -> tuple[Array, Array]:
    """Eq. 2, `ops.dcf.learn_filter`.

    Returns filter_f (N, D, bins) and the energy (N, bins), lambda included.
    """
    real, ctype = _real(template_f, "learn_filter: template_f")
    n, d, bins = _sizes(template_f, "learn_filter: template_f")
    require(template_f, "learn_filter: template_f", template_f.dtype, template_f.shape)
    require(label_f, "learn_filter: label_f", template_f.dtype, bins)
    filter_f, energy = backend.cupy().empty_like(template_f), backend.cupy().empty((n, *bins), real)
    p = _count(bins)
    launch("dcf.cu", f"learn_filter<{ctype}>", (blocks(p, 32), n), (32, 8), template_f, label_f,
           filter_f, energy, np.int32(d), np.int32(p), real(lam))  # fmt: skip
    return filter_f, energy


def respond(
    model_f: Array,
    search_f: Array,
    gain_f: Array | None = None,
    *,
    scales: int = 1,
    out: Array | None = None,
) -> Array:
    """Eq. 3 before its inverse transform.

    The sum over channels of conj(model_f) search_f, times `gain_f` if given.  With Eq. 2's filter
    as the model there is no gain; `update_model` keeps the two apart.
    model_f: (T, D, bins); search_f: (T * scales, D, bins), the scales of a target together;
    gain_f: (T, bins).
    Returns (T * scales, bins), in `out` if given.
    """
    _, ctype = _real(search_f, "respond: search_f")
    n, d, bins = _sizes(search_f, "respond: search_f")
    if scales < 1 or n % scales:
        raise ValueError(
            f"respond: search_f must hold {scales} scales of every target, got {n} maps"
        )
    targets = n // scales
    require(search_f, "respond: search_f", search_f.dtype, search_f.shape)
    require(model_f, "respond: model_f", search_f.dtype, (targets, d, *bins))
    if gain_f is not None:
        require(gain_f, "respond: gain_f", search_f.dtype, (targets, *bins))
    if out is None:
        out = backend.cupy().empty((n, *bins), search_f.dtype)
    require(out, "respond: out", search_f.dtype, (n, *bins))
    p = _count(bins)
    gain = model_f if gain_f is None else gain_f  # not read without a gain
    name = f"respond<{ctype}, {str(gain_f is not None).lower()}>"
    launch("dcf.cu", name, (blocks(p, 32), n), (32, 8), model_f, gain, search_f, out,
           np.int32(d), np.int32(p), np.int32(scales))  # fmt: skip
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
    if rule not in ("ratio", "averages"):
        raise ValueError(f"update_model: rule must be 'ratio' or 'averages', got {rule!r}")
    real, ctype = _real(template_f, "update_model: template_f")
    t, d, bins = _sizes(template_f, "update_model: template_f")
    require(template_f, "update_model: template_f", template_f.dtype, template_f.shape)
    require(label_f, "update_model: label_f", template_f.dtype, bins)
    require(rates, "update_model: rates", real, (t,))
    require(ranges, "update_model: ranges", np.float32, (t, 3, 2))
    require(model.model_f, "update_model: model_f", template_f.dtype, template_f.shape)
    require(model.gain_f, "update_model: gain_f", template_f.dtype, (t, *bins))
    require(model.energy, "update_model: energy", real, (t, *bins))
    p = _count(bins)
    name = f"update_model<{ctype}, {str(rule == 'ratio').lower()}>"
    launch("dcf.cu", name, (blocks(p, 32), t), (32, 8), template_f, label_f, rates, ranges, *model,
           np.int32(d), np.int32(p), real(lam))  # fmt: skip


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
    real, ctype = _real(template_f, "dcf_forward: template_f")
    n, d, bins = _sizes(template_f, "dcf_forward: template_f")
    require(template_f, "dcf_forward: template_f", template_f.dtype, template_f.shape)
    require(search_f, "dcf_forward: search_f", template_f.dtype, template_f.shape)
    require(label_f, "dcf_forward: label_f", template_f.dtype, bins)
    if out is None:
        out = (
            backend.cupy().empty((n, *bins), template_f.dtype),
            backend.cupy().empty((n, *bins), real),
        )
    response_f, energy = out
    require(response_f, "dcf_forward: response_f", template_f.dtype, (n, *bins))
    require(energy, "dcf_forward: energy", real, (n, *bins))
    p = _count(bins)
    launch("dcf.cu", f"dcf_forward<{ctype}>", (blocks(p, 32), n), (32, 8), template_f, search_f,
           label_f, response_f, energy, np.int32(d), np.int32(p), real(lam))  # fmt: skip
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
    real, ctype = _real(template_f, "dcf_backward: template_f")
    n, d, bins = _sizes(template_f, "dcf_backward: template_f")
    require(template_f, "dcf_backward: template_f", template_f.dtype, template_f.shape)
    require(search_f, "dcf_backward: search_f", template_f.dtype, template_f.shape)
    require(label_f, "dcf_backward: label_f", template_f.dtype, bins)
    require(dresponse_f, "dcf_backward: dresponse_f", template_f.dtype, (n, *bins))
    require(response_f, "dcf_backward: response_f", template_f.dtype, (n, *bins))
    require(energy, "dcf_backward: energy", real, (n, *bins))
    if out is None:
        out = backend.cupy().empty_like(template_f), backend.cupy().empty_like(template_f)
    dtemplate_f, dsearch_f = out
    require(dtemplate_f, "dcf_backward: dtemplate_f", template_f.dtype, template_f.shape)
    require(dsearch_f, "dcf_backward: dsearch_f", template_f.dtype, template_f.shape)
    p = _count(bins)
    launch("dcf.cu", f"dcf_backward<{ctype}>", (blocks(p, 128), n), (128,), template_f, search_f,
           label_f, response_f, energy, dresponse_f, dtemplate_f, dsearch_f,
           np.int32(d), np.int32(p))  # fmt: skip
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
    if response.dtype not in (np.float32, np.float64):
        raise TypeError(f"response_loss: response must be float32 or float64, got {response.dtype}")
    ctype = "float" if response.dtype == np.float32 else "double"
    require(response, "response_loss: response", response.dtype, (None, None, None))
    per_map = len(label.shape) == 3
    wanted = response.shape if per_map else response.shape[1:]
    require(label, "response_loss: label", response.dtype, wanted)
    n = len(response)
    if shares is None:
        shares = backend.cupy().full(n, 1 / max(n, 1), response.dtype)
    require(shares, "response_loss: shares", response.dtype, (n,))
    if out is None:
        out = backend.cupy().empty(n, response.dtype), backend.cupy().empty_like(response)
    losses, dresponse = out
    require(losses, "response_loss: losses", response.dtype, (n,))
    require(dresponse, "response_loss: dresponse", response.dtype, response.shape)
    launch("dcf.cu", f"response_loss<{ctype}>", (n,), (256,), response, label, shares, losses,
           dresponse, np.int32(_count(response.shape[1:])), np.int32(per_map),
           response.dtype.type(limit))  # fmt: skip
    return losses, dresponse


def _real(spectrum: Array, name: str) -> tuple[type, str]:
    """The real type of a complex array and its C++ name."""
    if spectrum.dtype not in _REAL:
        raise TypeError(f"{name} must be complex64 or complex128, got {spectrum.dtype}")
    return _REAL[spectrum.dtype]


def _sizes(spectrum: Array, name: str) -> tuple[int, int, tuple[int, ...]]:
    """N, D and the shape of the bins."""
    if len(spectrum.shape) < 3:
        raise ValueError(f"{name} must be (N, D, bins), got {spectrum.shape}")
    return spectrum.shape[0], spectrum.shape[1], spectrum.shape[2:]


def _count(bins: tuple[int, ...]) -> int:
    return int(np.prod(bins, dtype=np.int64))
