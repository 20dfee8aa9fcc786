"""The correlation filter layer: Eqs. 1-3 forward, Eqs. 5-11 backward, one function an equation.

    here            paper           shape                        what
    template        phi(x)          (N, D, H, W)                 features of the learning branch
    search          phi(z)          (N, D, H, W)                 features of the detection branch
    label           y               (H, W)                       Gaussian, its peak rolled to (0, 0)
    filter_f        w^              (N, D, bins)                 learned filter
    response        g               (N, H, W)                    its peak is where it moved to
    energy          sum phi^ phi^*  (N, 1, bins), real           of the template, lambda included

A name that ends in `_f` is a half spectrum, "bins" its two axes: (H, W//2 + 1), or a `Band`'s.
Everything is a Hadamard (per-bin) product but the sums over channels.  The sum over l in Eq. 2's
denominator prints phi^l; it runs over k, as in Eq. 4.  The released codes swap x and z.

Gradients are the paper's (see `ops.fourier`): d..._f = rfft2(d...) with no normalisation and no
weights.
"""

from typing import NamedTuple

from ..backend import Array, array_module
from .fourier import Band, inner, irfft2, rfft2


class DcfCache(NamedTuple):
    template_f: Array  # (N, D, bins)
    search_f: Array  # (N, D, bins)
    label_f: Array  # (bins)
    filter_f: Array  # (N, D, bins)
    response_f: Array  # (N, bins)
    energy: Array  # (N, 1, bins), real
    shape: tuple[int, int]  # (H, W)
    band: Band | None


def ridge_loss(filter_f: Array, template: Array, label: Array, lam: float) -> Array:
    """Eq. 1: || sum_l w^l * phi^l(x) - y ||^2 + lam sum_l ||w^l||^2, by pixels; * correlates.

    filter_f: (N, D, H, W//2 + 1), full spectrum; template: (N, D, H, W); label: (H, W).  Returns
    (N,).  It serves to prove that Eq. 2 minimises it.
    """
    shape = template.shape[-2:]
    response = respond(filter_f, rfft2(template), shape)
    w = irfft2(filter_f, shape)
    return ((response - label) ** 2).sum((1, 2)) + lam * (w**2).sum((1, 2, 3))


def template_energy(template_f: Array, lam: float) -> Array:
    """sum_k phi^k(x) phi^k(x)^* + lambda, the denominator of Eqs. 2, 4, 9, 10: (N, 1, bins)."""
    energy = (template_f.conj() * template_f).real.sum(1, keepdims=True)
    return energy + energy.dtype.type(lam)


def learn_filter(
    template_f: Array, label_f: Array, lam: float, energy: Array | None = None
) -> Array:
    """Eq. 2: w^ = phi^(x) y^* / (sum_k phi^k(x) phi^k(x)^* + lambda).  Returns (N, D, bins).

    energy: `template_energy`, where the caller has it already.
    """
    energy = template_energy(template_f, lam) if energy is None else energy
    return template_f * (label_f.conj() / energy)


def correlate(filter_f: Array, search_f: Array) -> Array:
    """The sum of Eq. 3 in the Fourier domain: g^ = sum_l w^l* phi^l(z).  Returns (N, bins)."""
    return (filter_f.conj() * search_f).sum(1)


def respond(
    filter_f: Array, search_f: Array, shape: tuple[int, int], band: Band | None = None
) -> Array:
    """Eq. 3: g = F^-1(sum_l w^l* phi^l(z)).

    filter_f: (N or 1, D, bins); search_f: (N, D, bins); shape: (H, W) of the response.  Returns (N,
    H, W).
    """
    return irfft2(correlate(filter_f, search_f), shape, band)


