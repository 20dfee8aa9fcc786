"""Gradients by what the paper types in, and through time, checked on random problems."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..backend import Array, array_module, to_numpy
from ..ops import dcf, fourier, loss, recurrent, window
from ..vision import windows
from .equations import Problem, each_problem, from_paper
from .pair import Findings, Pair, Place, compare, to_host

# --- label, lambda


def _label(p: Problem) -> Findings:
    def forward(label: Array) -> Array:
        filter_f = dcf.learn_filter(p.template_f, p.rfft2(label), p.lam)
        return dcf.respond(filter_f, p.search_f, p.shape, p.band)

    def backward(dresponse: Array) -> Array:
        known = p.template_f, p.search_f, p.energy, p.shape, p.band
        return dcf.label_gradient(p.rfft2(dresponse), *known)

    yield p.pair("", "response by label", forward, backward, ("dlabel", p.label))


def _lam(p: Problem) -> Findings:
    def forward(lam: Array) -> Array:
        filter_f = dcf.learn_filter(p.template_f, p.label_f, float(lam))
        return dcf.respond(filter_f, p.search_f, p.shape, p.band)

    def backward(dresponse: Array) -> Array:
        denergy = dcf.energy_gradient_f(p.rfft2(dresponse), p.response_f, p.energy)
        return dcf.lam_gradient(denergy, p.shape, p.band)

    lam = array_module(p.label).asarray(p.lam, p.label.dtype)
    yield p.pair("", "response by lambda", forward, backward, ("dlam", lam))


# --- the label's width, the window


def _sigma(place: Place) -> Findings:
    """Through the label alone, and where the desired response has the same width."""
    if place.device.kind != "cpu":
        return
    rng = np.random.default_rng(21)
    for shape in ((5, 8), (6, 7)):
        name = f"Gaussian label {shape[0]}x{shape[1]}"

        def label_of(sigma: Array, shape: tuple[int, int] = shape) -> tuple[Array, Array]:
            # the largest steps of a sweep go beyond 0, and the label does not see the sign
            return windows.gaussian_label(shape, abs(float(sigma)), place.precision), sigma

        def backward(dlabel: Array, sigma: Array) -> Array:
            return place.precision(windows.sigma_gradient(dlabel, float(sigma)))[()]

        sigma = place(np.array(1.3))
        away = [np.minimum(np.arange(n), n - np.arange(n)) for n in shape]
        expected = np.exp(-np.add.outer(away[0] ** 2, away[1] ** 2) / (2 * 1.3**2))
        yield compare(name, label_of(sigma)[0], expected, "from the distances on a torus")
        yield Pair(name, label_of, backward, (sigma,), ("dsigma",))
        asked, asked_backward = _moving_response(place, rng, shape)
        both = f"{name}, also as desired response"
        yield Pair(both, asked, asked_backward, (sigma,), ("dsigma",))


def _moving_response(place: Place, rng: np.random.Generator, shape: tuple[int, int]) -> Any:
    """|| g(y) - y ||^2 by the width of y: it is the label of the filter, and what is asked for."""
    template_f, search_f = (fourier.rfft2(place.normal(rng, 2, 3, *shape)) for _ in range(2))
    lam = 20.0

    def forward(sigma: Array) -> tuple[float, Any]:
        label = windows.gaussian_label(shape, float(sigma), place.precision)
        filter_f = dcf.learn_filter(template_f, fourier.rfft2(label), lam)
        response = dcf.respond(filter_f, search_f, shape)
        value, cache = loss.response_loss_forward(response, label)
        return value, (cache, sigma)

    def backward(dloss: float, cache: Any) -> Array:
        loss_cache, sigma = cache
        dresponse = loss.response_loss_backward(loss_cache, dloss)
        energy = dcf.template_energy(template_f, lam)
        dlabel = dcf.label_gradient(fourier.rfft2(dresponse), template_f, search_f, energy, shape)
        dlabel = dlabel - dresponse.sum(0)  # the desired response stands there with a minus
        return np.asarray(windows.sigma_gradient(dlabel, float(sigma)), place.precision)

    return forward, backward


def _window(place: Place) -> Findings:
    rng = np.random.default_rng(22)
    features, any_window = place.normal(rng, 2, 3, 5, 4), place.normal(rng, 5, 4)
    y, _ = window.window_forward(features, any_window)
    expected = np.einsum("ndhw,hw->ndhw", to_host(features), to_host(any_window))
    yield compare("window", y, expected, "pixel by pixel")
    names = "dfeatures", "dwindow"
    inputs = features, any_window
    yield Pair("window", window.window_forward, window.window_backward, inputs, names)


def _power(place: Place) -> Findings:
    """Of a Hann window with zeros at its edges."""
    if place.device.kind != "cpu":
        return
    for shape in ((5, 8), (6, 3)):

        def forward(power: Array, shape: tuple[int, int] = shape) -> tuple[Array, Array]:
            return windows.hann_power(shape, float(power), place.precision), power

        def backward(dwindow: Array, power: Array) -> Array:
            return np.asarray(windows.power_gradient(dwindow, float(power)), place.precision)

        name = f"Hann window {shape[0]}x{shape[1]} to a power"
        expected = np.outer(np.hanning(shape[0]), np.hanning(shape[1])) ** 1.7
        power = place(np.array(1.7))
        yield compare(name, forward(power)[0], expected, "against NumPy's window")
        yield Pair(name, forward, backward, (power,), ("dpower",))


# --- through time


class _Clip:
    """Random features of a clip of `steps` steps, N = 2, D = 2."""

    def __init__(
        self, place: Place, rule: recurrent.Rule, steps: int, first: bool, limits: Any
    ) -> None:
        self.rule, rng = rule, np.random.default_rng(23)
        self.shape = (5, 4) if limits is None else (6, 7)
        stack = steps, 2, 2, *self.shape
        self.templates, self.searches = (place.normal(rng, *stack) for _ in range(2))
        self.label = place.normal(rng, *self.shape)
        self.lam = place(np.array(60.0))
        self.rates = place(rng.uniform(0.2, 0.6, steps))
        if not first:
            self.rates[0] = 1
        xp = array_module(self.label)
        self.band = limits and fourier.make_band(self.shape, limits, place.precision, xp)
        a = fourier.rfft2(place.normal(rng, *stack[1:]), self.band)
        b = abs(a[:, :1]) ** 2 + 40  # as large as an energy
        b = b if rule == "ratio" else a[:, 1:] / b
        self.first = recurrent.State(a, b) if first else None

    def by_hand(self) -> np.ndarray:
        """Each response by its definition: sums over all templates so far."""
        band, shape, lam, rule = self.band, self.shape, float(self.lam), self.rule
        x, z = (fourier.rfft2(v, band) for v in (self.templates, self.searches))
        y, rates, steps = fourier.rfft2(self.label, band), to_numpy(self.rates), len(x)
        responses = []
        for t in range(steps):
            weights = [rates[s] * np.prod(1 - rates[s + 1 : t + 1]) for s in range(t + 1)]
            rest = np.prod(1 - rates[: t + 1])
            energies = [(abs(x[s]) ** 2).sum(1, keepdims=True) + lam for s in range(t + 1)]
            a = sum(w * (x[s] * y.conj() if rule == "ratio" else x[s])
                    for s, w in enumerate(weights))  # fmt: skip
            b = sum(w * (energies[s] if rule == "ratio" else y / energies[s])
                    for s, w in enumerate(weights))  # fmt: skip
            if self.first:
                a, b = a + rest * self.first.a, b + rest * self.first.b
            filter_f = a / b if rule == "ratio" else a * b.conj()
            responses.append(fourier.irfft2((filter_f.conj() * z[t]).sum(1), shape, band))
        return np.stack([to_host(response) for response in responses])


def _recurrent(rule: recurrent.Rule) -> Callable[[Place], Findings]:
    """The cell over some steps, by one rule: values, and the gradients by all that goes in."""

    def case(place: Place) -> Findings:
        for steps, first, limits in ((2, False, None), (3, False, None), (3, True, (2, 3))):
            clip = _Clip(place, rule, steps, first, limits)
            options: dict[str, Any] = {"rule": rule, "band": clip.band, "first": clip.first}
            name = f"{rule}, {steps} steps{', a first state and a band' if first else ''}"
            inputs = clip.templates, clip.searches, clip.label, clip.lam, clip.rates
            value = recurrent.recurrent_forward(*inputs, **options)[0]
            yield compare(name, value, clip.by_hand(), "against sums over the frames")
            names = "dtemplates", "dsearches", "dlabel", "dlam", "drates"
            forward = recurrent.recurrent_forward
            yield Pair(name, forward, _without_first, inputs, names, options=options)
            if clip.first is not None:
                yield _by_first_state(name, clip)
                yield _in_pieces(name, clip)

    return case


def _in_pieces(name: str, clip: _Clip) -> Any:
    """The gradient by the templates, the last step apart: its state's gradient goes over."""

    def run(part: slice, first: recurrent.State | None) -> tuple[Array, Any]:
        stacks = clip.templates[part], clip.searches[part]
        return recurrent.recurrent_forward(
            *stacks, clip.label, clip.lam, clip.rates[part],
            rule=clip.rule, band=clip.band, first=first,
        )  # fmt: skip

    value, cache = run(slice(None), clip.first)
    _, early = run(slice(-1), clip.first)
    _, late = run(slice(-1, None), early.unrolled.states[-1])
    after = recurrent.recurrent_backward(value[-1:], late)
    before = recurrent.recurrent_backward(value[:-1], early, after.first)
    pieces = array_module(value).concatenate([before.templates, after.templates])
    whole = recurrent.recurrent_backward(value, cache).templates
    return compare(f"{name}, in two pieces", pieces, whole, "against all steps at once")


def _without_first(dy: Array, cache: recurrent.RecurrentCache) -> tuple[Array, ...]:
    return recurrent.recurrent_backward(dy, cache)[:-1]


def _by_first_state(name: str, clip: _Clip) -> Pair:
    """Bin by bin; B of "ratio" is real."""

    def forward(a: Array, b: Array) -> tuple[Array, Any]:
        return recurrent.recurrent_forward(
            clip.templates, clip.searches, clip.label, clip.lam, clip.rates,
            rule=clip.rule, band=clip.band, first=recurrent.State(a, b),
        )  # fmt: skip

    def backward(dy: Array, cache: Any) -> list[Array]:
        dfirst = recurrent.recurrent_backward(dy, cache).first
        return [from_paper(gradient, clip.shape, clip.band) for gradient in dfirst]

    assert clip.first is not None
    return Pair(f"{name}, by that state", forward, backward, clip.first, ("da", "db"))


CASES: dict[str, Callable[[Place], Findings]] = {
    "label": each_problem(_label, 3),
    "lambda": each_problem(_lam, 3),
    "sigma": _sigma,
    "window": _window,
    "power": _power,
    "recurrent ratio": _recurrent("ratio"),
    "recurrent averages": _recurrent("averages"),
}
