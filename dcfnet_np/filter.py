"""The online model: one correlation filter, learned from the first frame and updated in every later one."""

from typing import Literal

from .backend import Array, array_module
from .ops.dcf import template_energy


class OnlineFilter:
    """A filter that follows its target, by one of two rules.

    "ratio" is the paper's Eq. 13.  With a newest frame of weight beta, numerator and denominator are running means:

        A <- (1 - beta) A + beta y^* phi^(x)
        B <- (1 - beta) B + beta (sum_k phi^k(x) phi^k(x)^* + lambda)         w^ = A / B

    Eq. 13 minimises Eq. 12 for one channel and weights that sum to one.  With D > 1 channels the minimiser of Eq. 12 is
    the solution of a D x D system in each bin; Eq. 13 is the usual approximation.

    "averages" is what the released codes do instead, after KCF: the template and the dual filter are averaged apart,

        x^ <- (1 - beta) x^ + beta phi^(x)
        a^ <- (1 - beta) a^ + beta y^ / (sum_k phi^k(x) phi^k(x)^* + lambda)       w^ = x^ a^*

    Arrays: template_f (D, bins) complex; label_f (bins) = rfft2(label, band).
    """

    def __init__(
        self, label_f: Array, lam: float, learning_rate: float, rule: Literal["ratio", "averages"] = "ratio"
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
        # Memory for intermediate results, made when first needed: an update of every frame makes no new arrays.
        self._work: dict[str, Array] = {}

    def update(self, template_f: Array) -> None:
        """Blend a new template, (D, bins), into the model; the first one is the model."""
        xp = array_module(template_f, self.label_f)
        if self.numerator is None or self.denominator is None:
            real = template_f.real.dtype
            self.numerator = xp.empty_like(template_f)
            self.denominator = xp.empty(self.label_f.shape, real if self.rule == "ratio" else template_f.dtype)
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
        energy = template_energy(template_f[None], self.lam, self._work["template"][None], self._work["energy"])[0, 0]
        if self.rule == "ratio":
            xp.multiply(template_f, self._label_conj, out=numerator)
            denominator[...] = energy
        else:
            numerator[...] = template_f
            xp.divide(self.label_f, energy, out=denominator)

    def response_f(self, search_f: Array) -> Array:
        """Eq. 3 in the Fourier domain, for search_f (S, D, bins).  Returns (S, bins), overwritten by the next call."""
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
