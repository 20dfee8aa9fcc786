"""The report holds what was found, in JSON that any reader takes and in a page that needs nothing
from outside.
"""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from dcfnet_np.gradcheck import GradientError, check, mutants, run_all, sweep, write_report
from dcfnet_np.gradcheck.report import worst_cases
from dcfnet_np.ops import relu


@pytest.fixture
def found(rng):
    """Right results, wrong ones, a curve and verdicts, with names that HTML must escape."""
    x = rng.standard_normal((3, 4))
    results = check(lambda x: (x**2, x), lambda dy, x: 2 * x * dy, (x,), name="a<b>&c")
    with pytest.raises(GradientError) as raised:
        check(lambda x: (x**2, x), lambda dy, x: np.nan * dy, (x,), name="broken, twice")
    results += raised.value.results + run_all(only=["equation 7"])
    curves = sweep(relu.relu_forward, relu.relu_backward, (x,), gradient_names=["dx"])
    verdicts = [
        mutants.Verdict("f", 7, "y = a < b", "y = a <= b", False, "killed", "a check"),
        mutants.Verdict("f", 7, "y = a < b", "y = b", False, "survived", ""),
    ]
    return results, curves, verdicts


def test_json(found, tmp_path):
    results, curves, verdicts = found
    write_report(tmp_path / "r.json", *found)

    def no_constants(word):
        raise ValueError(f"{word} is not JSON")

    report = json.loads((tmp_path / "r.json").read_text(), parse_constant=no_constants)
    assert [c["name"] for c in report["checks"]] == [r.name for r in results]
    assert (
        report["checks"][0]["worst"] == list(results[0].worst) and report["checks"][0]["ok"] is True
    )
    assert report["checks"][1]["error"] == "nan" and report["checks"][1]["ok"] is False
    assert isinstance(report["checks"][2]["numeric"], list)  # complex
    np.testing.assert_allclose(report["sweeps"][0]["errors"], curves[0].errors, rtol=1e-5)
    assert report["score"] == {
        "mutants": 2,
        "killed": 1,
        "equivalent": 0,
        "not run": 0,
        "survived": 1,
    }
    (code,) = report["mutants"]
    assert code["code"] == "y = a < b" and code["mutants"][1] == ["y = b", "survived", ""]


class Page(HTMLParser):
    """Collects rows of cells, and checks that what is opened is closed."""

    def __init__(self):
        super().__init__()
        self.open, self.rows, self.urls, self.svgs = [], [], [], 0

    def handle_starttag(self, tag, attributes):
        self.urls += [value for name, value in attributes if name in ("src", "href")]
        self.svgs += tag == "svg"
        if tag not in ("meta",):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "td" in self.open:
            self.rows[-1][-1] += data


def test_html(found, tmp_path):
    results, curves, verdicts = found
    write_report(tmp_path / "r.html", *found)
    text = (tmp_path / "r.html").read_text()
    page = Page()
    page.feed(text)
    page.close()
    assert page.open == [] and page.urls == [] and "http" not in text and "url(" not in text
    assert page.svgs == len(curves) == 1
    assert f"1 of {len(results)} checks failed" in text
    rows = [row for row in page.rows if row]
    assert ["a<b>&c", "", "3x4", "gradient 0"] in [row[:4] for row in rows]
    assert ["f 7", "y = a < b", "y = b", "survived", ""] in rows
    assert ["all", "2", "1", "0", "0", "1"] in rows


def test_the_worst_case_of_each_equation_and_op(found):
    results = found[0]
    worst = worst_cases(results)
    assert [r.name.split(",")[0] for r in worst] == ["a<b>&c", "broken", "search bins"]
    sevens = [r for r in results if r.equation == "7"]
    assert (
        worst[2].error / worst[2].limit == max(r.error / r.limit for r in sevens)
        and len(sevens) > 1
    )


def test_a_v_in_the_page_goes_down_and_up(rng, tmp_path):
    curves = sweep(
        lambda x: (np.sin(x), x), lambda dy, x: dy * np.cos(x), (rng.standard_normal(5),)
    )
    write_report(tmp_path / "r.html", [], curves)
    (points,) = re.findall(r'points="(.*?)"', (tmp_path / "r.html").read_text())
    y = [float(point.split(",")[1]) for point in points.split()]  # downwards
    deepest = int(np.argmax(y))
    assert 5 < deepest < len(y) - 5 and y[0] < y[deepest] - 100 and y[-1] < y[deepest] - 100


def test_a_report_of_another_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"r\.pdf: a report must end in \.html or \.json"):
        write_report(tmp_path / "r.pdf", [])


def test_the_examples_of_the_documentation_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    document = (Path(__file__).parent.parent / "docs" / "reference" / "gradcheck.md").read_text(
        encoding="utf-8"
    )
    first, curves, mutated = re.findall(r"```python\n(.*?)```", document, re.S)
    assert len(first.strip().splitlines()) == 5 + first.count("\n\n")
    scope = {}
    exec(first, scope)
    assert re.fullmatch(
        r"<lambda>: gradient 0 \(3, 4\) is right: error \S+, limit 5e-08 \(.*\)\n",
        capsys.readouterr().out,
    )
    exec(curves, scope)
    assert min(scope["curves"][0].errors) < 1e-9 and (tmp_path / "report.html").exists()

    def square(x):
        return x**2, x

    with pytest.raises(GradientError) as raised:
        check(square, lambda dy, x: 3 * x * dy, [scope["x"]])
    assert f"    {raised.value}\n" in document
    exec(
        mutated,
        {"forward": relu.relu_forward, "backward": relu.relu_backward, "inputs": [scope["x"]]},
    )
    assert capsys.readouterr().out == ""
