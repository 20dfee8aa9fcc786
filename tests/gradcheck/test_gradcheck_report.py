"""The report holds what was found, in JSON that any reader takes."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from dcfnet_np.gradcheck import GradientError, check, mutants, run_all, sweep, write_report
from dcfnet_np.ops import relu


@pytest.fixture
def x(rng):
    return rng.standard_normal((3, 4))


def test_json(x, tmp_path):
    results = check(lambda x: (x**2, x), lambda dy, x: 2 * x * dy, (x,))
    with pytest.raises(GradientError) as raised:
        check(lambda x: (x**2, x), lambda dy, x: np.nan * dy, (x,))
    results += raised.value.results + run_all(only=["equation 7"])
    curves = sweep(relu.relu_forward, relu.relu_backward, (x,), gradient_names=["dx"])
    mutant = mutants.Mutant("f", 7, "y = a < b", "y = b", False, "a < b", "b", None)
    verdicts = [
        mutants.Verdict(mutant._replace(after="y = a <= b"), "killed", "a check"),
        mutants.Verdict(mutant, "survived", ""),
    ]
    write_report(tmp_path / "r.json", results, curves, verdicts)

    def no_constants(word):
        raise ValueError(f"{word} is not JSON")

    report = json.loads((tmp_path / "r.json").read_text(), parse_constant=no_constants)
    right, wrong, by_bins, *_ = report["checks"]
    assert [c["name"] for c in report["checks"]] == [r.name for r in results]
    assert right["worst"] == list(results[0].worst) and right["ok"] is True
    assert wrong["error"] == "nan" and wrong["ok"] is False
    assert isinstance(by_bins["numeric"], list)  # complex
    np.testing.assert_allclose(report["sweeps"][0]["errors"], curves[0].errors, rtol=1e-5)
    found = {"killed": 1, "equivalent": 0, "not run": 0, "survived": 1}
    assert report["score"] == {"mutants": 2, **found}
    (code,) = report["mutants"]
    assert code["code"] == "y = a < b" and code["mutants"][1] == ["y = b", "survived", ""]


def test_a_report_of_another_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"r\.html: a report must end in \.json"):
        write_report(tmp_path / "r.html", [])


def test_the_examples_of_the_documentation_run(x, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = Path(__file__).parents[2] / "docs" / "reference" / "gradcheck.md"
    document = page.read_text(encoding="utf-8")
    first, curves, mutated = re.findall(r"```python\n(.*?)```", document, re.S)
    assert len(first.strip().splitlines()) == 5 + first.count("\n\n")
    scope = {}
    exec(first, scope)
    line = r"<lambda>: gradient 0 \(3, 4\) is right: error \S+, limit 5e-08 \(.*\)\n"
    assert re.fullmatch(line, capsys.readouterr().out)
    exec(curves, scope)
    assert min(scope["curves"][0].errors) < 1e-9 and (tmp_path / "report.json").exists()

    def square(x):
        return x**2, x

    with pytest.raises(GradientError) as raised:
        check(square, lambda dy, x: 3 * x * dy, [scope["x"]])
    assert f"    {raised.value}\n" in document
    pair = {"forward": relu.relu_forward, "backward": relu.relu_backward, "inputs": [scope["x"]]}
    exec(mutated, pair)
    assert capsys.readouterr().out == ""
