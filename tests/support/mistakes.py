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
        ("training: every epoch is augmented as the first",
         "self.steps.epoch(batches, lr, before.epoch,", "self.steps.epoch(batches, lr, 0,"),
        ("training: the rate one epoch late, the log right",
         "        lr = self.config.learning_rate(before.epoch)",
         "        lr = self.config.learning_rate(max(before.epoch - 1, 0))"),
        ("training: the log has the next epoch's rate",
         '"lr": config.learning_rate(state.epoch),', '"lr": config.learning_rate(epoch),'),
        ("training: the paper's largest gap for all",
         "max_gap=config.max_gap,", "max_gap=10,"),
        ("training: validation pairs hang on the run's seed",
         "seed=VALIDATION_SEED, epoch=0", "seed=config.seed, epoch=0"),
        ("training: pairs of an epoch in the mode near", "mode=config.pairs", 'mode="near"'),
    ]),
    *in_file("train/plain_step.py", "test_train_recomputed.py", [
        ("training: parameters validated in place of their average",
         "self.learnt.average or self.learnt.parameters", "self.learnt.parameters"),
        ("training: nothing is augmented", "pairs, epoch, raw, total=", "pairs, None, raw, total="),
        ("training: lambda in place of the regulariser",
         "config.regulariser(pairs.size)", "config.lam"),
        ("training: no step has the window",
         "self.objectives[self.config.windowed(self.learnt.steps + 1)]", "self.objectives[False]"),
        ("training: the window one step early",
         "self.config.windowed(self.learnt.steps + 1)", "self.config.windowed(self.learnt.steps + 2)"),
        ("training: validation never has the window",
         "self.objectives[self.config.cosine_window == 1]", "self.objectives[False]"),
        ("training: sigma of the map, not of the crop",
         "config.label_sigma(pairs.size)", "config.label_sigma(side)"),
    ]),
    *in_file("train/optimisers.py", "test_train_recomputed.py", [
        ("training: Adam's correction is always the first step's",
         "step = learnt.steps + 1", "step = 1"),
        ("training: first weights as He has them",
         "value * np.float32(config.initial_scale)", "value"),
        ("training: momentum is not the recipe's", '"momentum": config.momentum', '"momentum": 0.9'),
        ("Adam: m as it stands", "m / (1 - momentum**step)", "m"),
        ("Adam: s as it stands", "s / (1 - SQUARES_DECAY**step)", "s"),
        ("Adam: no weight decay", " + weight_decay * theta)", ")"),
        ("averaging: the start is not forgotten", "min(decay, step / (step + 10))", "decay"),
        ("SGD: no weight decay", "        v += weight_decay * theta\n", ""),
        ("SGD: no momentum", "        v *= momentum\n", "        v *= 0\n"),
        ("schedule: step counts from the epoch after", "epoch >= after", "epoch > after"),
    ]),
    *in_file("train/augment.py", "test_augment.py", [
        ("augmentation: the seed is not used",
         "[seed, epoch, int(template), int(search)]", "[0, epoch, int(template), int(search)]"),
        ("augmentation: pairs of a template draw alike",
         "[seed, epoch, int(template), int(search)]", "[seed, epoch, int(template), 0]"),
        ("augmentation: stretch has the scale's number",
         "augmentation.stretch * draws[:, 8]", "augmentation.stretch * draws[:, 2]"),
        ("augmentation: half of the stretch",
         "np.exp(augmentation.stretch * draws", "np.exp(augmentation.stretch / 2 * draws"),
        ("augmentation: brightness is the contrast's",
         "by_image(draws[:, 3:5], light)", "by_image(draws[:, 1:3], light)"),
        ("augmentation: every image is blurred",
         "np.maximum(draws[:, 5:7], 0)", "abs(draws[:, 5:7])"),
        ("augmentation: search blurred as its template",
         "np.maximum(draws[:, 5:7], 0)", "np.maximum(draws[:, [5, 5]], 0)"),
        ("augmentation: black beyond the crop", "cv2.BORDER_REPLICATE", "cv2.BORDER_CONSTANT"),
        ("augmentation: the label's shift in the crop's pixels",
         "cuts.shift / cuts.scale[:, None])", "cuts.shift * 1.0)"),
        ("augmentation: the label's shift cut off, not rounded",
         "np.rint(cuts.shift / cuts.scale[:, None])", "np.trunc(cuts.shift / cuts.scale[:, None])"),
        ("augmentation: brightness is added to the black",
         "+ level * brightness * colour", "+ level * brightness + colour"),
        ("augmentation: gray of R, G, B", "[0.114, 0.587, 0.299]", "[0.299, 0.587, 0.114]"),
        ("augmentation: gray for all pairs or none",
         "share < augmentation.gray", "share < np.ceil(augmentation.gray)"),
        ("augmentation: radians taken for degrees",
         "np.radians(augmentation.rotate * draws[:, 7])", "augmentation.rotate * draws[:, 7]"),
        ("augmentation: one jitter less to the right",
         "(2 * augmentation.jitter + 1)", "(2 * augmentation.jitter)"),
    ]),
    *in_file("train/plain_step.py", "test_exploding.py", [
        ("exploding: learnt from, plain",
         "dresponse *= (each_pair_loss(caches) <= limit)[:, None, None]", "dresponse *= 1"),
        ("exploding: the mean in place of each loss",
         "return (residual * residual).sum((1, 2))",
         "return (residual * residual).sum((1, 2)).mean() + 0 * residual[:, 0, 0]"),
        ("exploding: the surplus is forgotten by each step",
         "            surplus = outcome.surplus\n", ""),
    ]),
    *in_file("train/exploding.py", "test_exploding.py", [
        ("exploding: the surplus is never less", " - EXPECTED * len(losses))", ")"),
        ("exploding: the surplus falls below zero",
         "surplus = max(0.0, surplus + ", "surplus = (surplus + "),
    ]),
    *in_file("train/fast_step.py", "test_exploding.py", [
        ("exploding: learnt from, fast", "if loss > limit:", "if False:"),
    ]),
    *in_file("train/loop.py", "test_exploding.py", [
        ("exploding: the surplus is not kept", "                surplus=outcome.surplus,\n", ""),
        ("exploding: a resumed run begins at none",
         "before.epoch, before.surplus)", "before.epoch, 0.0)"),
        ("exploding: counted over all epochs",
         "loss=0.0, left_out=0, seconds", "loss=0.0, seconds"),
        ("exploding: its loss is in the mean",
         "kept = outcome.losses[~outcome.left_out]", "kept = outcome.losses"),
        ("exploding: the search is named for the template",
         "*data.frame[[template, search]]", "*data.frame[[search, template]]"),
    ]),
    *in_file("train/prepare.py", "test_prepare.py", [
        ("prepare: the margin counts as content",
         "inner = slice(window.margin, stored - window.margin)", "inner = slice(0, stored)"),
        ("prepare: black outside the frame counts as content",
         "extremes_of_windows(pixels, frame.shape, centre, own[None])",
         "np.stack([pixels.min((2, 3)), pixels.max((2, 3))], -1)"),
    ]),
    *in_file("train/detections.py", "test_detections.py", [
        ("COCO: groups are targets", 'if not annotation.get("iscrowd")', "if annotation"),
        ("COCO: time is the images' order",
         "boxes = sorted(boxes, key=lambda box: box.number)", "boxes = list(boxes)"),
        ("COCO: the name's number before frame_id",
         '(image.get("frame_id"), image.get("frame_index"), frame_number(Path(name)))',
         '(frame_number(Path(name)), image.get("frame_id"))'),
        ("COCO: CVAT's track ids are not seen", '**(annotation.get("attributes") or {}), ', ""),
        ("YOLO: the centre taken for the corner", "box = (x - w / 2) * width,", "box = x * width,"),
        ("YOLO: heights by the width", "w * width, h * height\n", "w * width, h * width\n"),
        ("YOLO: pixels are shares", "max(values[1:5]) > 1.01", "max(values[1:5]) > 1e9"),
    ]),
    *in_file("train/prepare.py", "test_detections.py", [
        ("COCO: the image's size is not looked at", "if all(annotated) and", "if False and"),
    ]),
    *in_file("dcfnet_np/evaluation/metrics.py", "test_evaluation_rules.py", [
        ("normalised error over the result's size",
         "normalised = np.hypot(*(difference / truth[:, 2:]).T)",
         "normalised = np.hypot(*(difference / boxes[:, 2:]).T)"),
        ("normalised error over the width alone",
         "normalised = np.hypot(*(difference / truth[:, 2:]).T)",
         "normalised = np.hypot(*(difference / truth[:, 2:3]).T)"),
        ("normalised precision read at .1", "curves.normalised[20]", "curves.normalised[10]"),
        ("thresholds of the normalised error to 1", "np.arange(51) / 100", "np.arange(51) / 50"),
        ("precision read at 19 pixels", "curves.precision[20]", "curves.precision[19]"),
        ("precision thresholds from 1",
         "error_at = np.arange(rules.precision_thresholds)",
         "error_at = np.arange(rules.precision_thresholds) + 1"),
        ("truth at 0 is there for OTB", "(truth[:, :2] > -1)", "(truth[:, :2] >= -4)"),
        ("a size that is not cut at the corner's place",
         "np.clip(boxes[:, 2:], 0, frame_size - low)", "np.clip(boxes[:, 2:], 0, frame_size)"),
        ("centre error of absent frames too",
         "    error = frames.error[frames.there]\n", "    error = frames.error\n"),
        ("a failed frame takes the first box",
         "boxes[index] = boxes[index - 1]", "boxes[index] = boxes[0]"),
        ("a failed frame hits", "overlap[~is_box(boxes)] = 0.0", "overlap[~is_box(boxes)] = 1.0"),
        ("an error without a box is none",
         "    error[~np.isfinite(error)] = np.inf", "    error[~np.isfinite(error)] = 0.0"),
        ("normalised error without a box is none",
         "    normalised[~np.isfinite(normalised)] = np.inf",
         "    normalised[~np.isfinite(normalised)] = 0.0"),
        ("corners: overlap of the truth as it is",
         "        truth[:, :2] -= truth[:, 2:] / 2\n",
         "        truth[:, :2] -= boxes[:, 2:] / 2\n"),
    ]),
    *in_file("dcfnet_np/evaluation/rules.py", "test_evaluation_rules.py", [
        ("the paper's statistic is a mean",
         '            statistic="median",\n', '            statistic="mean",\n'),
        ("got10k with 21 thresholds",
         "            overlap_thresholds=101,\n", "            overlap_thresholds=21,\n"),
        ("pytracking leaves Tiger1's first frames out",
         'Rules("pytracking", truth="size", absent="skip", omit_initial=False)',
         'Rules("pytracking", truth="size", absent="skip")'),
        ("the paper's precision with <=",
         '            precision_test="<",\n', '            precision_test="<=",\n'),
        ("the paper's OP with >", '            op_test=">=",\n', '            op_test=">",\n'),
        ("got10k repairs failed frames",
         '            failed_frame="miss",\n', '            failed_frame="previous",\n'),
        ("got10k counts the first frame",
         '            first_frame="skip",\n            failed_frame',
         '            first_frame="result",\n            failed_frame'),
    ]),
    *in_file("dcfnet_np/evaluation/metrics.py", "test_evaluation_metrics.py", [
        ("curves are medians", "np.mean(column, axis=0)", "np.median(column, axis=0)"),
        ("an interval of n degrees", "stdtrit(len(values) - 1, ", "stdtrit(len(values), "),
        ("an interval of one side", "(1 + level) / 2)", "level)"),
        ("inclusive area of the result alone",
         "        truth[:, 2:] += 1\n", "        truth[:, 2:] += 0\n"),
    ]),
    *in_file("dcfnet_np/evaluation/vot.py", "test_evaluation_rules.py", [
        ("the range of lengths begins at 107",
         "VOT2015_LENGTHS = (108, 371)", "VOT2015_LENGTHS = (107, 371)"),
        ("the range of lengths ends early",
         "inside = curve[lengths[0] - 1 : lengths[1]]",
         "inside = curve[lengths[0] - 1 : lengths[1] - 1]"),
        ("the range of lengths begins late",
         "inside = curve[lengths[0] - 1 : lengths[1]]", "inside = curve[lengths[0] : lengths[1]]"),
        ("a burn-in of 9 frames", "VOT_BURN_IN = 10", "VOT_BURN_IN = 9"),
        ("runs that ended in a failure are not filled up",
         "np.full(longest, 0.0 if number < len(starts) else np.nan)", "np.full(longest, np.nan)"),
        ("the last run is filled up too",
         "np.full(longest, 0.0 if number < len(starts) else np.nan)", "np.full(longest, 0.0)"),
        ("the first frame counts in the expected overlap",
         "_mean(sums[:, length - 2] / (length - 1))", "_mean(sums[:, length - 2] / length)"),
        ("robustness in failures a run",
         "        failures / len(states),", "        failures / max(failures, 1),"),
    ]),
    *in_file("dcfnet_np/evaluation/vot.py", "test_evaluation_protocols.py", [
        ("VOT starts six frames after a failure", "VOT_SKIP = 5", "VOT_SKIP = 6"),
        ("the frame's far corner is not cut",
         "high = np.clip(box[:2] + box[2:], 0, frame_size)",
         "high = np.maximum(box[:2] + box[2:], 0)"),
    ]),
    *in_file("dcfnet_np/evaluation/protocols.py", "test_evaluation_protocols.py", [
        ("a failure in a frame without ground truth",
         "supervised and there[index] and", "supervised and"),
        ("an overlap of a tenth is a failure",
         "overlap_at(index) <= 0:", "overlap_at(index) <= 0.1:"),
        ("a start without ground truth",
         "(index >= next_start and there[index])", "(index >= next_start)"),
        ("SRE's scales about the corner",
         "scaled = (x + w / 2 - ratio * w / 2, y", "scaled = (x, y"),
        ("TRE's runs come too late by one",
         "positions = [int(1 + k * step)", "positions = [int(2 + k * step)"),
        ("a failed frame keeps the first box",
         "box = boxes[index - 1]  # a", "box = boxes[0]  # a"),
        ("even starts before the first", "usable[(usable > first.start)", "usable[(usable >= 0)"),
        ("visible frames of another part",
         "sequence.visible[part]", "sequence.visible[: len(found.boxes)]"),
        ("the time of decoding counts",
         "time.perf_counter() - decoded", "time.perf_counter() - began"),
        ("OTB starts Tiger1 at its first frame",
         "first = sequence.first if rules.omit_initial else 0", "first = 0"),
    ]),
    *in_file("dcfnet_np/evaluation/protocols.py", "test_evaluation_unscored.py", [
        ("annotated by the first frame alone",
         "is_box(sequence.boxes[start + 1 : end])", "is_box(sequence.boxes[start:end])"),
        ("annotated by frames behind the run's end",
         "is_box(sequence.boxes[start + 1 : end])", "is_box(sequence.boxes[start + 1 :])"),
    ]),
    *in_file("dcfnet_np/evaluation/trackers.py", "test_evaluation_runner.py", [
        ("labels may be paths",
         're.fullmatch(r"[\\w-][\\w.-]*", self.label)', 're.fullmatch(r".+", self.label)'),
    ]),
    *in_file("dcfnet_np/datasets/davis.py", "test_masks.py", [
        ("a mask's box is a pixel short",
         "columns[-1] + 1 - columns[0]", "columns[-1] - columns[0]"),
        ("a mask's rows for columns", "for axis in (1, 0))", "for axis in (0, 1))"),
        ("white in colour is target 1", "numbers[0xFFFFFF] = 255", "numbers[0xFFFFFF] = 1"),
        ("a palette of other bits", "<< 7 - bit // 3", "<< 6 - bit // 3"),
        ("a palette with red last", "mask[..., 2::-1]", "mask[..., :3]"),
        ("more targets than a video has", "MOST_TARGETS = 64", "MOST_TARGETS = 256"),
    ]),
    *in_file("dcfnet_np/evaluation/result_files.py", "test_result_files.py", [
        ("VOT's boxes from 1",
         "boxes.append(values if is_box", "boxes.append(list(from_otb(values)) if is_box"),
        ("boxes of a text file from 0",
         "boxes = from_otb(polygon_to_box", "boxes = np.array(polygon_to_box"),
        ("boxes of a .mat from 0",
         "boxes = from_otb(rows.astype(float))", "boxes = rows.astype(float)"),
        ("frames in the order of the file",
         "frames, boxes = frames[order], boxes[order]", "frames = frames[order]"),
        ("gaps are taken", "if after != before + 1:", "if after == before:"),
        ("skipped frames at the end",
         "boxes = np.vstack([np.full((sequence.first, 4), np.nan), boxes])",
         "boxes = np.vstack([boxes, np.full((sequence.first, 4), np.nan)])"),
    ]),
    *in_file("dcfnet_np/datasets/rows.py", "test_datasets.py", [
        ("a folder's boxes from another origin", "boxes[:, :2] -= origin", "boxes[:, :2] -= 1"),
        ("polygons counted from 1 are not shifted", "return polygons - origin", "return polygons"),
        ("a box without height is there", "(boxes[:, 2:] <= 0)", "(boxes[:, 2:] < 0)"),
        ("NUS-PRO's corners a pixel wider",
         "(x, y, w - x, h - y) if corners", "(x, y, w - x + 1, h - y + 1) if corners"),
        ("blank rows are left out",
         "regions += [_ABSENT] * (blank if regions else 0) + [region]", "regions += [region]"),
        ("a polygon's last point for its first", "region.points[-2:]", "region.points[:2]"),
        ("hidden frames count", "visible &= shown(values)", "pass"),
        ("a VOT mask without its corner", "left + x, top", "x, top"),
    ]),
    *in_file("dcfnet_np/datasets/nuspro.py", "test_datasets.py", [
        ("NUS-PRO: partly hidden is hidden", "hidden < 2", "hidden < 1"),
        ("NUS-PRO: wholly hidden is visible", "hidden < 2", "hidden <= 2"),
        ("NUS-PRO from 0", "origin=1", "origin=0"),
        ("NUS-PRO's corners are sizes", ", corners=True", ""),
    ]),
    *in_file("dcfnet_np/datasets/got10k.py", "test_datasets.py", [
        ("GOT-10k from 0", "origin=1", "origin=0"),
        ("GOT-10k: absent frames are there", "absent == 0", "absent >= 0"),
    ]),
    *in_file("dcfnet_np/datasets/lasot.py", "test_datasets.py", [
        ("LaSOT from 0", "origin=1", "origin=0"),
        ("LaSOT: hidden frames are visible", "hidden == 0", "hidden >= 0"),
    ]),
    *in_file("dcfnet_np/datasets/trackingnet.py", "test_datasets.py", [
        ("TrackingNet from 1", "origin=0", "origin=1"),
    ]),
    *in_file("dcfnet_np/datasets/vot.py", "test_datasets.py", [
        ("VOT from 1", "origin=0", "origin=1"),
    ]),
    *in_file("dcfnet_np/datasets/otb.py", "test_datasets.py", [
        ("OTB from 0", "origin=1", "origin=0"),
    ]),
    *in_file("dcfnet_np/datasets/nfs.py", "test_datasets.py", [
        ("NfS: occluded for lost", "rows[:, 6] == 1", "rows[:, 7] == 1"),
    ]),
    *in_file("dcfnet_np/datasets/mot.py", "test_datasets.py", [
        ("MOT's rows that do not count", "rows[:, 6] != 0", "rows[:, 6] != 9"),
        ("MOT from 0", "from_otb(rows[of_target, 2:6])", "rows[of_target, 2:6]"),
    ]),
    *in_file("dcfnet_np/vision/crop.py", "test_crop.py", [
        ("16 bits are cut, not rounded",
         "(frame + np.uint32(128)) // 257", "frame // np.uint32(257)"),
        ("16 bits by 256", "(frame + np.uint32(128)) // 257", "(frame + np.uint32(128)) // 256"),
        ("floats are cut, not rounded", "np.rint(frame * 255)", "(frame * 255)"),
        ("floats by 256", "np.rint(frame * 255)", "np.minimum(np.rint(frame * 256), 255)"),
        ("floats above 1 pass", "frame.min() < 0 or frame.max() > 1:", "frame.min() < 0:"),
        ("alpha is kept", "return frame[:, :, :3]", "return frame"),
        ("the last pixel is outside", "position <= limit - 1", "position < limit - 1"),
        ("half a pixel outside is inside",
         "np.sum(position < 0, axis=1)", "np.sum(position < -0.5, axis=1)"),
        ("negative floats are frames", "frame.min() < 0 or frame.max() > 1", "frame.max() > 1"),
        ("memory of a frame of the same area",
         "if (height, width) != self._frame_size:",
         "if height * width != self._frame_size[0] * self._frame_size[1]:"),
    ]),
    *in_file("dcfnet_np/tracking/response.py", "test_tracker.py -k 'score_is or indices'", [
        ("a score is the peak, however high",
         "    if peak > 1:\n        peak = min(", "    if peak > 1e99:\n        peak = min("),
        ("a score above 1 is over the largest amplitude",
         "float(abs(np.fft.fft2(response)).mean())",
         "float(abs(np.fft.fft2(response)).max()) / response.size"),
        ("a negative peak is a score", "    return max(peak, 0.0)", "    return peak"),
        ("the wrap of the peak one pixel early", "if row > half else 0", "if row >= half else 0"),
        ("the wrap of the peak by one too few",
         "row - (size if row", "row - (size - 1 if row"),
        ("columns wrap one pixel early", "if column > half else 0", "if column >= half else 0"),
    ]),
    *in_file("dcfnet_np/tracking/response.py", "test_lost.py -k search_places", [
        ("places from the outside in",
         'rings.argsort(kind="stable")', '(-rings).argsort(kind="stable")'),
        ("places of a frame on its side", "frame_shape[1::-1]", "frame_shape[:2]"),
        ("places in diamonds, not rings", "abs(offsets).max(axis=1)", "abs(offsets).sum(axis=1)"),
        ("places beyond the frame",
         "np.floor((np.array(frame_shape", "np.ceil((np.array(frame_shape"),
    ]),
    *in_file("dcfnet_np/tracking/step.py", "test_tracker.py -k 'colour or lambda'", [
        ("a template of one colour is learned",
         "if not is_flat(extremes[i : i + 1]):", "if True:"),
        ("only the first window counts as content",
         "        if is_flat(extremes):\n            maps",
         "        if is_flat(extremes[:1]):\n            maps"),
        ("lambda is divided for all presets",
         'if preset.lam_divisor == "elements" else 1', "if preset.lam_divisor else 1"),
    ]),
    *in_file("dcfnet_np/tracking/step.py", "test_lost.py -k 'place or unsure'", [
        ("redetection: the highest score wins",
         "if quality.psr > found.psr:", "if quality.score > found.score:"),
        ("redetection: the last place wins", "if quality.psr > found.psr:", "if quality.psr > 0:"),
        ("redetection begins with another ring",
         "begin = (target.unsure - preset.lost_after) * count", "begin = target.unsure * count"),
        ("redetection looks at the same places in every frame",
         "begin = (target.unsure - preset.lost_after) * count", "begin = 0"),
        ("redetection begins a frame late",
         "if self.preset.redetection and target.lost:",
         "if self.preset.redetection and target.unsure > self.preset.lost_after:"),
        ("redetection in a window one scale up",
         "window = target.windows()[0]\n",
         "window = target.windows(preset.scale_step)[0]\n"),
        ("redetection believes a flat window",
         "answered = not is_flat(own_extremes[None]) and np.isfinite(map_).all()",
         "answered = np.isfinite(map_).all()"),
        ("redetection believes infinity",
         "answered = not is_flat(own_extremes[None]) and np.isfinite(map_).all()",
         "answered = not is_flat(own_extremes[None])"),
        ("redetection without min_score",
         " and found.score >= preset.min_score", ""),
        ("redetection by min_psr",
         "found.psr >= preset.redetection_psr", "found.psr >= preset.min_psr"),
        ("redetection moves from the last place", "        target.centre = found_place\n", ""),
        ("redetection: still lost when found", "target.judge(True)", "target.judge(False)"),
        ("either threshold suffices",
         "score >= preset.min_score and psr >=", "score >= preset.min_score or psr >="),
    ]),
    *in_file("dcfnet_np/tracking/target.py", "test_lost.py -k counting", [
        ("lost one frame late",
         "return self.unsure >= self.preset.lost_after",
         "return self.unsure > self.preset.lost_after"),
        ("a sure place is not kept",
         "self.unsure, self.sure_place = 0, (self.centre, self.size)", "self.unsure = 0"),
        ("a lost target keeps its last size",
         "self.centre, self.size = self.sure_place", "self.centre, _ = self.sure_place"),
        ("unsure frames need not be in a row",
         "self.unsure, self.sure_place = 0, (",
         "self.unsure, self.sure_place = max(self.unsure - 1, 0), ("),
        ("lost from one unsure frame later",
         '"unsure" if unsure < lost_after', '"unsure" if unsure <= lost_after'),
    ]),
    *in_file("dcfnet_np/tracking/target.py", "test_tracker.py -k 'limit'", [
        ("a size's lower limits exchanged",
         "smallest = np.maximum(preset.min_scale", "smallest = np.minimum(preset.min_scale"),
        ("a size is not limited by the frame",
         "largest = np.minimum(frame_size, preset.max_scale * size)",
         "largest = preset.max_scale * size"),
        ("the frame's sides swapped for all presets",
         "if preset.swapped_clamp else", "if not preset.swapped_clamp else"),
        ("the template follows the clamped size for all presets",
         'window if preset.update_crop == "window" else', "window if False else"),
    ]),
    *in_file("dcfnet_np/presets.py", "test_lost.py -k careful", [
        ("careful: a lower score", "min_score=0.21", "min_score=0.2"),
        ("careful: PSR rounded up", "min_psr=7.4,", "min_psr=7.5,"),
        ("careful: lost later", "lost_after: int = 10", "lost_after: int = 12"),
        ("careful: fewer windows", "redetection=8,", "redetection=6,"),
        ("careful: redetection believes less", "redetection_psr=10.0,", "redetection_psr=8.0,"),
    ]),
    *in_file("dcfnet_np/tracking/features.py", "test_fast_features.py", [
        ("the black outside is content",
         "inside = patch[:, slice(*rows), slice(*columns)]", "inside = patch"),
        ("rows inside taken for columns",
         "patch[:, slice(*rows), slice(*columns)]", "patch[:, slice(*columns), slice(*rows)]"),
        ("one colour alike is flat", "< 0.5).all())", "< 0.5).any())"),
        ("one grey level is nothing", "< 0.5).all())", "< 1.5).all())"),
        ("each window is held against the first alone",
         "extremes[..., 1].max(0) - extremes[..., 0].min(0)",
         "extremes[0, :, 1] - extremes[0, :, 0]"),
        ("weights: RGB ones get BGR crops",
         "np.ascontiguousarray(patches[:, ::-1]) if self._reverse",
         "np.ascontiguousarray(patches[:, ::1]) if self._reverse"),
    ]),
    *in_file("dcfnet_np/tracking/features.py", "test_tracker.py -k one_s_own", [
        ("features: windows are seen at the map's size",
         'getattr(maps, "cell", 1)', 'getattr(maps, "no cell", 1)'),
    ]),
    *in_file("dcfnet_np/fast/features.py", "test_fast_features.py", [
        ("a strip counts rows from the patch's top",
         "np.maximum(down.inside[number] - strip.reads.start, 0)", "down.inside[number]"),
        ("the second strip's largest value is lost",
         "self._extremes[:, :n, :, 1].max(0)", "self._extremes[0, :n, :, 1]"),
        ("weights: RGB ones get BGR strips",
         "pixels[:, ::-1] if self._reverse", "pixels[:, ::1] if self._reverse"),
        ("weights: the mean is half of theirs",
         "np.array(weights.mean, np.float32)[:, None]",
         "np.array(weights.mean, np.float32)[:, None] / 2"),
    ]),
    *in_file("dcfnet_np/fast/memory.py", "test_fast_features.py", [
        ("in place: the newest energy weighs nothing",
         "            energy *= beta\n        else", "            energy *= 0\n        else"),
        ("in place: an old response's memory is kept",
         "if self._search.shape != search_f.shape:", "if self._search.size == 0:"),
    ]),
    *in_file("dcfnet_np/filter.py", "test_dcf.py", [
        ("the newest frame weighs as the past",
         "(1 - beta) * a + beta * newest[0]", "beta * a + beta * newest[0]"),
        ("the filter's energy forgotten in the response",
         'products_f / b if self.rule == "ratio"', 'products_f if self.rule == "ratio"'),
        ("the label is not conjugated",
         "template_f * self.label_f.conj(), energy", "template_f * self.label_f, energy"),
    ]),
    *in_file("dcfnet_np/presets.py", "test_presets.py", [
        ("careful's threshold of the peak", "min_score=0.21,", "min_score=0.12,"),
        ("careful looks in fewer windows", "redetection=8,", "redetection=6,"),
        ("the paper's learning rate", "learning_rate=0.008,", "learning_rate=0.08,"),
        ("lost after fewer frames", "lost_after: int = 10", "lost_after: int = 8"),
        ("largest size", "max_scale: float = 5.0", "max_scale: float = 4.0"),
        ("Python 3's exponents rounded", "else self.num_scales / 2", "else self.num_scales // 2"),
        ("a value above the range of learning_rate",
         "0 <= self.learning_rate <= 1,", "0 <= self.learning_rate <= 2,"),
        ("redetection without a PSR to believe",
         "self.redetection_psr >= self.min_psr > 0", "self.redetection_psr >= self.min_psr >= 0"),
        ("a whole number is refused for a float", "or (kind is float and type(value) is int)", ""),
    ]),
    *in_file("train/config.py", "test_recipes.py", [
        ("recipe: default's gap", "max_gap=50", "max_gap=40"),
        ("recipe: default's average", "averaging=0.999", "averaging=0.99"),
        ("recipe: default's blur", "blur=1.0", "blur=2.0"),
        ("recipe: default's end of the rate", "lr_end=4e-5", "lr_end=4e-4"),
        ("recipe: the paper's pairs", 'lam_divisor="none", pairs="all")', 'lam_divisor="none")'),
        ("recipe: MATLAB 2's weight decay", 'pairs="ahead", weight_decay=5e-4)', 'pairs="ahead")'),
        ("recipe: PyTorch's mean", "(109.0, 120.0, 119.0)", "(104.0, 117.0, 123.0)"),
        ("recipe: PyTorch's first weights", "6**-0.5  # PyTorch's", "3**-0.5  # PyTorch's"),
        ("recipe: MATLAB 1's rate",
         'schedule="constant", lr_start=1e-5', 'schedule="constant", lr_start=1e-4'),
        ("regulariser: one side of the map", "self.lam * side * side *", "self.lam * side *"),
        ("recipe: momentum", "momentum: float = 0.9", "momentum: float = 0.95"),
        ("recipe: default's rotation", "rotate=14.0", "rotate=10.0"),
        ("recipe: default's last rate", "lr_end=4e-5", "lr_end=4e-6"),
    ]),
    *in_file("dcfnet_np/fast/strip.py", "test_fast_features.py", [
        ("widening networks have no room",
         "if backward or spare.size < self.y.size:", "if backward:"),
        ("one convolution is taken", "and len(convolutions) > 1", "and len(convolutions) > 0"),
        ("dilation is taken",
         "isinstance(spec, network.Conv) and spec.dilation == 1",
         "isinstance(spec, network.Conv) and spec.dilation >= 1"),
        ("no power but .75", "if lrn.beta == 0.75:", "if lrn.beta > 0:"),
        ("LRN's k", "s += lrn.k", "s += 1"),
        ("the last tile is not cleared", "if self.width % 4:", "if self.width % 4 == 9:"),
    ]),
    *in_file("dcfnet_np/cli.py", "test_cli.py", [
        ("cli: a device that is not there is a failure", "OSError, ValueError, DeviceError)",
         "OSError, ValueError)"),
        ("cli: every command is imported", "if command in (None, name):", "if True:"),
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
    *in_file("dcfnet_np/support/machine.py", "test_devices.py", [
        ("machine: GPUs are tried out", "range(count_devices())",
         "__import__('dcfnet_np.backend').backend.usable_devices()"),
    ]),
    *in_file("dcfnet_np/backend.py", "test_devices.py", [
        ("backend: the last GPU that works",
         '                return Device("cuda", index)\n        return',
         '                found = Device("cuda", index)\n        return found or'),
        ("backend: a wrong sum is right", "!= 6:", "!= 6 and False:"),
    ]),
    *in_file("dcfnet_np/support/threads.py", "test_processes.py", [
        ("threads: the first to leave gives BLAS back",
         "                if self._inside == 0:\n                    self._set(self._shared, self._before)",
         "                self._set(self._shared, self._before)"),
        ("threads: a second caller is let in", "if not self._lock.acquire(blocking=False):",
         "if not self._lock.acquire(blocking=False) and forked:"),
    ]),
    *in_file("dcfnet_np/vision/draw.py", "test_draw.py", [
        ("draw: the box a pixel too wide", "_pixel(x + w - 1, y + h - 1)", "_pixel(x + w, y + h)"),
        ("draw: the frame is written to", "    return frame.copy()", "    return frame"),
    ]),
    *in_file("dcfnet_np/vision/video_writer.py", "test_draw.py", [
        ("video: a pause is not cut down", "if too_many > 0:", "if too_many > 1e9:"),
        ("video: a full disk is not noticed", "if there < self.frames:", "if there < 0:"),
        ("video: no pace", "0 if time is None else self._due(time) - self.frames", "0"),
    ]),
    *in_file("dcfnet_np/adapters/opencv.py", "test_bridges.py", [
        ("OpenCV adapter: truncated",
         "(round(value) for value in self.result.box)",
         "(int(value) for value in self.result.box)"),
        ("OpenCV adapter: init keeps the result",
         "        self._tracker.init(image, boundingBox)\n        self.result = None",
         "        self._tracker.init(image, boundingBox)"),
        ("OpenCV adapter: always ok", "return self.result.ok, (x", "return True, (x"),
        ("OpenCV adapter: score is PSR", "return self.result.score", "return self.result.psr"),
        ("OpenCV adapter: create drops the preset",
         "return cls(*settings, **named)", "return cls(*settings[:1], **named)"),
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
