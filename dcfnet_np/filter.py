"""The online model: one correlation filter, learned from the first frame and updated in every later one."""

from typing import Literal

from .backend import Array
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
        self.lam = lam
        self.learning_rate = learning_rate
        self.rule = rule
        self.numerator: Array | None = None  # A, or x^ by the averages
        self.denominator: Array | None = None  # B, or a^ by the averages

    def update(self, template_f: Array) -> None:
        """Blend a new template, (D, bins), into the model; the first one is the model."""
        energy = template_energy(template_f[None], self.lam)[0, 0]
        if self.rule == "ratio":
            new_numerator, new_denominator = template_f * self.label_f.conj(), energy
        else:
            new_numerator, new_denominator = template_f, self.label_f / energy
        if self.numerator is None or self.denominator is None:
            self.numerator, self.denominator = new_numerator.copy(), new_denominator.copy()
            return
        for model, new in ((self.numerator, new_numerator), (self.denominator, new_denominator)):
            model *= 1 - self.learning_rate
            model += self.learning_rate * new

    def response_f(self, search_f: Array) -> Array:
        """Eq. 3 in the Fourier domain, for search_f (S, D, bins).  Returns (S, bins)."""
        if self.numerator is None:
            raise RuntimeError("OnlineFilter: response_f before the first update")
        correlation = (self.numerator.conj() * search_f).sum(1)
        return correlation / self.denominator if self.rule == "ratio" else correlation * self.denominator
