"""Tracking as the recurrent network that it is (the paper's Sec. 3.3 and Fig. 2), and back through
time.

The state is two running means, from which the filter of Eq. 3 comes.  A step blends what the newest
template alone would give into it, and answers on the next search window:

    state_t = (1 - beta_t) state_{t-1} + beta_t newest(x_t)        g_t = answer(state_t, z_t)

Rule "ratio" is Eq. 13: the means A of y^* phi^(x) and B of its energy, w^ = A / B.  Rule "averages"
is the released codes': the means x^ of the template and a^ of the dual filter y^ / energy, w^ = x^
a^*.  `filter.OnlineFilter` is this cell without its gradients, one frame at a time.

    here            shape                            what
    templates       (T, N, D, H, W)                  features that are learned from, step by step
    searches        (T, N, D, H, W)                  features of the windows that are searched
    state           (N, D, bins) and (N, 1, bins)    the two means, of N clips
    responses       (T, N, H, W)                     g_t

Gradients are the paper's (see `ops.fourier`): for a spectrum V of a real image, dV is such that a
change of V changes the loss by `inner(dV, change)`.
"""

from typing import Literal, NamedTuple

from ..backend import Array, array_module
from .dcf import energy_gradient_f, lam_gradient, template_energy
from .fourier import Band, inner, irfft2, rfft2

Rule = Literal["ratio", "averages"]


class State(NamedTuple):
    """By "ratio" A and B, by "averages" x^ and a^."""

    a: Array  # (N, D, bins)
    b: Array  # (N, 1, bins)


# --- the three parts of a step


def newest(template_f: Array, label_f: Array, lam: float, rule: Rule) -> State:
    """The state that one template alone gives.  template_f: (N, D, bins); label_f: (bins)."""
    energy = template_energy(template_f, lam)
    if rule == "ratio":
        return State(template_f * label_f.conj(), energy)
    return State(template_f.copy(), label_f / energy)


def newest_backward(
    dstate: State, template_f: Array, label_f: Array, lam: float, rule: Rule
) -> tuple[Array, Array, Array]:
    """Gradients of `newest`: dtemplate_f (N, D, bins), dlabel_f (bins), denergy (N, 1, bins).

    ratio: A = y^* phi^, so dphi^ = dA y^ and dy^ = sum_l dA_l^* phi^l; dB is that of the energy.
    averages: a^ = y^ / energy, so dy^ = da^ / energy, and of the energy -Re(da^* y^) / energy^2.
    The energy is sum_l phi^l phi^l* + lambda: a change of it reaches phi^ by 2 denergy phi^.
    """
    if rule == "ratio":
        dtemplate_f = dstate.a * label_f
        dlabel_f = (dstate.a.conj() * template_f).sum((0, 1))
        denergy = dstate.b.real
    else:
        energy = template_energy(template_f, lam)
        dtemplate_f = dstate.a
        dlabel_f = (dstate.b / energy).sum((0, 1))
        denergy = -(dstate.b.conj() * label_f).real / energy**2
    return dtemplate_f + 2 * denergy * template_f, dlabel_f, denergy


def blend(state: State, other: State, rate: float) -> State:
    """Eq. 13 by running means: the state after a newest frame of weight `rate`, beta."""
    return State(*((1 - rate) * old + rate * new for old, new in zip(state, other)))


def blend_backward(
    dstate: State,
    state: State,
    other: State,
    rate: float,
    shape: tuple[int, int],
    band: Band | None = None,
) -> tuple[State, State, Array]:
    """Gradients of `blend`: by the state before, by the newest one, and by beta.

    dL/dbeta = <dA, newest A - A> + <dB, newest B - B>.
    """
    dbefore = State(*((1 - rate) * d for d in dstate))
    dnewest = State(*(rate * d for d in dstate))
    drate = sum(inner(d, new - old, shape, band) for d, old, new in zip(dstate, state, other))
    return dbefore, dnewest, drate


def answer(state: State, search_f: Array, rule: Rule) -> Array:
    """Eq. 3 in the Fourier domain with the filter of a state.  Returns (N, bins).

    search_f: (N, D, bins); one of the two N may be 1.
    """
    products_f = (state.a.conj() * search_f).sum(1)
    b = state.b.squeeze(1)
    return products_f / b if rule == "ratio" else products_f * b


def answer_backward(
    dresponse_f: Array, state: State, search_f: Array, rule: Rule
) -> tuple[State, Array]:
    """Gradients of `answer`: by the state, and by search_f, (N, D, bins).

    ratio: g^ = sum_l A_l^* phi^l(z) / B, so dA = dg^* phi^(z) / B, dphi^(z) = dg^ A / B, which is
    Eq. 7, and dB = -Re(dg^* g^) / B.  averages: g^ = a^ s with s = sum_l x_l^* phi^l(z), so
    da^ = dg^ s^*, and with ds = dg^ a^*: dx^ = ds^* phi^(z), dphi^(z) = ds x^.
    """
    a, b = state
    dg_f = dresponse_f[:, None]
    if rule == "ratio":
        dproducts_f = dg_f / b
        db = energy_gradient_f(dresponse_f, answer(state, search_f, rule), b)
    else:
        dproducts_f = dg_f * b.conj()
        db = dg_f * (a * search_f.conj()).sum(1, keepdims=True)
    return State(dproducts_f.conj() * search_f, db), dproducts_f * a


# --- many steps, of spectra