def dcf_forward(
    template: Array, search: Array, label_f: Array, lam: float, band: Band | None = None
) -> tuple[Array, DcfCache]:
    """Eqs. 2 and 3 together: learn a filter on `template`, answer with its response on `search`.

    template, search: (N, D, H, W); label_f = rfft2(label, band): (bins); lam: lambda >= 0.
    Returns response (N, H, W) and the cache.  Raises ValueError when shapes do not fit.
    """
    array_module(template, search, label_f)
    shape = template.shape[-2:]
    if template.ndim != 4 or search.shape != template.shape:
        got = f"{template.shape} and {search.shape}"
        raise ValueError(f"dcf_forward: template and search must both be (N, D, H, W), got {got}")
    bins = (shape[0], shape[1] // 2 + 1) if band is None else band.spectrum_shape
    if label_f.shape != bins:
        raise ValueError(
            f"dcf_forward: label_f must be rfft2(label, band) of shape {bins}, got {label_f.shape}"
        )
    if lam < 0:
        raise ValueError(f"dcf_forward: lam must be >= 0, got {lam}")
    template_f = rfft2(template, band)
    search_f = rfft2(search, band)
    energy = template_energy(template_f, lam)
    filter_f = learn_filter(template_f, label_f, lam, energy)  # Eq. 2
    response_f = correlate(filter_f, search_f)
    response = irfft2(response_f, shape, band)  # Eq. 3
    return response, DcfCache(
        template_f, search_f, label_f, filter_f, response_f, energy, shape, band
    )


def dcf_backward(dresponse: Array, cache: DcfCache) -> tuple[Array, Array]:
    """Gradients of `dcf_forward`: Eq. 6, then Eqs. 7 to 11.

    dresponse = dL/dg: (N, H, W).  Returns dtemplate, dsearch: (N, D, H, W).
    """
    template_f, search_f, label_f, filter_f, response_f, energy, shape, band = cache
    array_module(dresponse, template_f)
    if dresponse.shape != (len(template_f), *shape):
        raise ValueError(
            "dcf_backward: dresponse must have the shape of the response, "
            f"{(len(template_f), *shape)}, got {dresponse.shape}"
        )
    dresponse_f = rfft2(dresponse, band)  # Eq. 6
    dsearch = to_image(search_gradient_f(dresponse_f, filter_f), shape, band)
    by_template = template_gradient_f(
        dresponse_f, template_f, search_f, label_f, response_f, energy
    )
    by_conjugate = template_conj_gradient_f(dresponse_f, template_f, response_f, energy)
    dtemplate = template_gradient(by_template, by_conjugate, shape, band)
    return dtemplate, dsearch


def search_gradient_f(dresponse_f: Array, filter_f: Array) -> Array:
    """Eq. 7: dL/d phi^l(z)^* = dL/dg^* w^l.  dresponse_f: (N, bins).  Returns (N, D, bins)."""
    return dresponse_f[:, None] * filter_f


def to_image(dsearch_f: Array, shape: tuple[int, int], band: Band | None = None) -> Array:
    """Eq. 8: dL/d phi(z) = F^-1(dL/d phi^(z)^*).  Returns (N, D, H, W)."""
    return irfft2(dsearch_f, shape, band)


def template_gradient_f(
    dresponse_f: Array,
    template_f: Array,
    search_f: Array,
    label_f: Array,
    response_f: Array,
    energy: Array,
) -> Array:
    """Eq. 9: dL/d phi^l(x) = dL/dg^* (phi^l(z)^* y^* - g^* phi^l(x)^*) / energy.

    energy = sum_k phi^k(x) phi^k(x)^* + lambda, see `template_energy`.

    g^* here is the conjugate of the whole response, summed over all channels (the 2023 journal
    version puts one channel's own product in its place, which is right for D = 1 only).  Returns
    (N, D, bins).
    """
    numerator = search_f.conj() * label_f.conj() - response_f.conj()[:, None] * template_f.conj()
    return dresponse_f[:, None] * numerator / energy


def template_conj_gradient_f(
    dresponse_f: Array, template_f: Array, response_f: Array, energy: Array
) -> Array:
    """Eq. 10: dL/d phi^l(x)^* = dL/dg^* (-g^* phi^l(x)) / (sum_k phi^k(x) phi^k(x)^* + lambda).

    Returns (N, D, bins).
    """
    return -(dresponse_f * response_f.conj())[:, None] * template_f / energy


def template_gradient(
    by_template: Array, by_conjugate: Array, shape: tuple[int, int], band: Band | None = None
) -> Array:
    """Eq. 11: dL/d phi^l(x) = F^-1(dL/d phi^l(x)^* + (dL/d phi^l(x))^*): Eq. 10 plus the conjugate
    of Eq. 9.

    by_template: Eq. 9; by_conjugate: Eq. 10; both (N, D, bins).  Returns (N, D, H, W).
    """
    return irfft2(by_conjugate + by_template.conj(), shape, band)


# --- what the paper types in, and could learn (its Sec. 3.2)


def label_gradient(
    dresponse_f: Array,
    template_f: Array,
    search_f: Array,
    energy: Array,
    shape: tuple[int, int],
    band: Band | None = None,
) -> Array:
    """dL/dy = F^-1(sum_n dL/dg^* conj(sum_l phi^l(x)^* phi^l(z) / energy)), by the label.

    The response is the label, filtered: g^ = y^ sum_l phi^l(x)^* phi^l(z) / energy.  All N pairs
    share it.  Returns (H, W).
    """
    filtered = (template_f.conj() * search_f / energy).sum(1)
    return irfft2((dresponse_f * filtered.conj()).sum(0), shape, band)


def energy_gradient_f(dresponse_f: Array, response_f: Array, energy: Array) -> Array:
    """dL/d energy = -Re(dL/dg^ g^) / energy, in each bin: (N, 1, bins), real.

    dL/dg^ is the conjugate of dresponse_f.  The energy divides: g^ = (...) / energy.
    """
    return -(dresponse_f.conj() * response_f).real[:, None] / energy


def lam_gradient(denergy: Array, shape: tuple[int, int], band: Band | None = None) -> Array:
    """dL/dlambda = 1 / (H W) sum of dL/d energy over all pairs and all bins of the full spectrum.

    Lambda is a summand of the energy in every bin.  denergy: `energy_gradient_f`.  Returns one
    number.
    """
    return inner(array_module(denergy).ones_like(denergy), denergy, shape, band)
