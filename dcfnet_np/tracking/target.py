"""What is known of one target from frame to frame, and what a tracker says of it."""

from typing import Any, NamedTuple

import numpy as np

from ..backend import Array
from ..filter import OnlineFilter
from ..presets import Preset
from ..vision.boxes import Box
from .response import Quality


class TrackResult(NamedTuple):
    """What is known of the target in one frame."""

    box: tuple[float, float, float, float]  # x, y, w, h in pixels, 0-based, top-left corner
    ok: bool  # the state is "tracking"; otherwise nothing was learned from this frame
    score: float  # how well it was recognised, 0 to 1, see `response.score_of`
    psr: float  # peak-to-sidelobe ratio of the response
    scale: float  # size over the first frame's, geometric mean of both sides
    # (N, N) response of the best scale, peak at the centre when nothing moved
    response: np.ndarray | None = None
    # or "unsure": no response, or score or PSR below the preset's; or "lost": unsure for long
    state: str = "tracking"


class Target:
    """Place and size of one target, the limits of its size, and the filter that finds it."""

    filter: OnlineFilter

    def __init__(self, box: Box, frame_shape: tuple[int, ...], preset: Preset) -> None:
        x, y, w, h = box  # pixels, 0-based
        self.centre = np.array([x + w / 2, y + h / 2])
        self.size = self.first_size = np.array([w, h])
        limits = size_limits(self.size, frame_shape, preset)
        self.min_size, self.max_size = np.reshape(limits, (2, 2))
        self.preset = preset
        self.usual = 0.0  # score, the running mean over the frames in which it was recognised
        self.unsure = 0  # frames in a row
        self.sure_place = self.centre, self.size  # the last one
        self.template_window = self.windows()[0]  # (w, h) of what is to be learned next
        self.template_f: Array | None = None  # (D, bins), its spectrum, where the search gave it

    def windows(self, factors: Any = 1.0) -> np.ndarray:
        """Widths and heights of windows around it, (S, 2) pixels; factors on its size, (S,)."""
        return np.reshape(factors, (-1, 1)) * self.size * (1 + self.preset.padding)

    def move(self, peak: tuple[int, int], window: np.ndarray) -> None:
        """To the peak (row, column) of the response in a search window (w, h), and to its size.

        One pixel of the map is window / N pixels of the frame, as in the released codes (whose crop
        samples window / (N - 1)).
        """
        (row, column), preset = peak, self.preset
        self.centre = self.centre + np.array([column, row]) * window / preset.input_size
        found = window / (1 + preset.padding)
        self.size = np.minimum(np.maximum(found, self.min_size), self.max_size)
        self.template_window = window if preset.update_crop == "window" else self.windows()[0]
        self.template_f = None

    def judge(self, quality: Quality) -> None:
        """Recognise it where it is now, or count an unsure frame.

        An unsure target has the size that it had when it was recognised last: weak peaks say little
        of size.
        """
        if self.recognises(quality):
            self.recognise(quality)
            return
        self.unsure += 1
        self.size = self.sure_place[1]

    def recognises(self, quality: Quality) -> bool:
        """Whether to believe a response in its own window."""
        preset = self.preset
        share = preset.min_share * preset.min_share_decay**self.unsure
        least = max(preset.min_score, share * self.usual)
        return quality.score > 0 and quality.score >= least and quality.psr >= preset.min_psr

    def recognise(self, quality: Quality) -> None:
        """It is here for sure.  After unsure frames its usual score starts anew."""
        rate = 1.0 if self.unsure or not self.usual else self.preset.usual_rate
        self.usual += rate * (quality.score - self.usual)
        self.unsure, self.sure_place = 0, (self.centre, self.size)

    def reappear(
        self, place: np.ndarray, window: np.ndarray, peak: tuple[int, int], quality: Quality
    ) -> None:
        """It is found again, by the peak of the response of a window (w, h) at another place."""
        self.centre = place
        self.move(peak, window)
        self.recognise(quality)

    def found_by(self, quality: Quality) -> bool:
        """Whether to believe a response somewhere else."""
        enough = quality.score >= self.preset.redetection_share * self.usual
        return self.recognises(quality) and enough and quality.psr >= self.preset.redetection_psr

    @property
    def box(self) -> Box:
        """x, y, w, h in pixels, 0-based, top-left corner."""
        x, y = self.centre - self.size / 2
        return float(x), float(y), float(self.size[0]), float(self.size[1])

    def result(self, response: np.ndarray, quality: Quality, with_response: bool) -> TrackResult:
        """As things stand.  response: with zero displacement at (0, 0)."""
        scale = float(np.sqrt((self.size / self.first_size).prod()))
        state = state_after(self.unsure, self.preset.lost_after)
        map_ = np.fft.fftshift(response) if with_response else None
        return TrackResult(self.box, state == "tracking", *quality, scale, map_, state)


def state_after(unsure: int, lost_after: int) -> str:
    """State of a target after so many unsure frames in a row, see `TrackResult`."""
    return "tracking" if unsure == 0 else "unsure" if unsure < lost_after else "lost"


def size_limits(
    size: np.ndarray, frame_shape: tuple[int, ...], preset: Preset
) -> tuple[float, ...]:
    """Smallest width and height, then largest ones, of a target that starts with `size` pixels."""
    height, width = frame_shape[:2]
    frame_size = np.array([height, width] if preset.swapped_clamp else [width, height])
    smallest = np.maximum(preset.min_scale * size, preset.min_size)
    largest = np.minimum(frame_size, preset.max_scale * size)
    return (*smallest, *largest)


def check_frame_shape(got: tuple[int, ...], wanted: tuple[int, ...], who: str) -> None:
    """Raise ValueError, in the name of `who`, for a frame of another size than the first one."""
    if got != wanted:
        raise ValueError(
            f"{who}: the frame must be {wanted[1]}x{wanted[0]} as the first one, "
            f"got {got[1]}x{got[0]}"
        )
