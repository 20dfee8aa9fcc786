"""Launch functions of `peak.cu`: from responses to boxes, without leaving the device."""

from typing import Any, NamedTuple

import numpy as np

from dcfnet_np import backend
from dcfnet_np.backend import Array

from . import launch, require, require_all, require_real
from .dft import COMPLEX

_FLAGS = ("false", "true")
EXPRESSIONS = (
    *(f"map_peaks<{ctype}, {flag}>" for ctype in ("float", "double") for flag in _FLAGS),
    *(f"move_targets<{ctype}>" for ctype in ("float", "double")),
)

# Columns of a target's state and of its result; see peak.cu.
STATE = (
    *("cx", "cy", "w", "h", "smallest_w", "smallest_h", "largest_w", "largest_h"),
    *("usual", "unsure", "sure_cx", "sure_cy", "sure_w", "sure_h"),
)
RESULT = ("x", "y", "w", "h", "ok", "score", "psr", "scale", "unsure")


class Peaks(NamedTuple):
    """What `map_peaks` finds in M maps."""

    values: Array  # (M,) largest value
    indices: Array  # (M,) int32, where it is, row-major
    sums: Array  # (M, 2) float64, sum of the values and of their squares


class Targets(NamedTuple):
    """T targets on the device, what `move_targets` reads and writes."""

    state: Array  # (T, 14) float64, columns as in STATE
    windows: Array  # (T * S, 4) float64: centre x, y, width, height of the search windows
    update_windows: Array  # (T, 4) float64, the same for learning
    # (T,) float32 or float64: weight of the newest frame in the model, 0 for an unsure target
    rates: Array
    # (T, 9) float64, columns as in RESULT; scale is the best one's index, -1 for no response
    results: Array
    # (T * S, 3, 2) float32, by `crop`: smallest and largest value of each colour of the search
    # windows
    ranges: Array
    update_ranges: Array  # (T, 3, 2) float32, the same of the windows for learning


class MoveRules(NamedTuple):
    """What `move_targets` reads of a `presets.Preset`, whose fields these are."""

    padding: float
    learning_rate: float
    wrap_before_half: bool = False
    update_on_window: bool = False  # its update_crop is "window"
    min_score: float = 0.0
    min_share: float = 0.0
    min_share_decay: float = 1.0
    min_psr: float = 0.0
    usual_rate: float = 0.1

    @classmethod
    def of(cls, preset: Any) -> "MoveRules":
        """Those of a `presets.Preset`."""
        window = preset.update_crop == "window"
        fields = {name: getattr(preset, name) for name in cls._fields if hasattr(preset, name)}
        return cls(update_on_window=window, **fields)


def make_peaks(maps: int, dtype: Any) -> Peaks:
    """Uninitialised arrays for the peaks of `maps` maps."""
    cp = backend.cupy()
    return Peaks(cp.empty(maps, dtype), cp.empty(maps, np.int32), cp.empty((maps, 2), np.float64))


def map_peaks(maps: Array, *, by_columns: bool = False, out: Peaks | None = None) -> Peaks:
    """Largest value of every map and where it is.

    Of equal ones the first wins, along rows or (`by_columns`) columns.  A NaN counts as the
    largest, as it does in NumPy.  maps: (M, H, W) float32 or float64, at least one pixel.
    """
    ctype = require_real(maps, "map_peaks: maps", (None, None, None))
    count, height, width = maps.shape
    if height * width == 0:
        raise ValueError(f"map_peaks: maps must hold at least one pixel, got {maps.shape}")
    out = make_peaks(count, maps.dtype) if out is None else out
    _require_peaks(out, "map_peaks: out", count, maps.dtype)
    launch("peak.cu", f"map_peaks<{ctype}, {_FLAGS[by_columns]}>", (count,), (512,), maps, *out,
           height, width)  # fmt: skip
    return out


def move_targets(
    maps: Array,
    maps_f: Array,
    peaks: Peaks,
    penalties: Array,
    factors: Array,
    targets: Targets,
    rules: MoveRules,
) -> None:
    """Choose every target's scale, move its box, and write the windows of update and next frame.

    maps: (T * S, H, W) responses, the scales of a target together; maps_f: (T * S, rows, columns),
    their half spectra or bands of these; peaks: of these maps; penalties, factors: (S,) float64.
    `targets` is changed in place.
    """
    who, double = "move_targets", np.float64
    ctype = require_real(maps, f"{who}: maps", (None, None, None))
    count, height, width = maps.shape
    scales = len(factors)
    if scales < 1 or count % scales:
        raise ValueError(f"{who}: maps must hold {scales} scales of every target, got {count} maps")
    t = count // scales
    require(maps_f, f"{who}: maps_f", COMPLEX[np.dtype(maps.dtype)], (count, None, None))
    _require_peaks(peaks, f"{who}: peaks", count, maps.dtype)
    require_all(who, double, (scales,), penalties=penalties, factors=factors)
    require(targets.state, f"{who}: state", double, (t, len(STATE)))
    require(targets.results, f"{who}: results", double, (t, len(RESULT)))
    require(targets.windows, f"{who}: windows", double, (count, 4))
    require(targets.update_windows, f"{who}: update_windows", double, (t, 4))
    require(targets.rates, f"{who}: rates", maps.dtype, (t,))
    require(targets.ranges, f"{who}: ranges", np.float32, (count, 3, 2))
    require(targets.update_ranges, f"{who}: update_ranges", np.float32, (t, 3, 2))
    _, rows, columns = maps_f.shape
    launch("peak.cu", f"move_targets<{ctype}>", (t,), (128,), maps, maps_f, *peaks, penalties,
           factors, *targets, scales, height, width, rows * columns, columns, double(rules.padding),
           maps.dtype.type(rules.learning_rate), int(rules.wrap_before_half),
           int(rules.update_on_window), double(rules.min_score), double(rules.min_share),
           double(rules.min_share_decay), double(rules.min_psr),
           double(rules.usual_rate))  # fmt: skip


def _require_peaks(peaks: Peaks, name: str, count: int, dtype: Any) -> None:
    require(peaks.values, f"{name}.values", dtype, (count,))
    require(peaks.indices, f"{name}.indices", np.int32, (count,))
    require(peaks.sums, f"{name}.sums", np.float64, (count, 2))
