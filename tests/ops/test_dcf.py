"""The correlation filter layer in the image domain, and what the band leaves out."""

import naive
import numpy as np
import pytest

from dcfnet_np.backend import to_numpy
from dcfnet_np.filter import OnlineFilter
from dcfnet_np.ops.dcf import dcf_backward, dcf_forward, learn_filter, respond, ridge_loss
from dcfnet_np.ops.fourier import irfft2, label_band, rfft2
from dcfnet_np.vision.windows import gaussian_label


def test_response_is_a_circular_correlation(rng):
    """Eq. 3 by its definition in pixels: the sum over channels of w^l correlated with z^l."""
    w, z = rng.standard_normal((2, 3, 5, 6))
    expected = sum(naive.circular_correlation(w[channel], z[channel]) for channel in range(3))
    response = respond(rfft2(w[None]), rfft2(z[None]), (5, 6))
    np.testing.assert_allclose(response[0], expected, atol=1e-12)


@pytest.mark.parametrize("channels, shape", [(1, (7, 6)), (3, (5, 8))])
def test_filter_is_the_least_squares_solution(rng, channels, shape):
    """Eq. 2 against the ridge regression of Eq. 1, a linear system over all shifts."""
    template, label, lam = (
        rng.standard_normal((1, channels, *shape)),
        rng.standard_normal(shape),
        0.7,
    )
    size = shape[0] * shape[1]
    rows = []
    for row, column in np.ndindex(*shape):  # response[r, s] = sum of w[i, j] x[r + i, s + j]
        rows.append(np.roll(template[0], (-row, -column), (1, 2)).ravel())
    system = np.array(rows)
    w = np.linalg.solve(system.T @ system + lam * np.eye(channels * size), system.T @ label.ravel())
    filter_f = learn_filter(rfft2(template), rfft2(label), lam)
    np.testing.assert_allclose(irfft2(filter_f, shape)[0], w.reshape(channels, *shape), atol=1e-10)

    best = ridge_loss(filter_f, template, label, lam)
    residual = system @ w - label.ravel()
    assert best[0] == pytest.approx(residual @ residual + lam * w @ w, rel=1e-10)


def test_the_response_peaks_where_the_template_went(xp, rng):
    template = rng.standard_normal((1, 4, 21, 18)).astype(np.float32)
    search = np.roll(template, (3, -5), (2, 3))
    label = gaussian_label((21, 18), 1.5)
    response, _ = dcf_forward(
        *(xp.asarray(a) for a in (template, search)), rfft2(xp.asarray(label)), 1e-4
    )
    assert np.unravel_index(to_numpy(response)[0].argmax(), (21, 18)) == (3, 13)
    np.testing.assert_allclose(to_numpy(response)[0], np.roll(label, (3, -5), (0, 1)), atol=1e-5)


def test_band_changes_neither_response_nor_gradients(xp, rng):
    label = xp.asarray(gaussian_label((121, 121), 4.1667, np.float64))
    smooth = rng.standard_normal((2, 1, 3, 121, 121)).cumsum(-1).cumsum(-2)
    template, search = (xp.asarray(features - features.mean()) for features in smooth)
    upstream = label[None] * rng.standard_normal()
    band = label_band(label)
    full, full_cache = dcf_forward(template, search, rfft2(label), 1e-4)
    banded, banded_cache = dcf_forward(template, search, rfft2(label, band), 1e-4, band)
    assert abs(to_numpy(full - banded)).max() < 1e-10 * abs(to_numpy(full)).max()
    for whole, part in zip(
        dcf_backward(upstream, full_cache), dcf_backward(upstream, banded_cache), strict=True
    ):
        assert abs(to_numpy(whole - part)).max() < 1e-10 * abs(to_numpy(whole)).max()


def test_what_does_not_fit_is_refused(rng):
    x = rng.standard_normal((1, 2, 6, 5))
    label_f = rfft2(rng.standard_normal((6, 5)))
    with pytest.raises(ValueError, match="both be"):
        dcf_forward(x, x[:, :1], label_f, 1e-4)
    with pytest.raises(ValueError, match="label_f must be rfft2"):
        dcf_forward(x, x, label_f[:3], 1e-4)
    with pytest.raises(ValueError, match="lam"):
        dcf_forward(x, x, label_f, -1)
    _, cache = dcf_forward(x, x, label_f, 1e-4)
    with pytest.raises(ValueError, match="shape of the response"):
        dcf_backward(np.zeros((1, 5, 5)), cache)


