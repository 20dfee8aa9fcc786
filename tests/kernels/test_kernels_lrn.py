"""lrn.cu against dcfnet_np.ops.lrn, sgd.cu and adam.cu against dcfnet_np.train.optimisers."""

import numpy as np
import pytest
from kernel_device import relative_error

from dcfnet_np.kernels import adam, lrn, sgd
from dcfnet_np.ops.lrn import lrn_backward, lrn_forward
from dcfnet_np.train.optimisers import EPSILON, SQUARES_DECAY, adam_step, sgd_step, update_average

TOLERANCE = {np.float32: 2e-6, np.float64: 1e-14}
# alpha near 1, so that the sum over channels matters; beta with and without the short cut
CONSTANTS = [
    pytest.param({"n": 5, "k": 1.0, "alpha": 0.7, "beta": 0.75}, id="beta-3/4"),
    pytest.param({"n": 3, "k": 2.0, "alpha": 1.1, "beta": 0.6}, id="n-3"),
    pytest.param({"n": 1, "k": 0.5, "alpha": 0.3, "beta": 1.0}, id="n-1"),
]
SHAPES = [(2, 9, 5, 7), (1, 32, 16, 8), (1, 1, 1, 1), (3, 2, 11, 13), (0, 4, 3, 3), (2, 3, 0, 5)]


@pytest.mark.parametrize("window", [False, True])
@pytest.mark.parametrize("constants", CONSTANTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_forward_and_backward(device, rng, dtype, constants, window):
    for shape in SHAPES:
        x, dy = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
        hann = rng.random(shape[2:]).astype(dtype) if window else None
        factor = np.float64(1) if hann is None else hann.astype(np.float64)
        want, cache = lrn_forward(x.astype(np.float64), **constants)
        want_dx = lrn_backward(dy * factor, cache)
        how = lrn.Constants(**constants)
        device_hann = None if hann is None else device(hann)
        y = lrn.forward(device(x), how, window=device_hann)
        assert y.dtype == dtype
        assert relative_error(y, want * factor) < TOLERANCE[dtype]
        dx = lrn.backward(device(dy), device(x), how, window=device_hann)
        assert relative_error(dx, want_dx) < TOLERANCE[dtype]


def test_what_is_refused(device, rng):
    x, p = device(rng.standard_normal((2, 4, 6, 5))), device(np.ones(5))
    how = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0}
    for call, message in [
        (lambda: lrn.forward(x.transpose(0, 1, 3, 2)), "lrn_forward: x must be C-contiguous"),
        (lambda: lrn.forward(x, lrn.Constants(n=4)), "n must be odd"),
        (lambda: lrn.forward(x, window=p), r"lrn_forward: window must have shape \(6, 5\)"),
        (lambda: lrn.backward(x.astype(np.float32), x), "lrn_backward: dy must be float64"),
        (lambda: sgd.step(p, p[:4].copy(), p, **how), r"sgd.step: gradient must have shape \(5,\)"),
        (
            lambda: adam.update_average(p.astype(np.float32), p, share=0.5),
            "adam.update_average: average must be float64",
        ),
    ]:
        with pytest.raises((TypeError, ValueError), match=message):
            call()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [0, 1, 256, 300])
def test_sgd_step(device, rng, size, dtype):
    p, v, g = (rng.standard_normal(size).astype(dtype) for _ in range(3))
    want_p, want_v = {"w": p.astype(np.float64)}, {"w": v.astype(np.float64)}
    sgd_step(want_p, {"w": g.astype(np.float64)}, want_v, lr=0.1, momentum=0.9, weight_decay=0.05)
    on_device = [device(a.copy()) for a in (p, g, v)]
    sgd.step(*on_device, lr=0.1, momentum=0.9, weight_decay=0.05)
    assert relative_error(on_device[0], want_p["w"]) < TOLERANCE[dtype]
    assert relative_error(on_device[2], want_v["w"]) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [0, 1, 256, 300])
def test_adam_step(device, rng, size, dtype):
    """The third step of a run, and the average after it."""
    p, g, m, a = (rng.standard_normal(size).astype(dtype) for _ in range(4))
    s = rng.random(size).astype(dtype) + dtype(0.1)
    want_p, want_m, want_s, want_a = ({"w": x.astype(np.float64)} for x in (p, m, s, a))
    how = {"lr": 0.1, "step": 3, "momentum": 0.6, "weight_decay": 0.05}
    adam_step(want_p, {"w": g.astype(np.float64)}, want_m, want_s, **how)
    update_average(want_a, want_p, step=1000, decay=0.7)
    on_device = [device(x.copy()) for x in (p, g, m, s, a)]
    del how["momentum"]
    memory, decays = on_device[2:4], (0.6, SQUARES_DECAY)
    adam.step(*on_device[:2], memory, decays=decays, epsilon=EPSILON, **how)
    adam.update_average(on_device[4], on_device[0], share=0.3)
    for got, want in zip((on_device[0], *on_device[2:]), (want_p, want_m, want_s, want_a)):
        assert relative_error(got, want["w"]) < TOLERANCE[dtype]
