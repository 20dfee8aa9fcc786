"""Scores by their toolkits' own definitions, written once more in plain Python."""

import dataclasses
import math
import operator
import statistics

import numpy as np
import pytest

from dcfnet_np.evaluation import vot
from dcfnet_np.evaluation.metrics import combine_sequences, score_frames, score_sequence
from dcfnet_np.evaluation.rules import RULES, Rules
from dcfnet_np.evaluation.vot import BOX, FAILED, STARTED, UNKNOWN

# Typed from the toolkits' sources, not read from the module: OTB's genPerfMat and calcSeqErrRobust,
# GOT-10k's experiments/got10k.py, pytracking's extract_results.py, DSST's
# compute_performance_measures.
FIELDS = """overlap_thresholds overlap_test success_score op_test
    precision_thresholds precision_test centre area clip_to_frame first_frame failed_frame
    truth absent average statistic omit_initial"""
SETS = {
    "otb": """21 > curve > 51 <=
        centre continuous False truth previous positive otb sequences mean True""",
    "got10k": """101 > overlap > 51 <=
        centre continuous True skip miss size skip frames mean False""",
    "pytracking": """21 > curve > 51 <=
        centre continuous False truth previous size skip sequences mean False""",
    "paper": """21 > curve >= 51 <
        corner continuous False result previous size skip sequences median True""",
}
SIZE = (120, 90)  # of a frame: boxes reach out of it


@pytest.mark.parametrize("name", SETS)
def test_every_field_of_a_set(name):
    rules = RULES[name]
    assert set(RULES) == set(SETS) and rules.name == name
    assert [field.name for field in dataclasses.fields(Rules)] == ["name", *FIELDS.split()]
    assert [str(getattr(rules, field)) for field in FIELDS.split()] == SETS[name].split()


def awkward(seed, count):
    """(boxes, truth), 0-based: lost, failed and hidden frames, truth that leaves the frame."""
    rng = np.random.default_rng(seed)
    truth = np.column_stack(
        [rng.uniform(2, 80, (count, 2)), rng.uniform(8, 40, count), rng.uniform(15, 60, count)]
    )
    boxes = truth + rng.normal(0, 1, (count, 4)) * np.linspace(0.3, 12, count)[:, None]
    boxes[:, 2:] = np.maximum(boxes[:, 2:], 2)
    truth[4:8], truth[7, 2] = np.rint(truth[4:8]), 40  # so that the limits are met exactly
    boxes[4] = truth[4]  # overlap 1
    boxes[5] = truth[5] * (1, 1, 2, 1)  # overlap 1/2, and no error of the corner
    boxes[6, :2] = truth[6, :2] + (12, 16)  # 20 pixels, of the corners and of the centres
    boxes[6, 2:] = truth[6, 2:]
    boxes[7, :2] = truth[7, :2] + (8, 0)  # a fifth of the width
    boxes[7, 2:] = truth[7, 2:]
    boxes[9] = np.nan
    boxes[11, 2] = 0
    boxes[12, :2] = 500
    truth[14, 0] = -3.5  # 1-based not above 0
    truth[15] = np.nan
    truth[16, 3] = 0
    boxes[0] += 1.5  # the first box, which some rules do not look at
    return boxes, truth


SEQUENCES = [awkward(1, 30), awkward(2, 45), awkward(3, 23)]


def overlap(a, b):
    """Of two boxes (x, y, w, h)."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    return min(common / (a[2] * a[3] + b[2] * b[3] - common), 1.0)  # equal boxes may give 1 + 1e-16


def errors(a, b):
    """Distance of the centres, in pixels and in parts of the size of b, the truth."""
    dx, dy = a[0] + a[2] / 2 - b[0] - b[2] / 2, a[1] + a[3] / 2 - b[1] - b[3] / 2
    return math.hypot(dx, dy), math.hypot(dx / b[2], dy / b[3])


def good(box):
    return all(map(math.isfinite, box)) and box[2] > 0 and box[3] > 0


def repaired(boxes, truth):
    """Failed frames take the box before; the first one is the truth's unless truth is None."""
    kept = [list(boxes[0] if truth is None else truth[0])]
    for box in boxes[1:]:
        kept.append(list(box) if good(box) else kept[-1])
    return kept


