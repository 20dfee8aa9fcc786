"""The report of `dcfnet gradcheck --report`: one self-contained HTML page, or the same as JSON."""

import html
import json
import math
import platform
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..support.files import check_output, replacing
from .checker import GradientResult, Sweep
from .mutants import Verdict

STYLE = """
body { font: 15px/1.5 sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; color: #222; background: #fff }
table { border-collapse: collapse; margin: 1em 0 } th, td { padding: .15em .7em; text-align: left; vertical-align: top }
th { border-bottom: 1px solid #888 } tr:nth-child(even) td { background: #f4f4f4 }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap } .bad { color: #b00020 }
code { font-size: 90%; overflow-wrap: anywhere } td:last-child { min-width: 12em }
figure { display: inline-block; margin: .5em } figcaption { font-size: 85% }
"""


def check_report(path: Path) -> None:
    """Raise ValueError when no report can be written at `path`."""
    if path.suffix.lower() not in (".html", ".json"):
        raise ValueError(f"{path}: a report must end in .html or .json")
    check_output(path)


def write_report(
    path: str | Path,
    results: Sequence[GradientResult],
    curves: Sequence[Sweep] = (),
    verdicts: Sequence[Verdict] | None = None,
) -> None:
    """Write what `check` or `run_all`, `sweep` and `mutants.judge` returned, as .html or .json by
    the name of `path`.

    Raises ValueError for another name or an impossible place, WriteError when the disk is full.
    """
    path = Path(path)
    check_report(path)
    text = (
        _json(results, curves, verdicts)
        if path.suffix.lower() == ".json"
        else _page(results, curves, verdicts)
    )
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def worst_cases(results: Iterable[GradientResult]) -> list[GradientResult]:
    """For each equation, and each op without one, the result that comes nearest to its limit or
    furthest beyond.
    """
    worst: dict[str, GradientResult] = {}
    for result in results:
        key = f"Eq. {result.equation}" if result.equation else result.name.split(",")[0].split()[0]
        if key not in worst or _badness(result) > _badness(worst[key]):
            worst[key] = result
    return list(worst.values())


def score(verdicts: Iterable[Verdict]) -> dict[str, int]:
    """How many mutants were made, and how many of each status."""
    count = Counter(verdict.status for verdict in verdicts)
    statuses = ("killed", "equivalent", "not run", "survived")
    return {"mutants": sum(count.values()), **{status: count[status] for status in statuses}}


def _badness(result: GradientResult) -> float:
    share = result.error / result.limit if result.limit else math.inf
    return math.inf if math.isnan(share) else share


def _environment() -> dict[str, str]:
    machine = f"{platform.system()} {platform.machine()}"
    return {
        "dcfnet_np": __version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": machine,
    }


# ----------------------------------------------------------------------------------------------------- JSON


def _json(
    results: Sequence[GradientResult], curves: Sequence[Sweep], verdicts: Sequence[Verdict] | None
) -> str:
    """An object; inside its lists an item a line, so that two reports can be compared line by line."""
    parts: dict[str, Any] = {
        "environment": _environment(),
        "checks": [_plain(r._asdict()) for r in results],
    }
    parts["sweeps"] = [_plain(curve._asdict()) for curve in curves]
    if verdicts is not None:
        parts["score"] = score(verdicts)
        by_code: dict[tuple[str, int, str], list[list[str]]] = {}
        for v in verdicts:
            by_code.setdefault((v.function, v.line, v.before), []).append([v.after, v.status, v.by])
        parts["mutants"] = [
            dict(zip(("function", "line", "code", "mutants"), (*k, v))) for k, v in by_code.items()
        ]
    blocks = []
    for name, value in parts.items():
        if isinstance(value, list):
            block = (
                "[\n" + ",\n".join(json.dumps(item, ensure_ascii=False) for item in value) + "\n]"
            )
        else:
            block = json.dumps(value)
        blocks.append(f"{json.dumps(name)}: {block}")
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def _plain(value: Any) -> Any:
    """JSON knows neither complex numbers, which become [re, im], nor NaN and infinity, which become
    words.
    """
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, complex):
        return (
            _plain(value.real)
            if value.imag == 0 or math.isnan(value.imag)
            else [value.real, value.imag]
        )
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else str(value)
    return value


# ----------------------------------------------------------------------------------------------------- HTML


