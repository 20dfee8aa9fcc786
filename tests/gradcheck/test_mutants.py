"""Mutants: that they are made as said, that the checks kill them, and that none is excused for
nothing.
"""

import numpy as np
import pytest

from dcfnet_np.gradcheck import cases, check, mutants, survivors
from dcfnet_np.ops import dcf, loss, lrn

# ----------------------------------------------------------------------------------------------
# making them


def sample(x, y, n=2):
    """A docstring that nobody mutates."""
    if x is None:
        raise ValueError("a guard")
    total = x.conj() * y[1:n] - 3
    total += y
    return total, x


def test_the_mutants_of_a_function():
    found = {(m.before, m.after) for m in mutants.mutants(sample)}
    first, second, third = "total = x.conj() * y[1:n] - 3", "total += y", "return (total, x)"
    assert {after for before, after in found if before == first} == {
        "total = x.conj() * y[1:n] + 3",
        "total = x.conj() * y[1:n]",
        "total = -3",
        "total = x.conj() / y[1:n] - 3",
        "total = x.conj() - 3",
        "total = y[1:n] - 3",
        "total = x * y[1:n] - 3",
        "total = x.conj() * y[:n] - 3",
        "total = x.conj() * y[1:] - 3",
        "total = x.conj() * y[2:n] - 3",
        "total = x.conj() * y[0:n] - 3",
        "total = x.conj() * y[1:n + 1] - 3",
        "total = x.conj() * y[1:n] - 4",
        "total = x.conj() * y[1:n] - 2",
    }
    assert {after for before, after in found if before == second} == {
        "total -= y",
        "total = y",
        "pass",
    }
    assert {after for before, after in found if before == third} == {"return (x, total)"}
    assert {before for before, _ in found} == {first, second, third}


def test_a_planted_mutant_runs_under_every_name_and_is_gone_afterwards():
    other_name = sample
    x, y = np.array([1 + 2j, 3 - 1j]), np.arange(2.0) + 0j
    right = other_name(x, y)[0]
    (mutant,) = (m for m in mutants.mutants(sample) if m.after == "total = x * y[1:n] - 3")
    with mutants.planted(sample, mutant.code):
        assert not np.array_equal(other_name(x, y)[0], right)
    np.testing.assert_array_equal(other_name(x, y)[0], right)


def test_every_backward_pass_is_a_target():
    targets = set(mutants.targets())
    named = {
        f"ops.{op}_backward"
        for op in ("conv.conv2d", "relu.relu", "lrn.lrn", "loss.response_loss", "dcf.dcf")
    }
    equations = {
        "search_gradient_f",
        "to_image",
        "template_gradient_f",
        "template_conj_gradient_f",
        "template_gradient",
    }
    assert targets >= named | {f"ops.dcf.{name}" for name in equations}
    assert targets >= {
        "ops.fourier.rfft2_adjoint",
        "ops.fourier.irfft2_adjoint",
        "ops.fourier.mirror_count",
    }
    assert targets >= {"network.backward", "filter.OnlineFilter.update"}


# ------------------------------------------------------------------------------------------------
# killing them


def assert_killed(verdicts):
    assert verdicts
    alive = [
        f"{v.function}, line {v.line}: {v.before}  ->  {v.after}"
        for v in verdicts
        if v.status == "survived"
    ]
    assert not alive, (
        "no check notices, so strengthen gradcheck.cases, or say in mutants.EQUIVALENT why: "
        + str(alive)
    )


def test_a_share_of_the_mutants_is_killed():
    """All of them in `dcfnet gradcheck --mutants`, which `make proof` runs."""
    assert_killed(list(mutants.judge(every=20)))


def test_all_mutants_of_the_paper_s_gradients_are_killed():
    names = [
        name for name in mutants.targets() if name.startswith("ops.dcf.") and "gradient" in name
    ]
    verdicts = list(mutants.judge(functions=names))
    assert_killed(verdicts)
    assert {v.status for v in verdicts} == {"killed"} and len(verdicts) > 30


def test_a_hole_in_the_checks_is_seen(monkeypatch):
    """With a symmetric label, whose spectrum is real, nobody notices a missing conjugate of it."""

    def symmetric(place):
        for p in cases._problems(place, (3,)):
            label_f = p.label_f.real + 0j
            response_f = (p.template_f.conj() * label_f / p.energy * p.search_f).sum(1)
            yield from cases._equation_9(p._replace(label_f=label_f, response_f=response_f))

    monkeypatch.setattr(cases, "CASES", {"equation 9": symmetric})
    monkeypatch.setattr(mutants, "CASES", cases.CASES)
    verdicts = list(mutants.judge(functions=["ops.dcf.template_gradient_f"]))
    (alive,) = (v for v in verdicts if v.status == "survived")
    assert (
        "search_f.conj() * label_f.conj()" in alive.before
        and "search_f.conj() * label_f " in alive.after
    )


def test_code_that_fails_its_own_checks_has_no_mutants(monkeypatch):
    with mutants.planted(dcf.to_image, next(mutants.mutants(dcf.to_image)).code):
        with pytest.raises(
            RuntimeError,
            match="the checks must pass on the code as it is, but equation 8: TypeError",
        ):
            list(mutants.judge(functions=["ops.dcf.to_image"]))


def test_every_excuse_is_for_a_mutant_that_exists():
    targets = mutants.targets()
    names = {key[0] for key in mutants.EQUIVALENT} & set(targets)
    made = [m for name in names for m in mutants.mutants(targets[name], name)]
    codes = {(m.function, m.before, after) for m in made for after in (m.after, "*")}
    assert set(mutants.EQUIVALENT) - codes == set(), (
        "the code has changed: strike these out, or excuse what is there now"
    )
    assert all(mutants.EQUIVALENT.values())


@pytest.mark.slow
def test_no_excuse_is_for_a_mutant_that_can_be_killed():
    verdicts = list(mutants.judge(functions={key[0] for key in mutants.EQUIVALENT}))
    excused = [v for v in verdicts if mutants.explanation(v) and v.status == "killed"]
    # A "*" may cover a change that breaks the code; another excuse may not.
    assert [v for v in excused if (v.function, v.before, "*") not in mutants.EQUIVALENT] == []


# -----------------------------------------------------------------------------------------
# anybody's backward pass


def test_survivors_of_a_weak_check(rng):
    """With alpha at its usual 2e-5 the gradient across channels is invisible; with alpha near 1 it
    is not.
    """
    x = rng.standard_normal((2, 6, 3, 4))
    weak = {m.after for m in survivors(lrn.lrn_forward, lrn.lrn_backward, (x,), tolerance=1e-3)}
    strong = {m.after for m in survivors(lrn.lrn_forward, lrn.lrn_backward, (x,), alpha=0.9)}
    assert {"through_s *= 3 * alpha * beta", "dx += through_s"} <= weak
    assert all("lrn_kernels" in after for after in strong)  # a GPU's branch


def test_survivors_needs_a_right_gradient(rng):
    def forward(x):
        return x**2, x

    with pytest.raises(AssertionError, match="is wrong"):
        survivors(forward, lambda dy, x: 3 * x * dy, (rng.standard_normal(3),))


def test_the_loss_of_one_pair_does_not_see_the_mean(rng):
    def backward(dloss, cache):
        return loss.response_loss_backward(cache, dloss)

    label = rng.standard_normal((5, 4))
    check(loss.response_loss_forward, backward, (rng.standard_normal((1, 5, 4)),), label=label)