def share(hits):
    hits = list(hits)
    return sum(hits) / len(hits)


def measures(rows, missed=(), above=operator.gt, within=operator.le):
    """Of (overlap, error, normalised error) of each frame; missed: those of absent frames."""
    every = [*rows, *missed]
    return {
        "success": share(row[0] > t / 20 for row in every for t in range(21)),
        "op": share(above(row[0], 0.5) for row in every),
        "dp": share(within(row[1], 20) for row in every),
        "normalised_precision": share(within(row[2], 0.2) for row in every),
        "cle": statistics.fmean(row[1] for row in rows),
        "overlap": statistics.fmean(row[0] for row in rows),
        "frames": len(every),
    }


def otb(boxes, truth):
    pairs = list(zip(repaired(boxes, truth), truth))
    there = [pair for pair in pairs if all(v > 0 for v in pair[1] + np.array([1, 1, 0, 0]))]
    rows = [(overlap(*pair), *errors(*pair)) for pair in there]
    return measures(rows, [(-1, -1, -1)] * (len(pairs) - len(there)))


def pytracking(boxes, truth):
    pairs = [(box, there) for box, there in zip(repaired(boxes, truth), truth) if good(there)]
    return measures([(overlap(*pair), *errors(*pair)) for pair in pairs])


def paper(boxes, truth):
    """Corners taken for centres, so a box lies around its corner."""
    pairs = [(box, there) for box, there in zip(repaired(boxes, None), truth) if good(there)]
    around = [[(x - w / 2, y - h / 2, w, h) for x, y, w, h in pair] for pair in pairs]
    rows = [(overlap(*pair), *errors(*pair)) for pair in around]
    return measures(rows, above=operator.ge, within=operator.lt)


def cut(box):
    x, y = min(max(box[0], 0), SIZE[0]), min(max(box[1], 0), SIZE[1])
    return x, y, min(max(box[2], 0), SIZE[0] - x), min(max(box[3], 0), SIZE[1] - y)


def got10k(sequences):
    """Over the frames of all sequences, the first of each left out."""
    pairs = [pair for boxes, truth in sequences for pair in list(zip(boxes, truth))[1:]]
    rows = []
    for box, there in pairs:
        if good(there):
            met = overlap(cut(box), cut(there)) if good(box) and good(cut(box)) else 0
            far = errors(box, there) if np.isfinite(box).all() else (math.inf, math.inf)
            rows.append((met, *far))
    return measures(rows) | {"success": statistics.fmean(row[0] for row in rows)}


def scored(name):
    rules = RULES[name]
    parts = [score_sequence([score_frames(b, t, rules, SIZE)], rules) for b, t in SEQUENCES]
    return parts, combine_sequences(parts, rules)[0]


@pytest.mark.parametrize(
    ("name", "definition", "mean"),
    [
        ("otb", otb, statistics.fmean),
        ("pytracking", pytracking, statistics.fmean),
        ("paper", paper, statistics.median),
    ],
)
def test_a_set_is_its_toolkit_s_definition(name, definition, mean):
    expected = [definition(*pair) for pair in SEQUENCES]
    parts, overall = scored(name)
    for part, wanted in zip(parts, expected):
        assert part.scores._asdict() == pytest.approx(wanted, abs=1e-12)
    means = {measure: mean([each[measure] for each in expected]) for measure in expected[0]}
    means["frames"] = sum(each["frames"] for each in expected)
    assert overall._asdict() == pytest.approx(means, abs=1e-12)


def test_got10k_is_its_toolkit_s_definition():
    parts, overall = scored("got10k")
    assert overall._asdict() == pytest.approx(got10k(SEQUENCES), abs=1e-12)
    for part, pair in zip(parts, SEQUENCES):
        assert part.scores._asdict() == pytest.approx(got10k([pair]), abs=1e-12)


# --- normalised precision, by hand