def _page(
    results: Sequence[GradientResult], curves: Sequence[Sweep], verdicts: Sequence[Verdict] | None
) -> str:
    failed = [result for result in results if not result.ok]
    verdict = (
        f"{len(failed)} of {len(results)} checks failed"
        if failed
        else f"{len(results)} checks, all right"
    )
    columns = (
        "op",
        "eq.",
        "shape",
        "gradient",
        "error",
        "limit",
        "worst at",
        "numeric",
        "analytic",
        "compared",
    )
    sections = [
        f"<h1>Gradient checks</h1><p>{verdict}. {_text(', '.join(' '.join(i) for i in _environment().items()))}</p>",
        "<h2>Worst cases</h2><p>Of each equation, and of each op, the check nearest to its limit.</p>",
        _table(columns, [_row(result) for result in worst_cases(results)]),
    ]
    if curves:
        sections.append(
            "<h2>Error over step</h2><p>Central differences along random directions; powers of ten; the step in units "
            "of the largest input. Rounding (1/h) on the left, truncation (h<sup>2</sup>) on the right. A linear "
            "op has no truncation, a wrong gradient no V.</p>"
        )
        sections += [_figure(curve) for curve in curves]
    if verdicts is not None:
        sections.append(_mutants(verdicts))
    sections += ["<h2>All checks</h2>", _table(columns, [_row(result) for result in results])]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Gradient checks</title>'
        f"<style>{STYLE}</style></head>\n<body>\n" + "\n".join(sections) + "\n</body></html>\n"
    )


def _row(r: GradientResult) -> list[str]:
    shape = "x".join(map(str, r.shape))
    error = _number(r.error) if r.ok else f'<strong class="bad">{_number(r.error)}</strong>'
    index = ", ".join(map(str, r.worst))
    values = [_number(r.numeric), _number(r.analytic)]
    return [
        *map(_text, (r.name, r.equation, shape, r.gradient)),
        error,
        _number(r.limit),
        index,
        *values,
        _text(r.note),
    ]


def _number(value: complex) -> str:
    if isinstance(value, complex):
        value = value.real if value.imag == 0 or math.isnan(value.imag) else value
    return "" if isinstance(value, float) and math.isnan(value) else f"{value:.3g}"


def _mutants(verdicts: Sequence[Verdict]) -> str:
    by_function: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        by_function.setdefault(verdict.function, []).append(verdict)
    rows = [[_text(name), *map(str, score(of).values())] for name, of in by_function.items()]
    rows.append(["all", *map(str, score(verdicts).values())])
    listed = [
        [
            f"<code>{_text(v.function)}</code> {v.line}",
            f"<code>{_text(v.before)}</code>",
            f"<code>{_text(v.after)}</code>",
            v.status if v.status != "survived" else '<strong class="bad">survived</strong>',
            _text(v.by),
        ]
        for v in verdicts
    ]
    return (
        "<h2>Mutants</h2><p>One small change to a function at a time; a check that fails has killed the mutant.</p>"
        + _table(("function", *score(verdicts)), rows)
        + _table(("function, line", "code", "mutant", "", "by"), listed)
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{column}</th>" for column in columns)
    lines = ["<tr>" + "".join(_cell(cell) for cell in row) + "</tr>" for row in rows]
    return f"<table><tr>{head}</tr>\n" + "\n".join(lines) + "</table>"


def _cell(cell: str) -> str:
    is_number = cell[:1].isdigit() or cell[:2].strip("-")[:1].isdigit()
    return (
        f'<td class="number">{cell}</td>' if is_number and "x" not in cell else f"<td>{cell}</td>"
    )


def _figure(curve: Sweep) -> str:
    """The curve as inline SVG, 20 px a decade, errors clipped to 1e-14 .. 1e2."""
    width, height, decade = 300, 340, 20

    def place(step: float, error: float) -> tuple[float, float]:
        exponent = math.log10(min(max(error, 1e-14), 1e2)) if math.isfinite(error) else 2.0
        return 30 + decade * (math.log10(step) + 13), 10 + decade * (2 - exponent)

    points = " ".join(
        "{:.1f},{:.1f}".format(*place(*point)) for point in zip(curve.steps, curve.errors)
    )
    lines = []
    for exponent in range(-12, 1, 3):
        (x, _), (_, y) = place(10.0**exponent, 1.0), place(1.0, 10.0**exponent)
        lines.append(f'<path d="M30 {y:g}H{width - 10}M{x:g} 10V{height - 10}" stroke="#ddd"/>')
        lines.append(
            f'<text x="2" y="{y + 4:g}">{exponent}</text><text x="{x - 6:g}" y="{height}">{exponent}</text>'
        )
    caption = _text(f"{curve.name}: {curve.gradient}")
    return (
        f'<figure><svg width="{width}" height="{height}" font-size="11" role="img" aria-label="{caption}">'
        f'{"".join(lines)}<polyline points="{points}" fill="none" stroke="#0050a0" stroke-width="1.5"/></svg>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _text(text: str) -> str:
    return html.escape(text)
