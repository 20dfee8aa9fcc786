"""Through time: the cell beside the layer, the online filter, and PyTorch's gradients."""

import numpy as np
import pytest

from dcfnet_np.filter import OnlineFilter
from dcfnet_np.ops.dcf import (
    dcf_backward,
    dcf_forward,
    energy_gradient_f,
    label_gradient,
    lam_gradient,
)
from dcfnet_np.ops.fourier import irfft2, make_band, rfft2
from dcfnet_np.ops.recurrent import recurrent_backward, recurrent_forward

RULES = "ratio", "averages"


def clip(rng, steps, shape=(6, 7), channels=3):
    templates, searches = rng.standard_normal((2, steps, 2, channels, *shape))
    rates = np.concatenate([[1.0], rng.uniform(0.1, 0.9, steps - 1)])
    return templates, searches, rng.standard_normal(shape), np.array(12.0), rates


@pytest.mark.parametrize("limits", [None, (2, 3)])
@pytest.mark.parametrize("rule", RULES)
def test_one_step_is_the_filter_layer(rng, rule, limits):
    templates, searches, label, lam, rates = clip(rng, 1)
    band = limits and make_band(label.shape, limits, np.float64)
    response, cache = recurrent_forward(
        templates, searches, label, lam, rates, rule=rule, band=band
    )
    expected, layer = dcf_forward(templates[0], searches[0], rfft2(label, band), float(lam), band)
    np.testing.assert_allclose(response[0], expected, atol=1e-13)

    upstream = rng.standard_normal(response.shape)
    got = recurrent_backward(upstream, cache)
    dtemplate, dsearch = dcf_backward(upstream[0], layer)
    np.testing.assert_allclose(got.templates[0], dtemplate, atol=1e-13)
    np.testing.assert_allclose(got.searches[0], dsearch, atol=1e-13)
    dresponse_f = rfft2(upstream[0], band)
    known = layer.template_f, layer.search_f, layer.energy, label.shape, band
    np.testing.assert_allclose(got.label, label_gradient(dresponse_f, *known), atol=1e-12)
    denergy = energy_gradient_f(dresponse_f, layer.response_f, layer.energy)
    assert got.lam == pytest.approx(lam_gradient(denergy, label.shape, band), rel=1e-10)


@pytest.mark.parametrize("rule", RULES)
def test_the_online_filter_is_the_cell(rng, rule):
    templates, searches, label, lam, _ = clip(rng, 4)
    rates = np.array([1.0, 0.2, 0.2, 0.2])
    responses, _ = recurrent_forward(templates, searches, label, lam, rates, rule=rule)
    model = OnlineFilter(rfft2(label), float(lam), 0.2, rule)
    for template, search, response in zip(templates[:, 1], searches[:, 1:], responses[:, 1]):
        model.update(rfft2(template))
        got = irfft2(model.response_f(rfft2(search)), label.shape)[0]
        np.testing.assert_allclose(got, response, atol=1e-14)


@pytest.mark.parametrize("rule", RULES)
def test_a_clip_in_two_pieces_is_the_clip(rng, rule):
    """The state goes over, and so does its gradient: memory need not hold all steps."""
    *stacks, label, lam, rates = clip(rng, 5)
    whole, cache = recurrent_forward(*stacks, label, lam, rates, rule=rule)
    upstream = rng.standard_normal(whole.shape)
    expected = recurrent_backward(upstream, cache)

    early, late = ([part[:2] for part in stacks], [part[2:] for part in stacks])
    _, first = recurrent_forward(*early, label, lam, rates[:2], rule=rule)
    response, second = recurrent_forward(
        *late, label, lam, rates[2:], rule=rule, first=first.unrolled.states[-1]
    )
    np.testing.assert_allclose(response, whole[2:], atol=1e-14)
    after = recurrent_backward(upstream[2:], second)
    before = recurrent_backward(upstream[:2], first, after.first)
    for name in ("templates", "searches", "rates"):
        got = np.concatenate([getattr(before, name), getattr(after, name)])
        np.testing.assert_allclose(got, getattr(expected, name), atol=1e-12)
    for name in ("label", "lam"):
        got = getattr(before, name) + getattr(after, name)
        np.testing.assert_allclose(got, getattr(expected, name), atol=1e-12)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: (c[0][0], *c[1:]), r"templates and searches must both be \(T, N, D, H, W\)"),
        (lambda c: (*c[:2], c[2][1:], *c[3:]), r"label must be \(6, 7\), got \(5, 7\)"),
        (lambda c: (*c[:4], c[4][1:]), r"rates must be \(3,\), got \(2,\)"),
    ],
)
def test_shapes_that_do_not_fit(rng, change, message):
    with pytest.raises(ValueError, match=f"^recurrent_forward: {message}"):
        recurrent_forward(*change(clip(rng, 3)))


# --- PyTorch, which differentiates by itself


def responses_in_torch(torch, templates, searches, label, lam, rates, rule):
    """The definition, through PyTorch's full complex transforms."""
    x, z, y = (torch.fft.fft2(v) for v in (templates, searches, label))
    responses, means = [], None
    for template_f, search_f, rate in zip(x, z, rates):
        energy = (template_f.abs() ** 2).sum(1, keepdim=True) + lam
        newest = (y.conj() * template_f, energy) if rule == "ratio" else (template_f, y / energy)
        means = newest if means is None else [
            (1 - rate) * old + rate * new for old, new in zip(means, newest)
        ]  # fmt: skip
        a, b = means
        filter_f = a / b if rule == "ratio" else a * b.conj()
        responses.append(torch.fft.ifft2((filter_f.conj() * search_f).sum(1)).real)
    return torch.stack(responses)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("steps", [1, 2, 6])
def test_gradients_are_pytorchs(rng, rule, steps):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed; gradcheck has this too")
    for shape, channels in (((5, 8), 1), ((6, 7), 3), ((9, 9), 2)):
        arrays = clip(rng, steps, shape, channels)
        response, cache = recurrent_forward(*arrays, rule=rule)
        upstream = rng.standard_normal(response.shape)
        got = recurrent_backward(upstream, cache)

        tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
        theirs = responses_in_torch(torch, *tensors, rule)
        np.testing.assert_allclose(theirs.detach().numpy(), response, atol=1e-12)
        theirs.backward(torch.tensor(upstream))
        for name, tensor, mine in zip(got._fields, tensors, got):
            expected = np.zeros(tensor.shape) if tensor.grad is None else tensor.grad.numpy()
            mine = np.array(mine)
            if name == "rates":  # PyTorch's starts without a blend
                mine[0] = expected[0] = 0
            scale = max(abs(expected).max(), 1e-3)
            assert abs(mine - expected).max() <= 1e-9 * scale, (name, shape)
