"""What the equations of the paper say, and what they do not: each statement shown on random data.

`dcfnet gradcheck` compares every equation with finite differences; here are the statements around
them: which function Eq. 2 minimises, what Eqs. 9-11 mean by "independent", where Eq. 13 is exact,
and three errors in print or in wide use that look right: each is a documented failing example.
"""

import numpy as np
import pytest

from dcfnet_np.filter import OnlineFilter, exact_filter, incremental_loss
from dcfnet_np.gradcheck import GradientError, check, from_paper
from dcfnet_np.ops import dcf
from dcfnet_np.ops.fourier import irfft2, rfft2, rfft2_adjoint

SHAPES = [(7, 7), (6, 6), (5, 8), (6, 9)]


class Problem:
    """Template, search and label at random, without any symmetry; lambda like the energy."""

    def __init__(self, rng, shape, channels, n=2):
        self.shape = shape
        self.template, self.search = (rng.standard_normal((n, channels, *shape)) for _ in range(2))
        self.label = rng.standard_normal(shape)
        self.lam = 0.5 * shape[0] * shape[1]
        self.template_f, self.search_f, self.label_f = map(
            rfft2, (self.template, self.search, self.label)
        )
        self.filter_f = dcf.learn_filter(self.template_f, self.label_f, self.lam)

    def layer_error(self, backward):
        """Errors of dtemplate and dsearch when `backward` takes the place of `dcf_backward`."""
        options = {"label_f": self.label_f, "lam": self.lam}
        try:
            results = check(dcf.dcf_forward, backward, (self.template, self.search), **options)
        except GradientError as error:
            results = error.results
        return [result.error for result in results]


@pytest.fixture(params=SHAPES, ids=lambda shape: f"{shape[0]}x{shape[1]}")
def shape(request):
    return request.param


@pytest.fixture(params=[1, 3], ids=["D=1", "D=3"])
def problem(request, rng, shape):
    return Problem(rng, shape, request.param)


# --- Eqs. 1, 2 and 3 ---


def test_eq2_solves_the_system_of_every_bin(problem):
    """For D > 1 too: the D x D matrix is lambda plus one of rank one."""
    p = problem
    for filter_f, template_f in zip(p.filter_f, p.template_f, strict=True):
        expected = exact_filter(template_f[None], np.ones(1), p.label_f, p.lam)
        np.testing.assert_allclose(filter_f, expected, atol=1e-13 * abs(expected).max())


def test_any_other_filter_has_a_larger_ridge_loss(problem, rng):
    p = problem
    least = dcf.ridge_loss(p.filter_f, p.template, p.label, p.lam)
    for size in (1e-3, 0.1, 1.0, 10.0):
        other = irfft2(p.filter_f, p.shape) * (1 + size * rng.standard_normal(p.template.shape))
        assert (dcf.ridge_loss(rfft2(other), p.template, p.label, p.lam) > least).all()


def test_eq2_as_printed_does_not_minimise_the_ridge_loss(problem):
    """Its denominator sums phi^l over k: one channel's own energy D times over, or once.

    Eq. 4 prints phi^k.
    """
    p = problem
    least = dcf.ridge_loss(p.filter_f, p.template, p.label, p.lam)
    channels = p.template.shape[1]
    for times in {1, channels}:
        energy = times * abs(p.template_f) ** 2 + p.lam
        printed = p.template_f * p.label_f.conj() / energy
        loss = dcf.ridge_loss(printed, p.template, p.label, p.lam)
        if channels == 1:
            np.testing.assert_allclose(loss, least, rtol=1e-12)
        else:
            assert (loss > 1.01 * least).all()


def test_a_shifted_search_moves_the_response(problem):
    """Sign included: content further down and right moves the response down and right."""
    p = problem
    still = dcf.respond(p.filter_f, p.search_f, p.shape)
    moved = dcf.respond(p.filter_f, rfft2(np.roll(p.search, (1, 2), (-2, -1))), p.shape)
    np.testing.assert_allclose(moved, np.roll(still, (1, 2), (-2, -1)), atol=1e-12)


