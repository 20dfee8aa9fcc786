"""Mutants: that they are made as said, that the checks kill them, that no excuse is for nothing."""

import numpy as np
import pytest

from dcfnet_np.gradcheck import equations, mutants, survivors
from dcfnet_np.ops import dcf, lrn


def sample(x, y, n=2):
    """A docstring that nobody mutates."""
    if x is None:
        raise ValueError("a guard")
    total = x.conj() * y[1:n] - 3
    total += y
    return total, x


def test_the_mutants_of_a_function():
    made = {}
    for mutant in mutants.mutants(sample):
        made.setdefault(mutant.before, set()).add(mutant.after)
    assert made == {
        "total = x.conj() * y[1:n] - 3": {
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
        },
        "total += y": {"total -= y", "total = y", "pass"},
        "return (total, x)": {"return (x, total)"},
    }


def test_a_planted_mutant_runs_under_every_name_and_is_gone_afterwards():
    other_name = sample
    x, y = np.array([1 + 2j, 3 - 1j]), np.arange(2.0) + 0j
    right = other_name(x, y)[0]
    (mutant,) = (m for m in mutants.mutants(sample) if m.after == "total = x * y[1:n] - 3")
    with mutants.planted(sample, mutant.code):
        assert not np.array_equal(other_name(x, y)[0], right)
    np.testing.assert_array_equal(other_name(x, y)[0], right)


def test_every_backward_pass_is_a_target():
    backwards = "conv.conv2d relu.relu lrn.lrn loss.response_loss dcf.dcf"
    by_equation = "search_gradient_f to_image template_gradient_f template_conj_gradient_f"
    assert set(mutants.targets()) >= {
        *(f"ops.{op}_backward" for op in backwards.split()),
        *(f"ops.dcf.{name}" for name in by_equation.split()),
        *(f"ops.fourier.{name}" for name in ("rfft2_adjoint", "irfft2_adjoint", "mirror_count")),
        *("ops.dcf.template_gradient", "network.backward", "filter.OnlineFilter.update"),
    }


def assert_killed(verdicts):
    assert verdicts
    alive = [f"{m.function}, {m.line}: {m.before} -> {m.after}" for m in survived(verdicts)]
    assert not alive, "strengthen gradcheck's cases, or say in mutants.EQUIVALENT why"


def survived(verdicts):
    return [verdict.mutant for verdict in verdicts if verdict.status == "survived"]


def test_a_share_of_the_mutants_is_killed():
    """All of them in `dcfnet gradcheck --mutants`, which `make proof` runs."""
    assert_killed(list(mutants.judge(every=20)))


def test_all_mutants_of_the_paper_s_gradients_are_killed():
    of_dcf = [name for name in mutants.targets() if name.startswith("ops.dcf.")]
    verdicts = list(mutants.judge(functions=[name for name in of_dcf if "gradient" in name]))
    assert_killed(verdicts)
    assert {v.status for v in verdicts} == {"killed"} and len(verdicts) > 30


def test_a_hole_in_the_checks_is_seen(monkeypatch):
    """With a symmetric label, whose spectrum is real, nobody notices a missing conjugate of it."""

    def symmetric(p):
        p.label_f = p.label_f.real + 0j
        p.response_f = (p.template_f.conj() * p.label_f / p.energy * p.search_f).sum(1)
        yield from equations._equation_9(p)

    cases = {"equation 9": equations.each_problem(symmetric, 3)}
    monkeypatch.setattr("dcfnet_np.gradcheck.cases.CASES", cases)
    monkeypatch.setattr(mutants, "CASES", cases)
    (alive,) = survived(mutants.judge(functions=["ops.dcf.template_gradient_f"]))
    assert "search_f.conj() * label_f.conj()" in alive.before
    assert "search_f.conj() * label_f " in alive.after


def test_code_that_fails_its_own_checks_has_no_mutants():
    first = next(mutants.mutants(dcf.to_image))
    message = "the checks must pass on the code as it is, but equation 8: TypeError"
    with mutants.planted(dcf.to_image, first.code), pytest.raises(RuntimeError, match=message):
        list(mutants.judge(functions=["ops.dcf.to_image"]))


def test_every_excuse_is_for_a_mutant_that_exists():
    targets = mutants.targets()
    names = {entry[0] for entry in mutants.EQUIVALENT}
    made = [m for name in names for m in mutants.mutants(targets[name], name)]
    unused = [e for e in mutants.EQUIVALENT if not any(mutants.excuses(e, m) for m in made)]
    assert not unused, "the code has changed: strike these out, or excuse what is there now"
    assert all(why for *_, why in mutants.EQUIVALENT)


@pytest.mark.slow
def test_no_excuse_is_for_a_mutant_that_can_be_killed():
    exact = [entry for entry in mutants.EQUIVALENT if entry[2] != "*"]  # a "*" may cover more
    for verdict in mutants.judge(functions={entry[0] for entry in exact}):
        excused = any(mutants.excuses(entry, verdict.mutant) for entry in exact)
        assert not (excused and verdict.status == "killed"), verdict


def test_survivors_of_a_weak_check(rng):
    """With alpha at its usual 2e-5 the gradient across channels is invisible; near 1 it is not."""
    x = rng.standard_normal((2, 6, 3, 4))
    weak = {m.after for m in survivors(lrn.lrn_forward, lrn.lrn_backward, (x,), tolerance=1e-3)}
    strong = {m.after for m in survivors(lrn.lrn_forward, lrn.lrn_backward, (x,), alpha=0.9)}
    assert {"through_s *= 3 * alpha * beta", "dx += through_s"} <= weak
    assert all("lrn_kernels" in after for after in strong)  # a GPU's branch