def test_normalised_precision_by_hand():
    """Errors over the truth's width and height, apart: 40 x 10 here, results have other sizes."""
    truth = np.array([[100, 100, 40, 10]] * 6, float)
    # .2, .2, .2121, .25, .25, .2059
    centres = [(8, 0), (0, 2), (6, 1.5), (0, 2.5), (10, 0), (4, 1.8)]
    sizes = [(20, 5), (80, 20), (40, 10), (5, 30), (90, 4), (41, 9)]
    boxes = np.array(
        [(120 + dx - w / 2, 105 + dy - h / 2, w, h) for (dx, dy), (w, h) in zip(centres, sizes)]
    )
    rules = Rules(first_frame="result")
    frames = score_frames(boxes, truth, rules)
    expected = [0.2, 0.2, math.hypot(0.15, 0.15), 0.25, 0.25, math.hypot(0.1, 0.18)]
    np.testing.assert_allclose(frames.normalised, expected, atol=1e-12)
    scores, curves, _ = score_sequence([frames], rules)
    assert scores.normalised_precision == pytest.approx(2 / 6)  # .2 itself is in
    assert len(curves.normalised) == 51  # at 0, .01, ..., .5
    np.testing.assert_allclose(
        curves.normalised[[19, 20, 21, 22, 24, 25, 50]], [0, 2 / 6, 3 / 6, 4 / 6, 4 / 6, 1, 1]
    )


# --- VOT


def expected_overlap(overlaps, states):
    """VOT2015's curve: runs are cut at each new start, and count as zero ever after."""
    longest = max(map(len, overlaps))
    runs = []
    for values, state in zip(overlaps, states):
        values = [0.0 if math.isnan(value) else value for value in values]
        starts = [0] + [
            k + 5 for k in range(len(state)) if state[k] == FAILED and k + 5 < len(state)
        ]
        for number, start in enumerate(starts):
            if number + 1 < len(starts):
                run = values[start : starts[number + 1] + 1]
                runs.append(run + [0.0] * (longest - len(run)))
            else:
                runs.append(values[start:])
    curve = [1.0]
    for length in range(2, longest + 1):
        means = [statistics.fmean(run[1:length]) for run in runs if len(run) >= length]
        curve.append(statistics.fmean(means) if means else math.nan)
    return curve


def supervised(rng, count, failures):
    states = np.full(count, BOX)
    states[0] = STARTED
    for at in failures:
        states[at : at + 6] = [FAILED, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, STARTED][: count - at]
    values = rng.uniform(0.1, 1, count)
    values[states != BOX] = np.nan
    return values, states


@pytest.mark.parametrize(
    "failures",
    [[(), ()], [(3, 20), ()], [(34,), (7,)], [(36,), (3,)], [(39,), (12, 18)], [(1, 7), (44,)]],
)
def test_expected_overlap_is_vot_s(rng, failures):
    """Among them failures after which there is no frame left to start in, or the last one."""
    runs = [supervised(rng, count, at) for count, at in zip((40, 50, 31), [*failures, ()])]
    overlaps, states = zip(*runs)
    expected = expected_overlap(overlaps, states)
    np.testing.assert_allclose(vot.expected_overlap(overlaps, states), expected, atol=1e-12)
    found = vot.vot_scores(overlaps, states, (10, 25))
    assert found.eao == pytest.approx(np.mean(expected[9:25]), abs=1e-12)
    assert found.failures == sum(map(len, failures)) and found.robustness == found.failures / 3


def test_the_range_of_lengths_is_vot2015_s(rng):
    overlaps, states = zip(*(supervised(rng, 400, at) for at in [(50,), (), (200, 300)]))
    expected = expected_overlap(overlaps, states)
    found = vot.vot_scores(overlaps, states)
    assert found.lengths == (108, 371)
    assert found.eao == pytest.approx(statistics.fmean(expected[107:371]), abs=1e-12)
    burnt = [value for o, s in zip(overlaps, states) for k, value in enumerate(o)
             if s[k] == BOX and STARTED not in s[max(k - 9, 0) : k]]  # fmt: skip
    assert found.accuracy == pytest.approx(statistics.fmean(burnt), abs=1e-12)