# --- Eqs. 5 to 11 ---


def test_eq5_loses_nothing(rng, shape):
    """dz = F^-1(F(dz)): through the Fourier domain by the paper's convention is the identity."""
    dz = rng.standard_normal((2, 3, *shape))
    np.testing.assert_allclose(irfft2(rfft2(dz), shape), dz, atol=1e-14)
    np.testing.assert_allclose(rfft2_adjoint(from_paper(rfft2(dz), shape), shape), dz, atol=1e-14)


def response_conj_f(p, template_f):
    """g^* of Eq. 3, through the code of Eq. 2."""
    return dcf.correlate(dcf.learn_filter(template_f, p.label_f, p.lam), p.search_f).conj()


def test_eqs_9_and_10_are_wirtinger_derivatives(problem, rng):
    """phi^ and phi^* "as independent variables": (d/dRe - i d/dIm) / 2, and with a plus.

    Every bin depends on itself alone, so one step moves all bins of a channel at once.
    """
    p = problem
    shape = len(p.template), *p.template_f.shape[2:]
    d_f = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    energy = dcf.template_energy(p.template_f, p.lam)
    response_f = dcf.correlate(p.filter_f, p.search_f)
    known = p.template_f, p.search_f, p.label_f, response_f, energy
    by_template = dcf.template_gradient_f(d_f, *known)
    by_conjugate = dcf.template_conj_gradient_f(d_f, p.template_f, response_f, energy)
    h = 1e-5 * abs(p.template_f).max()
    for channel in range(p.template.shape[1]):
        step = np.zeros_like(p.template_f)
        step[:, channel] = h
        by_real, by_imaginary = (
            (response_conj_f(p, p.template_f + s) - response_conj_f(p, p.template_f - s)) / (2 * h)
            for s in (step, 1j * step)
        )
        for analytic, numeric in (
            (by_template[:, channel], d_f * (by_real - 1j * by_imaginary) / 2),
            (by_conjugate[:, channel], d_f * (by_real + 1j * by_imaginary) / 2),
        ):
            assert abs(numeric - analytic).max() <= 5e-8 * abs(analytic).max()


def journal_backward(dresponse, cache):
    """The 2023 journal version of Eqs. 9-11: one channel's own product in the place of g^*.

    It treats channels as if each had its own response.  But w^l has the energy of all channels in
    its denominator, so phi^l(x) moves every channel's share of the response.
    """
    template_f, search_f, label_f, filter_f, _, energy, shape, band = cache
    dresponse_f = rfft2(dresponse, band)[:, None]
    own_conj_f = filter_f * search_f.conj()  # (N, D, bins): a channel's own g^*
    by_template = (
        dresponse_f * (search_f.conj() * label_f.conj() - own_conj_f * template_f.conj()) / energy
    )
    by_conjugate = -dresponse_f * own_conj_f * template_f / energy
    dtemplate = dcf.template_gradient(by_template, by_conjugate, shape, band)
    return dtemplate, dcf.dcf_backward(dresponse, cache)[1]


def test_the_journals_equations_fail_with_several_channels(rng, shape):
    """A documented failing example: right for D = 1, far off for D = 3."""
    dtemplate, dsearch = Problem(rng, shape, 1).layer_error(journal_backward)
    assert dtemplate <= 5e-8 and dsearch <= 5e-8
    dtemplate, dsearch = Problem(rng, shape, 3).layer_error(journal_backward)
    assert dtemplate > 0.10 and dsearch <= 5e-8


def conjugate_label_backward(dresponse, cache):
    """y for y^* throughout: the conjugate that is easiest to get wrong."""
    filter_f = cache.template_f * (cache.label_f / cache.energy)
    return dcf.dcf_backward(
        dresponse, cache._replace(label_f=cache.label_f.conj(), filter_f=filter_f)
    )


