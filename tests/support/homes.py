"""docs/reference/homes.md: each step's homes: plain, fast, in CUDA, on the page, in PyTorch.

    python tests/support/homes.py     writes the page (`make equations`)

tests/docs/test_homes.py compares the page with this table and looks up every name in it.
"""

import pathlib
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "homes.md"


class Step(NamedTuple):
    """One row.  Names within dcfnet_np, files from the root; "" where a step has no such home."""

    name: str
    plain: tuple[str, ...]  # the definition
    fast: tuple[str, ...]  # the same numbers on a CPU, faster
    cuda: tuple[str, ...]
    page: tuple[str, ...]  # JavaScript of the interactive page
    other: str  # who computes it independently
    tests: tuple[str, ...]  # that compare the homes: file.function


JS = "dcfnet_np/explain/js"
STEPS = [
    Step("crop", ("vision.crop.crop_patches",), ("vision.crop.Cropper",), ("kernels/crop.cu",),
         (f"{JS}/crop.js",), "PyTorch, `benchmarks/yardstick`",
         ("test_kernels_crop.test_to_the_bit",)),
    Step("convolution", ("ops.conv.conv2d_forward", "ops.conv.conv2d_backward"),
         ("fast.winograd", "fast.strip.Strip"), ("kernels/conv.cu", "kernels/conv_tf32.cu"),
         (f"{JS}/conv.js",), "PyTorch, `benchmarks/yardstick`",
         ("test_kernels_conv.test_forward_and_backward",
          "test_kernels_tf32.test_forward_and_backward",
          "test_winograd.test_convolution_is_the_plain_one")),
    Step("LRN", ("ops.lrn.lrn_forward", "ops.lrn.lrn_backward"), ("fast.strip.Strip",),
         ("kernels/lrn.cu",), (f"{JS}/lrn.js",), "PyTorch, `benchmarks/yardstick`",
         ("test_kernels_lrn.test_forward_and_backward",)),
    Step("transform, Eqs. 5, 6", ("ops.fourier.rfft2", "ops.fourier.irfft2"),
         ("fast.strip.Strip",), ("kernels/dft.cu",), (f"{JS}/fourier.js",), "NumPy's FFT",
         ("test_kernels_dft.test_both_directions",)),
    Step("filter layer, Eqs. 2, 3, 7 to 11", ("ops.dcf.dcf_forward", "ops.dcf.dcf_backward"),
         ("train.fast_step.FastPair",), ("kernels/dcf.cu",), (f"{JS}/dcf.js",), "autograd",
         ("test_kernels_dcf.test_the_layer_and_its_gradients",
          "test_fast_step.test_steps")),
    Step("objective, Eq. 4", ("ops.loss.response_loss_forward", "ops.loss.response_loss_backward"),
         ("train.fast_step.FastPair",), ("kernels/dcf.cu",), (f"{JS}/training.js",), "autograd",
         ("test_kernels_dcf.test_response_loss",)),
    Step("online update, Eq. 13", ("filter.OnlineFilter",), (),
         ("kernels/dcf.cu",), (f"{JS}/filter.js",), "PyTorch, `benchmarks/yardstick`",
         ("test_kernels_dcf.test_the_online_update_is_the_filters",)),
    Step("through time, Eq. 13 and its gradients",
         ("ops.recurrent.recurrent_forward", "ops.recurrent.recurrent_backward"), (),
         ("kernels/recurrent.cu",), (f"{JS}/recurrent.js",), "PyTorch's autograd",
         ("test_kernels_recurrent.test_the_cell_and_its_gradients",
          "test_recurrent.test_gradients_are_pytorchs")),
    Step("peak and move", ("tracking.response.peak_place", "tracking.target.Target"), (),
         ("kernels/peak.cu",), (f"{JS}/session.js",), "PyTorch, `benchmarks/yardstick`",
         ("test_kernels_peak.test_move_targets",)),
    Step("unsure, and found again",
         ("tracking.target.Target.judge", "tracking.step.look_elsewhere"), (),
         ("kernels/peak.cu", "fast.device_step.DeviceStep"), (), "tests by hand",
         ("test_kernels_peak.test_move_targets",
          "test_device_step.test_a_target_that_is_found_elsewhere")),
    Step("frame", ("tracking.step.PlainStep",), ("fast.features.FastFeatures",),
         ("fast.device_step.DeviceStep",), (f"{JS}/session.js",), "PyTorch, `benchmarks/yardstick`",
         ("test_fast_features.test_spectra_are_those_of_whole_patches",
          "test_device_step.test_tracker_on_cuda_and_on_cpu_say_the_same")),
    Step("training step", ("train.plain_step.PlainSteps",), ("train.fast_step.FastSteps",),
         ("train.device_step.DeviceSteps",), (f"{JS}/training.js",),
         "PyTorch, `benchmarks/yardstick`; autograd",
         ("test_fast_step.test_steps", "test_train_device_step.test_steps_are_the_plain_ones")),
    Step("training step on clips", ("train.clip_step.PlainFrames",),
         ("train.clip_step.StripFrames",), ("train.device_step.DeviceSteps",), (),
         "the plain pair; finite differences",
         ("test_clip_step.test_a_clip_of_two_frames_is_a_pair",
          "test_clip_step.test_the_fast_network_is_the_plain_one")),
]  # fmt: skip

HEAD = """# Where each step is at home

Each step has one definition, in plain code. Everything else computes the same numbers, faster or
elsewhere, and the test in the last column compares them.

| step | plain | fast | CUDA | interactive page | independent | compared by |
|---|---|---|---|---|---|---|
"""
FOOT = """
`make equations` writes this page from `tests/support/homes.py`.
[Equations](../learn/equations.md) has the same for each equation of the paper.
"""


def cell(names: tuple[str, ...], links: bool) -> str:
    """Names as links to the API, files as code."""
    if not names:
        return "the same"
    return ", ".join(f"[`{name}`](#dcfnet_np.{name})" if links else f"`{name}`" for name in names)


def table() -> str:
    """The page's text."""
    rows = []
    for step in STEPS:
        short = tuple(name.rpartition("/")[2] for name in step.page)
        cuda = cell(step.cuda, links=step.cuda[0].startswith(("fast.", "train.")))
        tests = cell(step.tests, links=False) if step.tests else ""
        cells = (step.name, cell(step.plain, True), cell(step.fast, True), cuda,
                 cell(short, False), step.other, tests)  # fmt: skip
        rows.append(f"| {' | '.join(cells)} |\n")
    return HEAD + "".join(rows) + FOOT


if __name__ == "__main__":
    PAGE.write_text(table(), encoding="utf-8")
