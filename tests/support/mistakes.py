"""Mistakes to plant in the library, one at a time, which the tests must notice.

Each was chosen by hand where no mutation of the syntax tree comes (see gradcheck.mutants): a
constant of a recipe, the order of two steps, a rule of a data set.  A mistake is planted in a copy
of the packages, and its tests run on that: whole files, and kernels that are compiled, need more
than a code object.

python tests/support/mistakes.py [WORD]     plant all whose name or file holds WORD, those of the
                                            kernels too; exit code 1 when one is not noticed
"""

import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[2]


class Mistake(NamedTuple):
    name: str  # what is wrong
    file: str  # from the root of the repository
    tests: str  # words for pytest: files in tests/, -k
    old: str  # the first place where this stands
    new: str


PLACES = {"dcfnet_np": "dcfnet_np", "kernels": "dcfnet_np/kernels", "train": "dcfnet_np/train"}
PYTEST = ["-m", "pytest", "-q", "-x", "--tb=line", "-p", "no:cacheprovider", "-p", "no:xdist"]


def plant(mistake: Mistake, folder: pathlib.Path) -> None:
    """Make `folder` a copy of the packages, as they install, with the mistake in it."""
    ignore = shutil.ignore_patterns("__pycache__")
    for room, installed in PLACES.items():
        shutil.copytree(ROOT / room, folder / installed, ignore=ignore)
    room, rest = mistake.file.split("/", 1)
    path = folder / PLACES[room] / rest
    text = path.read_text(encoding="utf-8")
    if mistake.old not in text:
        raise ValueError(f"{mistake.name!r}: {mistake.file} has changed, nothing to replace")
    path.write_text(text.replace(mistake.old, mistake.new, 1), encoding="utf-8")


def test_file(name: str) -> str:
    """The file of that name, in whichever folder of tests/."""
    (path,) = (ROOT / "tests").rglob(name)
    return str(path)


def run(mistake: Mistake) -> tuple[bool, str]:
    """Whether one of its tests fails with the mistake planted, and what pytest says."""
    words = [test_file(w) if w.endswith(".py") else w for w in shlex.split(mistake.tests)]
    with tempfile.TemporaryDirectory() as folder:
        plant(mistake, pathlib.Path(folder))
        paths = [folder, *filter(None, [os.environ.get("PYTHONPATH")])]
        done = subprocess.run(
            [sys.executable, *PYTEST, "-c", str(ROOT / "pyproject.toml"), *words],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True,
            text=True,
        )
    output = done.stdout + done.stderr
    return done.returncode == 1 and "1 failed" in output, output[-2000:]


def in_file(file: str, tests: str, rows: list[tuple[str, str, str]]) -> list[Mistake]:
    """Mistakes of one file, that the same tests notice; rows of name, old, new."""
    return [Mistake(name, file, tests, old, new) for name, old, new in rows]


