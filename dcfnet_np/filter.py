"""The online model: one correlation filter, learned from the first frame and updated in every later
one.
"""

from typing import get_args

from .backend import Array, array_module
from .ops.dcf import ridge_loss
from .ops.fourier import irfft2
from .ops.recurrent import Rule, State, answer, blend, newest


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
        self, label_f: Array, lam: float, learning_rate: float, rule: Rule = "ratio"
    ) -> None:
        if rule not in get_args(Rule):
            raise ValueError(f"OnlineFilter: rule must be 'ratio' or 'averages', got {rule!r}")
        self.label_f = label_f
        self.lam = lam
        self.learning_rate = learning_rate
        self.rule = rule
        # The running means: A (D, bins) and B (bins), or by "averages" x^ (D, bins) and a^ (bins).
        self.means: tuple[Array, Array] | None = None

    def update(self, template_f: Array) -> None:
        """Blend a new template, (D, bins), into the model; the first one is the model.

        Raises ValueError for another shape.
        """
        array_module(template_f, self.label_f)
        means, bins = self.means, self.label_f.shape
        if template_f.shape[1:] != bins or (means and len(template_f) != len(means[0])):
            raise ValueError(
                f"OnlineFilter.update: template_f must be ({len(means[0]) if means else 'D'}, "
                f"{', '.join(map(str, bins))}), got {template_f.shape}"
            )
        state = newest(template_f[None], self.label_f, self.lam, self.rule)
        if means is not None:
            state = blend(_state(means), state, self.learning_rate)
        self.means = state.a.reshape(template_f.shape), state.b.reshape(bins)

    @property
    def filter_f(self) -> Array:
        """The filter w^, (D, bins)."""
        a, b = self.learned()
        return a / b if self.rule == "ratio" else a * b.conj()

    def response_f(self, search_f: Array) -> Array:
        """Eq. 3 in the Fourier domain, for search_f (S, D, bins).  Returns (S, bins)."""
        return answer(_state(self.learned()), search_f, self.rule)

    def learned(self) -> tuple[Array, Array]:
        """The means; RuntimeError before the first update."""
        if self.means is None:
            raise RuntimeError("OnlineFilter: there is no filter before the first update")
        return self.means


def _state(means: tuple[Array, Array]) -> State:
    """The means of one filter as a batch of one."""
    a, b = means
    return State(a[None], b[None, None])


def incremental_loss(
    filter_f: Array, templates: Array, weights: Array, label: Array, lam: float
) -> Array:
    """Eq. 12: sum_t beta_t || sum_l w^l * phi^l(x_t) - y ||^2 + lam sum_l ||w^l||^2, by pixels.

    filter_f: (D, H, W//2 + 1), full spectrum; templates: (T, D, H, W), the features of T frames;
    weights: (T,), their beta; label: (H, W).  Returns a number.  It serves to show what Eq. 13
    minimises and what it does not.
    """
    errors = ridge_loss(filter_f[None], templates, label, 0.0)
    w = irfft2(filter_f, label.shape)
    return (weights * errors).sum() + lam * (w**2).sum()


def exact_filter(templates_f: Array, weights: Array, label_f: Array, lam: float) -> Array:
    """The minimiser of Eq. 12 for any number of channels: a D x D system in each bin,

        (sum_t beta_t phi(x_t) phi(x_t)^H + lam I) w^ = sum_t beta_t phi(x_t) y^*

    Eq. 13 puts the number sum_t beta_t (phi(x_t)^H phi(x_t) + lam) in the place of the matrix.  For
    a single frame both are Eq. 2.  templates_f: (T, D, bins); weights: (T,); label_f: (bins).
    Returns (D, bins); D^3 work for each bin.
    """
    xp = array_module(templates_f, label_f)
    rows = templates_f.transpose(2, 3, 1, 0)  # (*bins, D, T)
    eye = xp.eye(rows.shape[2], dtype=rows.dtype)
    matrix = (rows * weights) @ rows.conj().swapaxes(-1, -2) + lam * eye
    right = (rows * weights).sum(-1) * label_f.conj()[..., None]
    return xp.linalg.solve(matrix, right[..., None])[..., 0].transpose(2, 0, 1)
