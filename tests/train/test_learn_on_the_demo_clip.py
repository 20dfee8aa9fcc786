"""Proof: what `--learn` adds lowers the loss, on the frames of the demo clip."""

import json

import cv2
import pytest

import dcfnet_np
from dcfnet_np.commands.common import DEMO_BOX, demo_clip
from dcfnet_np.support.errors import Failed

RUN = ("--epochs", 4, "--pairs-per-epoch", 200, "--frames", 4, "--no-pictures", "--device", "cpu")


def write_clip(folder):
    """The frames, and as their truth the boxes that the packaged tracker finds."""
    (folder / "img").mkdir(parents=True)
    rows = []
    with dcfnet_np.open_source(str(demo_clip())) as source:
        tracker = dcfnet_np.Tracker()
        for number, frame in enumerate(source, 1):
            if number == 1:
                tracker.init(frame, DEMO_BOX)
                box = DEMO_BOX
            else:
                box = tracker.update(frame).box
            cv2.imwrite(str(folder / "img" / f"{number:04d}.png"), frame)
            rows.append(f"{box[0] + 1},{box[1] + 1},{box[2]},{box[3]}\n")
    (folder / "groundtruth_rect.txt").write_text("".join(rows))


@pytest.mark.slow
def test_learnt_numbers_lower_the_loss(dcfnet, tmp_path):
    """A minute each on two cores."""
    try:
        write_clip(tmp_path / "sequences" / "carphone")
    except Failed as error:
        pytest.skip(str(error))
    crops, losses = tmp_path / "crops.h5", {}
    words = "prepare", tmp_path / "sequences", "--validation", 0, "--out", crops
    assert dcfnet(*words)[0] == 0
    for name, more in (("typed in", ()), ("learnt", ("--learn", "lam,sigma,window,rate"))):
        run = tmp_path / name
        code, out, _ = dcfnet("train", crops, "--out", run, *RUN, *more)
        assert code == 0 and "clips/s" in out
        records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        losses[name] = [record["loss"] for record in records]
    print(losses, records[-1]["learnt"])
    typed_in, learnt = (losses[name] for name in ("typed in", "learnt"))
    assert learnt[-1] < 0.99 * typed_in[-1] and learnt[-2] < 0.99 * typed_in[-2]