MISTAKES = [
    *in_file("train/loop.py", "test_train_recomputed.py", [
        ("training: parameters kept in place of their average",
         "return self.state.average or self.state.parameters", "return self.state.parameters"),
        ("training: every epoch has the first one's pairs",
         "self.draw_batches(before.epoch)[before.steps :]", "self.draw_batches(0)[before.steps :]"),
        ("training: the rate one epoch late, the log right",
         "        lr = self.config.learning_rate(before.epoch)",
         "        lr = self.config.learning_rate(max(before.epoch - 1, 0))"),
    ]),
    *in_file("train/clip_step.py", "test_clip_step.py", [
        ("clips: a template's gradient is moved the wrong way",
         "by.templates[t, 0], tuple(-place)", "by.templates[t, 0], tuple(place)"),
        ("clips: the label of the first step for all", "label = gaussian_label(shape, numbers.sigma",
         "label = gaussian_label(shape, self._begun.sigma"),
        ("clips: the fast network has the first window", "in (0.0, numbers.power)", "in (0.0, 1.0)"),
        ("clips: a mirrored clip's labels are not", "np.where(mirrored[:, None], shifts * [1, -1], shifts)",
         "shifts"),
    ]),
    *in_file("train/numbers.py", "test_clip_step.py", [
        ("numbers: by the rate in place of its logit", "rate * (1 - rate))", "1.0)"),
        ("numbers: the window is learnt as it is", "else math.exp(u)",
         "else u if name == 'window' else math.exp(u)"),
    ]),
    *in_file("dcfnet_np/presets.py", "test_presets.py", [
        ("presets: weights win over what was given", "**(fields | given)", "**(given | fields)"),
    ]),
    *in_file("train/pairs.py", "test_train_recomputed.py", [
        ("training: validation pairs hang on the run's seed",
         "seed=VALIDATION_SEED, epoch=0", "seed=config.seed, epoch=0"),
    ]),
    *in_file("train/plain_step.py", "test_train_recomputed.py", [
        ("training: parameters validated in place of their average",
         "self.learnt.average or self.learnt.parameters", "self.learnt.parameters"),
        ("training: nothing is augmented", "pairs, epoch, raw, total=", "pairs, None, raw, total="),
        ("training: lambda in place of the regulariser",
         "config.regulariser(size)", "config.lam"),
        ("training: sigma of the map, not of the crop",
         "config.label_sigma(size)", "config.label_sigma(side)"),
    ]),
    *in_file("train/optimisers.py", "test_train_recomputed.py", [
        ("Adam: m as it stands", "m / (1 - momentum**step)", "m"),
        ("averaging: the start is not forgotten", "min(decay, step / (step + 10))", "decay"),
        ("SGD: no weight decay", "        v += weight_decay * theta\n", ""),
    ]),
    *in_file("train/augment.py", "test_augment.py", [
        ("augmentation: the seed is not used",
         "[seed, epoch, int(template), int(search)]", "[0, epoch, int(template), int(search)]"),
        ("augmentation: black beyond the crop", "cv2.BORDER_REPLICATE", "cv2.BORDER_CONSTANT"),
        ("augmentation: the label's shift in the crop's pixels",
         "cuts.shift / cuts.scale[:, None])", "cuts.shift * 1.0)"),
        ("augmentation: the label's shift cut off, not rounded",
         "np.rint(cuts.shift / cuts.scale[:, None])", "np.trunc(cuts.shift / cuts.scale[:, None])"),
    ]),
    *in_file("train/plain_step.py", "test_exploding.py", [
        ("exploding: learnt from, plain", "{} if loss > self.limit else", "{} if False else"),
    ]),
    *in_file("train/exploding.py", "test_exploding.py", [
        ("exploding: the surplus is never less", " - EXPECTED * len(losses))", ")"),
    ]),
    *in_file("train/fast_step.py", "test_exploding.py", [
        ("exploding: learnt from, fast", "if loss > limit:", "if False:"),
    ]),
    *in_file("train/loop.py", "test_exploding.py", [
        ("exploding: its loss is in the mean",
         "kept = outcome.losses[~outcome.left_out]", "kept = outcome.losses"),
    ]),
    *in_file("train/prepare.py", "test_prepare.py", [
        ("prepare: the margin counts as content",
         "inner = slice(window.margin, stored - window.margin)", "inner = slice(0, stored)"),
        ("prepare: black outside the frame counts as content",
         "extremes_of_windows(pixels, frame.shape, centre, own[None])",
         "np.stack([pixels.min((2, 3)), pixels.max((2, 3))], -1)"),
    ]),
    *in_file("train/detections.py", "test_detections.py", [
        ("COCO: time is the images' order",
         "boxes = sorted(boxes, key=lambda box: box.number)", "boxes = list(boxes)"),
        ("YOLO: the centre taken for the corner", "box = (x - w / 2) * width,", "box = x * width,"),
    ]),
    *in_file("dcfnet_np/evaluation/metrics.py", "test_evaluation_rules.py", [
        ("normalised error over the result's size",
         "normalised = np.hypot(*(difference / truth[:, 2:]).T)",
         "normalised = np.hypot(*(difference / boxes[:, 2:]).T)"),
        ("truth at 0 is there for OTB", "(truth[:, :2] > -1)", "(truth[:, :2] >= -4)"),
        ("a failed frame takes the first box",
         "boxes[index] = boxes[index - 1]", "boxes[index] = boxes[0]"),
        ("an error without a box is none",
         "    error[~np.isfinite(error)] = np.inf", "    error[~np.isfinite(error)] = 0.0"),
    ]),
    *in_file("dcfnet_np/evaluation/rules.py", "test_evaluation_rules.py", [
        ("got10k repairs failed frames",
         '            failed_frame="miss",\n', '            failed_frame="previous",\n'),
    ]),
    *in_file("dcfnet_np/evaluation/metrics.py", "test_evaluation_metrics.py", [
        ("curves are medians", "np.mean(column, axis=0)", "np.median(column, axis=0)"),
        ("an interval of n degrees", "stdtrit(len(values) - 1, ", "stdtrit(len(values), "),
    ]),
    *in_file("dcfnet_np/evaluation/vot.py", "test_evaluation_rules.py", [
        ("the range of lengths ends early",
         "inside = curve[lengths[0] - 1 : lengths[1]]",
         "inside = curve[lengths[0] - 1 : lengths[1] - 1]"),
        ("runs that ended in a failure are not filled up",
         "np.full(longest, 0.0 if number < len(starts) else np.nan)", "np.full(longest, np.nan)"),
        ("the first frame counts in the expected overlap",
         "_mean(sums[:, length - 2] / (length - 1))", "_mean(sums[:, length - 2] / length)"),
    ]),
    *in_file("dcfnet_np/evaluation/protocols.py", "test_evaluation_protocols.py", [
        ("a failure in a frame without ground truth",
         "supervised and there[index] and", "supervised and"),
        ("SRE's scales about the corner",
         "scaled = (x + w / 2 - ratio * w / 2, y", "scaled = (x, y"),
        ("visible frames of another part",
         "sequence.visible[part]", "sequence.visible[: len(found.boxes)]"),
    ]),
    *in_file("dcfnet_np/evaluation/protocols.py", "test_evaluation_unscored.py", [
        ("annotated by frames behind the run's end",
         "is_box(sequence.boxes[start + 1 : end])", "is_box(sequence.boxes[start + 1 :])"),
    ]),
    *in_file("dcfnet_np/datasets/davis.py", "test_masks.py", [
        ("a mask's box is a pixel short",
         "columns[-1] + 1 - columns[0]", "columns[-1] - columns[0]"),
        ("a palette of other bits", "<< 7 - bit // 3", "<< 6 - bit // 3"),
    ]),
    *in_file("dcfnet_np/evaluation/result_files.py", "test_result_files.py", [
        ("VOT's boxes from 1",
         "boxes.append(values if is_box", "boxes.append(list(from_otb(values)) if is_box"),
        ("boxes of a .mat from 0",
         "boxes = from_otb(rows.astype(float))", "boxes = rows.astype(float)"),
        ("gaps are taken", "if after != before + 1:", "if after == before:"),
        ("skipped frames at the end",
         "boxes = np.vstack([np.full((sequence.first, 4), np.nan), boxes])",
         "boxes = np.vstack([boxes, np.full((sequence.first, 4), np.nan)])"),
    ]),
    *in_file("dcfnet_np/datasets/rows.py", "test_datasets.py", [
        ("a folder's boxes from another origin", "boxes[:, :2] -= origin", "boxes[:, :2] -= 1"),
        ("NUS-PRO's corners a pixel wider",
         "(x, y, w - x, h - y) if corners", "(x, y, w - x + 1, h - y + 1) if corners"),
    ]),
    *in_file("dcfnet_np/datasets/nuspro.py", "test_datasets.py", [
        ("NUS-PRO: partly hidden is hidden", "hidden < 2", "hidden < 1"),
    ]),
    *in_file("dcfnet_np/datasets/got10k.py", "test_datasets.py", [
        ("GOT-10k from 0", "origin=1", "origin=0"),
    ]),
    *in_file("dcfnet_np/datasets/mot.py", "test_datasets.py", [
        ("MOT's rows that do not count", "rows[:, 6] != 0", "rows[:, 6] != 9"),
    ]),
    *in_file("dcfnet_np/vision/crop.py", "test_crop.py", [
        ("16 bits are cut, not rounded",
         "(frame + np.uint32(128)) // 257", "frame // np.uint32(257)"),
        ("half a pixel outside is inside",
         "np.sum(position < 0, axis=1)", "np.sum(position < -0.5, axis=1)"),
        ("memory of a frame of the same area",
         "if (height, width) != self._frame_size:",
         "if height * width != self._frame_size[0] * self._frame_size[1]:"),
    ]),
    *in_file("dcfnet_np/tracking/response.py", "test_tracker.py -k 'score_is or indices'", [
        ("a score above 1 is over the largest amplitude",
         "float(abs(np.fft.fft2(response)).mean())",
         "float(abs(np.fft.fft2(response)).max()) / response.size"),
        ("the wrap of the peak one pixel early", "if row > half else 0", "if row >= half else 0"),
    ]),
    *in_file("dcfnet_np/tracking/step.py", "test_tracker.py -k 'colour or lambda'", [
        ("a template of one colour is learned",
         "if not is_flat(extremes[i : i + 1]):", "if True:"),
        ("only the first window counts as content",
         "        if is_flat(extremes):\n            maps",
         "        if is_flat(extremes[:1]):\n            maps"),
    ]),
    *in_file("dcfnet_np/tracking/step.py", "test_lost.py -k 'place or unsure or elsewhere or answer'", [
        ("redetection: the last peak wins", "if peak > highest:", "if peak > 0.3:"),
        ("redetection looks at the same places in every frame",
         "block = (frames + 1) // 2 if frames % 2 else 0", "block = 0"),
        ("redetection from a weak peak on", "centre, size) = target.preset, target.sure_place",
         "centre, size) = target.preset, (target.centre, target.size)"),
        ("redetection: the second look is at the same place", "place = first.place + np",
         "place = first.place + 0 * np"),
        ("redetection believes a flat window",
         "np.isfinite(map_).all() and not is_flat(extremes[i - first][None])",
         "np.isfinite(map_).all()"),
    ]),
    *in_file("dcfnet_np/stress/trials.py", "test_stress.py", [
        ("stress: found one frame early", "int(off[-1]) + 1", "int(off[-1])"),
        ("stress: growth against the first size",
         "np.maximum(true_sizes / true_sizes[0], 1.0)", "1.0"),
    ]),
    *in_file("dcfnet_np/stress/summary.py", "test_stress.py", [
        ("stress: a mean over trials", '"survived": float(np.mean(means))',
         '"survived": float(np.mean([v.survived for _, v in verdicts]))'),
        ("stress: a box is right where the target is hidden",
         "np.nan_to_num(iou(each.boxes, each.truth))[1:] >= RIGHT",
         "~(iou(each.boxes, each.truth)[1:] < RIGHT)"),
    ]),
    *in_file("dcfnet_np/stress/disturbances.py", "test_disturbances.py", [
        ("stress: an occluder that stays too long",
         "now.time + 2 - COMES - now.strength", "now.time - COMES - now.strength"),
        ("stress: a stretched target's area grows", "np.diag([factor, 1 / factor])",
         "np.diag([factor, 1])"),
    ]),
    *in_file("dcfnet_np/ops/fourier.py", "test_fourier.py", [
        ("a spectrum shifted the other way", "xp.exp(2j * np.pi * angle)",
         "xp.exp(-2j * np.pi * angle)"),
    ]),
    *in_file("dcfnet_np/tracking/target.py", "test_lost.py", [
        ("redetection without a share", "self.preset.redetection_share * self.usual", "0"),
        ("either threshold suffices",
         "quality.score >= least and quality.psr >=", "quality.score >= least or quality.psr >="),
        ("no frame is unsure by its share", "share * self.usual)\n        return quality.score > 0",
         "0)\n        return quality.score > 0"),
        ("a target that has changed is doubted for ever", "preset.min_share_decay**self.unsure", "1"),
        ("a new look does not count as usual", "if self.unsure or not self.usual", "if not self.usual"),
        ("the usual score is the last one", "self.usual += rate *", "self.usual += 1 *"),
        ("lost one frame late", "if unsure < lost_after", "if unsure <= lost_after"),
        ("a weak peak says how large a target is", "self.size = self.sure_place[1]", "pass"),
        ("a sure place is not kept",
         "self.unsure, self.sure_place = 0, (self.centre, self.size)", "self.unsure = 0"),
        ("unsure frames need not be in a row",
         "self.unsure, self.sure_place = 0, (",
         "self.unsure, self.sure_place = max(self.unsure - 1, 0), ("),
    ]),
    *in_file("dcfnet_np/tracking/target.py", "test_tracker.py -k 'limit'", [
        ("a size is not limited by the frame",
         "largest = np.minimum(frame_size, preset.max_scale * size)",
         "largest = preset.max_scale * size"),
    ]),
    *in_file("dcfnet_np/tracking/features.py", "test_fast_features.py", [
        ("the black outside is content",
         "inside = patch[:, slice(*rows), slice(*columns)]", "inside = patch"),
        ("one colour alike is flat", "< 0.5).all())", "< 0.5).any())"),
        ("each window is held against the first alone",
         "extremes[..., 1].max(0) - extremes[..., 0].min(0)",
         "extremes[0, :, 1] - extremes[0, :, 0]"),
        ("weights: RGB ones get BGR crops",
         "np.ascontiguousarray(patches[:, ::-1]) if self._reverse",
         "np.ascontiguousarray(patches[:, ::1]) if self._reverse"),
    ]),
    *in_file("dcfnet_np/fast/features.py", "test_fast_features.py", [
        ("the second strip's largest value is lost",
         "self._extremes[:, :n, :, 1].max(0)", "self._extremes[0, :n, :, 1]"),
    ]),
    *in_file("dcfnet_np/presets.py", "test_presets.py", [
        ("redetection without a PSR to believe",
         "                self.has_thresholds,", "                True,"),
    ]),
    *in_file("train/config.py", "test_recipes.py", [
        ("regulariser: one side of the map", "self.lam * side * side *", "self.lam * side *"),
    ]),
    *in_file("dcfnet_np/cli.py", "test_cli.py", [
        ("cli: a device that is not there is a failure", "OSError, ValueError, DeviceError)",
         "OSError, ValueError)"),
    ]),
    *in_file("dcfnet_np/commands/track.py", "test_cli.py test_live.py", [
        ("track: the error does not say what is kept", "{error}{outputs.kept()}", "{error}"),
        ("track: Ctrl-C is no failure", "            return True\n", "            return False\n"),
        ("track: the ground truth of one target for several",
         "source.boxes if targets is None else None", "None"),
    ]),
    *in_file("dcfnet_np/commands/common.py", "test_cli.py", [
        ("commands: the part of an output may be an input", "(output, part_of(output))", "(output,)"),
    ]),
    *in_file("dcfnet_np/support/files.py", "test_files.py", [
        ("files: a lock that was deleted is trusted",
         "if os.path.samestat(os.fstat(stream.fileno()), lock.stat()):", "if True:"),
        ("files: two may write", "fcntl.LOCK_EX", "fcntl.LOCK_SH"),
        ("files: written in place", "            yield part\n", "            yield path\n"),
    ]),
    *in_file("dcfnet_np/backend.py", "test_devices.py", [
        ("backend: a wrong sum is right", "!= 6:", "!= 6 and False:"),
    ]),
    *in_file("dcfnet_np/support/threads.py", "test_processes.py", [
        ("threads: the first to leave gives BLAS back",
         "                if self._inside == 0:\n                    self._set(self._shared, self._before)",
         "                self._set(self._shared, self._before)"),
        ("threads: a second caller is let in", "if not self._lock.acquire(blocking=False):",
         "if not self._lock.acquire(blocking=False) and forked:"),
    ]),
    *in_file("dcfnet_np/vision/video_writer.py", "test_draw.py", [
        ("video: a full disk is not noticed", "if there < self.frames:", "if there < 0:"),
    ]),
    *in_file("dcfnet_np/adapters/opencv.py", "test_bridges.py", [
        ("OpenCV adapter: init keeps the result",
         "        self._tracker.init(image, boundingBox)\n        self.result = None",
         "        self._tracker.init(image, boundingBox)"),
    ]),
]  # fmt: skip


def main(words: list[str]) -> int:
    """Plant the mistakes that `words` choose, and print what becomes of each."""
    from mistakes_kernels import KERNELS

    chosen = [m for m in MISTAKES + KERNELS if all(word in f"{m.name} {m.file}" for word in words)]
    missed = 0
    for number, mistake in enumerate(chosen, start=1):
        noticed, output = run(mistake)
        missed += not noticed
        verdict = "noticed" if noticed else f"MISSED\n{output}\nMISSED"
        print(f"{number}/{len(chosen)} {verdict}: {mistake.file}: {mistake.name}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} noticed")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