def test_a_symmetric_label_hides_a_wrong_conjugate(rng, shape):
    """Why the checks use a random label: the spectrum of a symmetric one is real, and y^* = y."""
    p = Problem(rng, shape, 3)
    assert min(p.layer_error(conjugate_label_backward)) > 0.10
    mirrored = np.roll(p.label[::-1, ::-1], (1, 1), (0, 1))  # label[-r, -s]
    p.label_f = rfft2(p.label + mirrored)
    assert max(p.layer_error(conjugate_label_backward)) <= 5e-8


def test_the_counts_of_the_half_spectrum_matter(rng, shape):
    """Treating dL/dRe + i dL/dIm as the paper's "dL/dX*" up to 1/(HW) alone is wrong but for one
    column or two.
    """
    dx = rng.standard_normal(shape)
    by_bins = rfft2(dx) / (shape[0] * shape[1])  # without c
    error = abs(rfft2_adjoint(by_bins, shape) - dx).max() / abs(dx).max()
    assert error > 0.10


# --- Eqs. 12 and 13 ---


def running_mean(templates_f, label_f, lam, rate):
    """The filter of Eq. 13 after all templates, and its weights beta_t.  templates_f: (T, D,
    bins).
    """
    model = OnlineFilter(label_f, lam, rate, "ratio")
    for template_f in templates_f:
        model.update(template_f)
    weights = rate * (1 - rate) ** np.arange(len(templates_f) - 1, -1, -1.0)
    weights[0] /= rate
    return model.filter_f, weights


def test_eq13_minimises_eq12_for_one_channel(rng, shape):
    p = Problem(rng, shape, 1, n=4)
    filter_f, weights = running_mean(p.template_f, p.label_f, p.lam, rate=0.2)
    assert weights.sum() == pytest.approx(1.0)
    expected = exact_filter(p.template_f, weights, p.label_f, p.lam)
    np.testing.assert_allclose(filter_f, expected, atol=1e-13 * abs(expected).max())


def test_eq13_with_other_weights_has_another_lambda(rng, shape):
    """Its lambda stands inside the sum over t, that of Eq. 12 outside: equal only where the
    weights sum to one.
    """
    p = Problem(rng, shape, 1, n=3)
    weights = np.array([1.0, 0.5, 2.0])
    numerator = np.einsum("t,tiuv,uv->iuv", weights, p.template_f, p.label_f.conj())
    denominator = np.einsum("t,tiuv->uv", weights, abs(p.template_f) ** 2 + p.lam)
    of_eq12 = exact_filter(p.template_f, weights, p.label_f, p.lam)
    of_larger_lambda = exact_filter(p.template_f, weights, p.label_f, weights.sum() * p.lam)
    filter_f = numerator / denominator
    np.testing.assert_allclose(filter_f, of_larger_lambda, atol=1e-13 * abs(filter_f).max())
    assert abs(filter_f - of_eq12).max() > 0.10 * abs(of_eq12).max()


def test_eq13_is_an_approximation_for_several_channels(rng, shape):
    """A documented gap: the minimiser of Eq. 12 needs a D x D system in each bin once there are
    two frames.
    """
    p = Problem(rng, shape, 3, n=4)
    filter_f, weights = running_mean(p.template_f, p.label_f, p.lam, rate=0.2)
    exact = exact_filter(p.template_f, weights, p.label_f, p.lam)
    least = incremental_loss(exact, p.template, weights, p.label, p.lam)
    assert incremental_loss(filter_f, p.template, weights, p.label, p.lam) > 1.001 * least
    assert abs(filter_f - exact).max() > 0.10 * abs(exact).max()
    # One frame, or the same frame over and over: exact again.
    same_f = np.repeat(p.template_f[:1], 4, axis=0)
    filter_f, weights = running_mean(same_f, p.label_f, p.lam, rate=0.2)
    exact = exact_filter(same_f, weights, p.label_f, p.lam)
    np.testing.assert_allclose(filter_f, exact, atol=1e-13 * abs(exact).max())