class Unrolled(NamedTuple):
    """What `unroll_backward` needs."""

    templates_f: Array  # (T, N, D, bins)
    searches_f: Array  # (T, N, D, bins)
    label_f: Array  # (bins)
    lam: float
    rates: Array  # (T,)
    states: list[State]  # the one before the first step, and that of every step
    rule: Rule


def unroll_forward(
    templates_f: Array,
    searches_f: Array,
    label_f: Array,
    lam: float,
    rates: Array,
    rule: Rule,
    first: State | None = None,
) -> tuple[Array, Unrolled]:
    """The responses of T steps, (T, N, bins).  Arguments as for `recurrent_forward`, spectra."""
    states, responses_f = [_nothing(templates_f[0], label_f, rule) if first is None else first], []
    for template_f, search_f, rate in zip(templates_f, searches_f, rates):
        states.append(blend(states[-1], newest(template_f, label_f, lam, rule), rate))
        responses_f.append(answer(states[-1], search_f, rule))
    cache = Unrolled(templates_f, searches_f, label_f, lam, rates, states, rule)
    return array_module(templates_f).stack(responses_f), cache


def _nothing(template_f: Array, label_f: Array, rule: Rule) -> State:
    """Zeros, for a first rate of 1 to replace."""
    state = newest(template_f, label_f, 1.0, rule)
    return State(0 * state.a, 0 * state.b)


class Gradients(NamedTuple):
    """By each argument of `recurrent_forward`: images, or of `unroll_forward`: spectra, bins."""

    templates: Array  # (T, N, D, H, W), or (T, N, D, bins)
    searches: Array
    label: Array  # (H, W), or (bins)
    lam: Array
    rates: Array  # (T,); of one number for all steps it is the sum
    first: State  # by its bins, in the paper's convention


def unroll_backward(
    dresponses_f: Array,
    cache: Unrolled,
    shape: tuple[int, int],
    band: Band | None = None,
    dlast: State | None = None,
) -> Gradients:
    """Back through time: the gradient by a state is that of its own response, plus what comes from
    the next step.

    dresponses_f: (T, N, bins).  dlast: what later steps, that are not in the cache, say of the last
    state: their `Gradients.first`.
    """
    templates_f, searches_f, label_f, lam, rates, states, rule = cache
    xp = array_module(dresponses_f)
    dtemplates_f, dsearches_f = xp.empty_like(templates_f), xp.empty_like(searches_f)
    drates, dlabel_f, denergy = xp.empty_like(rates), xp.zeros_like(label_f), 0.0
    later = State(0.0, 0.0) if dlast is None else dlast  # by a step's state, from all later ones
    for t in reversed(range(len(templates_f))):
        template_f = templates_f[t]
        dstate, dsearches_f[t] = answer_backward(
            dresponses_f[t], states[t + 1], searches_f[t], rule
        )
        dstate = State(dstate.a + later.a, dstate.b + later.b)
        own = newest(template_f, label_f, lam, rule)
        later, down, drates[t] = blend_backward(dstate, states[t], own, rates[t], shape, band)
        dtemplates_f[t], by_label, by_energy = newest_backward(down, template_f, label_f, lam, rule)
        dlabel_f += by_label
        denergy = denergy + by_energy
    dlam = lam_gradient(denergy, shape, band)
    return Gradients(dtemplates_f, dsearches_f, dlabel_f, dlam, drates, later)


# --- and of images


class RecurrentCache(NamedTuple):
    unrolled: Unrolled
    shape: tuple[int, int]
    band: Band | None


def recurrent_forward(
    templates: Array,
    searches: Array,
    label: Array,
    lam: float,
    rates: Array,
    *,
    rule: Rule = "ratio",
    band: Band | None = None,
    first: State | None = None,
) -> tuple[Array, RecurrentCache]:
    """The responses of T steps, (T, N, H, W), and the cache.

    label: (H, W).  rates: (T,), the weight of each step's template, beta.  A first rate of 1 starts
    a filter; otherwise `first` is the state before the first step.  Raises ValueError where shapes
    do not fit.
    """
    array_module(templates, searches, label)
    _require_shapes(templates, searches, label, rates)
    shape = templates.shape[-2:]
    templates_f, searches_f, label_f = (rfft2(v, band) for v in (templates, searches, label))
    responses_f, unrolled = unroll_forward(
        templates_f, searches_f, label_f, lam, rates, rule, first
    )
    return irfft2(responses_f, shape, band), RecurrentCache(unrolled, shape, band)


def _require_shapes(templates: Array, searches: Array, label: Array, rates: Array) -> None:
    who = "recurrent_forward"
    if templates.ndim != 5 or searches.shape != templates.shape:
        got = f"{templates.shape} and {searches.shape}"
        raise ValueError(f"{who}: templates and searches must both be (T, N, D, H, W), got {got}")
    if label.shape != templates.shape[-2:]:
        raise ValueError(f"{who}: label must be {templates.shape[-2:]}, got {label.shape}")
    if len(rates) != len(templates):
        raise ValueError(f"{who}: rates must be ({len(templates)},), got {rates.shape}")


def recurrent_backward(
    dresponses: Array, cache: RecurrentCache, dlast: State | None = None
) -> Gradients:
    """Gradients of `recurrent_forward`.

    dresponses: dL/dg, (T, N, H, W).  dlast: as for `unroll_backward`.
    """
    unrolled, shape, band = cache
    by = unroll_backward(rfft2(dresponses, band), unrolled, shape, band, dlast)  # Eq. 6
    dtemplates, dsearches, dlabel = (irfft2(spectra, shape, band) for spectra in by[:3])
    return Gradients(dtemplates, dsearches, dlabel, by.lam, by.rates, by.first)
