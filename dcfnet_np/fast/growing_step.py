"""Where the kernels track: whether they do it for these settings, and a step that grows with them.

`device_step.DeviceStep` is of one frame size and one number of targets; here is what makes another
one where they change.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from .. import backend, kernels
from ..backend import Device
from ..ops.fourier import label_band
from ..presets import Preset
from ..tracking.step import check_copy
from ..tracking.target import TrackResult, check_frame_shape, state_after
from ..vision.boxes import check_box
from ..vision.crop import to_bgr
from ..vision.windows import gaussian_label
from ..weights import Weights
from .device_step import NO_REUSE, DeviceStep
from .graph import frame_on_device


class GrowingDeviceStep:
    """A `DeviceStep` behind the interface of `tracking.step.FrameStep`.

    It is made for the size of the first frame, and one twice as large when there is no row left.
    device: a cuda `backend.Device`.
    """

    def __init__(self, weights: Weights, preset: Preset, device: Device) -> None:
        self._make_step = partial(DeviceStep, weights, preset, device=device.index)
        self._cp, self._device = backend.cupy(), device
        self._preset = preset
        self.step: Any = None  # the DeviceStep of the newest frame size
        self._first_sizes: dict[int, float] = {}  # of the targets that there are

    def start(self, frame: Any, box: Any, row: int, who: str) -> None:
        """As `FrameStep.start`."""
        frame, shape = self._look_at(frame)
        _, _, w, h = box = check_box(box, shape, who)
        step = self.step
        if self._first_sizes.keys() - {row}:
            check_frame_shape(shape, step.frame_shape, who)
        if step is None or step.frame_shape != shape:
            step = self._make_step(shape, row + 1)
        elif row >= step.targets:
            step = self._make_step(shape, max(row + 1, 2 * step.targets))
            step.take_over(self.step)
        boxes = np.full((step.targets, 4), np.nan)
        boxes[row] = box
        step.start(frame, boxes, who)
        self.step, self._first_sizes[row] = step, float(np.sqrt(w * h))

    def update(
        self, frame: Any, rows: Sequence[int], response: bool, who: str
    ) -> list[TrackResult]:
        """As `FrameStep.update`."""
        if self.step is None:
            raise RuntimeError(f"{who}: call init(frame, box) first")
        frame, shape = self._look_at(frame)
        check_frame_shape(shape, self.step.frame_shape, who)
        found = self.step.step(frame).tolist()
        results = []
        for row in rows:
            x, y, w, h, ok, score, psr, _, unsure = found[row]
            state = state_after(int(unsure), self._preset.lost_after)
            scale = float(np.sqrt(w * h)) / self._first_sizes[row]
            map_ = np.fft.fftshift(self.step.response(row)) if response else None
            results.append(TrackResult((x, y, w, h), bool(ok), score, psr, scale, map_, state))
        return results

    def remove(self, row: int) -> None:
        """Its row is free."""
        self.step.forget(row)
        del self._first_sizes[row]

    def copy_of_targets(self, who: str) -> Any:
        """TypeError: targets stay on the GPU."""
        check_copy(self._device, who)

    def go_on_with(self, targets: Any) -> None:
        """TypeError: no step gives a copy of targets that could go on here."""
        check_copy(self._device, type(self).__name__)

    def _look_at(self, frame: Any) -> tuple[Any, tuple[int, int, int]]:
        """What the step takes of a frame, and its BGR image's shape; errors for no frame."""
        if isinstance(frame, np.ndarray):
            frame = to_bgr(frame)
            return frame, frame.shape
        with backend.current(self._device):
            return frame, (*frame_on_device(self._cp, frame).shape[:2], 3)


def reason_against(preset: Preset, band: str | None) -> str:
    """Why array code is to track on a GPU in place of kernels; "" where they do it."""
    size = preset.input_size
    if not kernels.enabled():
        return "DCFNET_KERNELS=0"
    if preset.reuse_within:
        return NO_REUSE
    if band is None:
        return "band=None is the full spectrum, by CuPy's FFT"
    if size % 2 == 0 and label_band(gaussian_label((size, size), preset.sigma)) is None:
        return (
            f"sigma {preset.sigma:g} needs the full spectrum of an even size, "
            "which the kernels do not have"
        )
    return ""
