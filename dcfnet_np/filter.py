"""The online model: one correlation filter, learned from the first frame and updated in every later
one.
"""

from typing import Literal

from .backend import Array, array_module
from .ops.dcf import ridge_loss, template_energy
from .ops.fourier import irfft2


class OnlineFilter:
    """A filter that follows its target, by one of two rules.

    "ratio" is the paper's Eq. 13.  With a newest frame of weight beta, numerator and denominator
    are running means:

        A <- (1 - beta) A + beta y^* phi^(x)
        B <- (1 - beta) B + beta (sum_k phi^k(x) phi^k(x)^* + lambda)         w^ = A / B

    Eq. 13 minimises Eq. 12 for one channel and weights that sum to one.  With D > 1 channels the
    minimiser of Eq. 12 is the solution of a D x D system in each bin; Eq. 13 is the usual
    approximation.

    "averages" is what the released codes do instead, after KCF: the template and the dual filter
    are averaged apart,

        x^ <- (1 - beta) x^ + beta phi^(x)
        a^ <- (1 - beta) a^ + beta y^ / (sum_k phi^k(x) phi^k(x)^* + lambda)       w^ = x^ a^*

    Arrays: template_f (D, bins) complex; label_f (bins) = rfft2(label, band).
    """

    def __init__(
        self,
        label_f: Array,
        lam: float,
        learning_rate: float,
        rule: Literal["ratio", "averages"] = "ratio",
    ) -> None:
        if rule not in ("ratio", "averages"):
            raise ValueError(f"OnlineFilter: rule must be 'ratio' or 'averages', got {rule!r}")
        self.label_f = label_f
        self._label_conj = label_f.conj()
        self.lam = lam
        self.learning_rate = learning_rate
        self.rule = rule
        self.numerator: Array | None = None  # A, or x^ by the averages
        self.denominator: Array | None = None  # B, or a^ by the averages
        # Memory for intermediate results, made when first needed: an update of every frame makes no
        # new arrays.
        self._work: dict[str, Array] = {}

    def update(self, template_f: Array) -> None:
        """Blend a new template, (D, bins), into the model; the first one is the model.

        Raises ValueError for another shape.
        """
        xp = array_module(template_f, self.label_f)
        channels = len(template_f) if self.numerator is None else len(self.numerator)
        if template_f.shape != (channels, *self.label_f.shape):
            count = "D" if self.numerator is None else channels
            raise ValueError(
                f"OnlineFilter.update: template_f must be ({count}, {str(self.label_f.shape)[1:]}, "
                f"got {template_f.shape}"
            )
        if self.numerator is None or self.denominator is None:
            real = template_f.real.dtype
            self.numerator = xp.empty_like(template_f)
            self.denominator = xp.empty(
                self.label_f.shape, real if self.rule == "ratio" else template_f.dtype
            )
            self._work = {
                "template": xp.empty_like(template_f),
                "energy": xp.empty((1, 1, *self.label_f.shape), real),
                "denominator": xp.empty_like(self.denominator),
            }
            self._new_model(template_f, self.numerator, self.denominator)
            return
        numerator, denominator = self._work["template"], self._work["denominator"]
        self._new_model(template_f, numerator, denominator)
        for model, new in ((self.numerator, numerator), (self.denominator, denominator)):
            model *= 1 - self.learning_rate
            new *= self.learning_rate
            model += new

    def _new_model(self, template_f: Array, numerator: Array, denominator: Array) -> None:
        """Numerator and denominator of one template alone, written into two arrays."""
        xp = array_module(template_f)
        energy = template_energy(
            template_f[None], self.lam, self._work["template"][None], self._work["energy"]
        )[0, 0]
        if self.rule == "ratio":
            xp.multiply(template_f, self._label_conj, out=numerator)
            denominator[...] = energy
        else:
            numerator[...] = template_f
            xp.divide(self.label_f, energy, out=denominator)

    def response_f(self, search_f: Array) -> Array:
        """Eq. 3 in the Fourier domain, for search_f (S, D, bins).  Returns (S, bins), overwritten
        by the next call.
        """
        if self.numerator is None or self.denominator is None:
            raise RuntimeError("OnlineFilter: response_f before the first update")
        xp = array_module(search_f, self.numerator)
        if self._work.get("search", search_f[:0]).shape != search_f.shape:
            self._work["search"] = xp.empty_like(search_f)
            self._work["response"] = xp.empty((len(search_f), *search_f.shape[2:]), search_f.dtype)
        conjugate = xp.conj(self.numerator, out=self._work["template"])
        products = xp.multiply(conjugate, search_f, out=self._work["search"])
        response_f = products.sum(1, out=self._work["response"])
        if self.rule == "ratio":
            response_f /= self.denominator
        else:
            response_f *= self.denominator
        return response_f


def incremental_loss(
    filter_f: Array, templates: Array, weights: Array, label: Array, lam: float
) -> Array:
    """Eq. 12: sum_t beta_t || sum_l w^l * phi^l(x_t) - y ||^2 + lam sum_l ||w^l||^2, by pixels.

    filter_f: (D, H, W//2 + 1), full spectrum; templates: (T, D, H, W), the features of T frames;
    weights: (T,), their beta; label: (H, W).  Returns a number.  It serves to show what Eq. 13
    minimises and what it does not."""
    errors = ridge_loss(filter_f[None], templates, label, 0.0)
    w = irfft2(filter_f, label.shape)
    return (weights * errors).sum() + lam * (w**2).sum()


def exact_filter(templates_f: Array, weights: Array, label_f: Array, lam: float) -> Array:
    """The filter that minimises Eq. 12 for any number of channels: in each bin the solution of a D
    x D system,

        (sum_t beta_t phi(x_t) phi(x_t)^H + lam I) w^ = sum_t beta_t phi(x_t) y^*

    Eq. 13 puts the number sum_t beta_t (phi(x_t)^H phi(x_t) + lam) in the place of the matrix.  For
    a single frame both are Eq. 2.  templates_f: (T, D, bins); weights: (T,); label_f: (bins).
    Returns (D, bins); D^3 work for each bin."""
    xp = array_module(templates_f, label_f)
    rows = templates_f.transpose(2, 3, 1, 0)  # (*bins, D, T)
    matrix = (rows * weights) @ rows.conj().swapaxes(-1, -2) + lam * xp.eye(
        rows.shape[2], dtype=rows.dtype
    )
    right = (rows * weights).sum(-1) * label_f.conj()[..., None]
    return xp.linalg.solve(matrix, right[..., None])[..., 0].transpose(2, 0, 1)