def spectra(rng, count, channels=2, shape=(6, 7)):
    return rfft2(rng.standard_normal((count, channels, *shape)))


def test_the_ratio_rule_is_equation_13(rng):
    """Three frames, against the sums of Eq. 13 written out, with the weights that a running mean
    gives them.
    """
    templates, label_f, beta, lam = spectra(rng, 3), rfft2(rng.standard_normal((6, 7))), 0.3, 0.5
    model = OnlineFilter(label_f, lam, beta, "ratio")
    for template_f in templates:
        model.update(template_f)
    weights = [(1 - beta) ** 2, beta * (1 - beta), beta]
    numerator = sum(b * label_f.conj() * x for b, x in zip(weights, templates, strict=True))
    denominator = sum(
        b * ((abs(x) ** 2).sum(0) + lam) for b, x in zip(weights, templates, strict=True)
    )
    search_f = spectra(rng, 2)
    expected = ((numerator / denominator).conj() * search_f).sum(1)
    np.testing.assert_allclose(model.response_f(search_f), expected, atol=1e-10)


def test_the_averages_rule_averages_template_and_dual_filter(rng):
    templates, label_f, beta, lam = spectra(rng, 2), rfft2(rng.standard_normal((6, 7))), 0.3, 0.5
    model = OnlineFilter(label_f, lam, beta, "averages")
    for template_f in templates:
        model.update(template_f)
    template = (1 - beta) * templates[0] + beta * templates[1]
    alpha = sum(
        b * label_f / ((abs(x) ** 2).sum(0) + lam)
        for b, x in zip([1 - beta, beta], templates, strict=True)
    )
    search_f = spectra(rng, 2)
    np.testing.assert_allclose(
        model.response_f(search_f), (template.conj() * search_f).sum(1) * alpha, atol=1e-10
    )


@pytest.mark.parametrize("rule", ["ratio", "averages"])
def test_one_frame_gives_the_filter_of_equation_2(rng, rule):
    template_f, search_f, label_f = (
        spectra(rng, 1)[0],
        spectra(rng, 1),
        rfft2(rng.standard_normal((6, 7))),
    )
    model = OnlineFilter(label_f, 0.5, 0.1, rule)
    model.update(template_f)
    expected = (learn_filter(template_f[None], label_f, 0.5).conj() * search_f).sum(1)
    np.testing.assert_allclose(model.response_f(search_f), expected, atol=1e-12)


def test_filter_before_its_first_frame_and_unknown_rule(rng):
    with pytest.raises(RuntimeError, match="before the first update"):
        OnlineFilter(np.ones(3), 1e-4, 0.01).response_f(np.ones((1, 2, 3)))
    with pytest.raises(ValueError, match="rule must be"):
        OnlineFilter(np.ones(3), 1e-4, 0.01, "mean")


@pytest.mark.parametrize("rule", ["ratio", "averages"])
def test_responses_to_any_number_of_windows(rng, rule):
    """One after the other, as detection and redetection ask; each alone gives the same."""
    label_f, template, search = (
        rng.normal(size=shape) + 1j * rng.normal(size=shape)
        for shape in ((5, 3), (2, 5, 3), (4, 2, 5, 3))
    )
    model = OnlineFilter(label_f, 0.1, 0.02, rule)
    model.update(template)
    energy = (abs(template) ** 2).sum(0) + 0.1
    wanted = (template.conj() * search).sum(1) * label_f / energy
    for count in (1, 3, 1, 2, 4):
        got = model.response_f(search[:count])
        assert got.shape == (count, 5, 3)
        np.testing.assert_allclose(got, wanted[:count], rtol=1e-12)


@pytest.mark.parametrize("rule", ["ratio", "averages"])
@pytest.mark.parametrize("shape", [(1, 5, 4), (2, 4, 5), (2, 5), (5, 4)])
def test_a_filter_takes_templates_of_one_shape(rng, rule, shape):
    """One channel would spread over two."""
    model = OnlineFilter(np.ones((5, 4), np.complex64), 1e-4, 0.01, rule)
    model.update(rng.standard_normal((2, 5, 4)).astype(np.complex64))
    with pytest.raises(
        ValueError, match=r"^OnlineFilter.update: template_f must be \(2, 5, 4\), got "
    ):
        model.update(np.ones(shape, np.complex64))
    with pytest.raises(
        ValueError, match=r"^OnlineFilter.update: template_f must be \(D, 5, 4\), got "
    ):
        OnlineFilter(model.label_f, 1e-4, 0.01, rule).update(np.ones(shape[1:], np.complex64))
