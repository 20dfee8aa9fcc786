"""Tiny data sets in every layout, whose pixels tell where they are: blue x, green y, red the frame.

Bilinear interpolation keeps a slope, so a pixel of a crop says which point of which frame it was
taken from.  Frames are PNG whatever their name says, which OpenCV does not mind: a JPEG would not
keep the numbers.
"""

from pathlib import Path

import cv2
import numpy as np

WIDTH, HEIGHT = 240, 200


def coded_frame(index):
    frame = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    frame[..., 0], frame[..., 1] = np.arange(WIDTH), np.arange(HEIGHT)[:, None]
    frame[..., 2] = 4 * index
    return frame


def write_png(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(".png", image)
    assert done
    path.write_bytes(data.tobytes())


def write_frames(folder, count, name, first=1):
    for index in range(count):
        write_png(folder / name.format(first + index), coded_frame(index))


def write_rows(path, rows, form="{:g}", between=","):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [between.join(form.format(value) for value in row) for row in rows]
    path.write_text("\n".join(lines) + "\n")


ONE_BASED = np.array([1, 1, 0, 0])


def otb(root, name, boxes):
    write_frames(root / name / "img", len(boxes), "{:04d}.jpg")
    write_rows(root / name / "groundtruth_rect.txt", boxes + ONE_BASED)


def vot(root, name, boxes):
    """Tilted polygons whose smallest upright box is the one wanted."""
    write_frames(root / name / "color", len(boxes), "{:08d}.jpg")
    x, y, w, h = boxes.T
    polygons = np.stack([x, y + h / 3, x + w / 4, y, x + w, y + h / 2, x + w / 2, y + h], 1)
    write_rows(root / name / "groundtruth.txt", polygons, "{:.4f}")


def got10k(root, name, boxes):
    write_frames(root / name, len(boxes), "{:08d}.jpg")
    write_rows(root / name / "groundtruth.txt", boxes + ONE_BASED, "{:.4f}")
    (root / name / "meta_info.ini").write_text("[METAINFO]\n")


def lasot(root, name, boxes):
    folder = root / "thing" / name
    write_frames(folder / "img", len(boxes), "{:08d}.jpg")
    write_rows(folder / "groundtruth.txt", boxes + ONE_BASED)
    for file in ("full_occlusion.txt", "out_of_view.txt"):
        write_rows(folder / file, np.zeros((1, len(boxes)), int))


def uav123(root, name, boxes, version="UAV123"):
    write_frames(root / "data_seq/UAV123" / name, len(boxes), "{:06d}.jpg")
    write_rows(root / "anno" / version / f"{name}.txt", boxes + ONE_BASED)


def uav123_10fps(root, name, boxes):
    """The second part of car1, which starts at frame 751 of 30 a second: 251 of 10 a second."""
    write_frames(root / "data_seq/UAV123_10fps/car1", 3, "{:06d}.jpg", 248)
    write_frames(root / "data_seq/UAV123_10fps/car1", len(boxes), "{:06d}.jpg", 251)
    write_rows(root / "anno/UAV123_10fps/car1_2.txt", boxes + ONE_BASED)


def uav20l(root, name, boxes):
    uav123(root, name, boxes, "UAV20L")


def trackingnet(root, name, boxes):
    write_frames(root / "TRAIN_0/frames" / name, len(boxes), "{}.jpg", 0)
    write_rows(root / "TRAIN_0/anno" / f"{name}.txt", boxes)


def mot(root, name, boxes):
    write_frames(root / name / "img1", len(boxes), "{:06d}.jpg")
    rows = [(frame, 3, *box, 1, 1, 1) for frame, box in enumerate(boxes + ONE_BASED, 1)]
    write_rows(root / name / "gt/gt.txt", rows)


def nfs(root, name, boxes):
    write_frames(root / name / "30" / name, len(boxes), "{:05d}.jpg")
    corners = np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
    rows = [(0, *corner, frame, 0, 0, 0, 0) for frame, corner in enumerate(corners)]
    write_rows(root / name / "30" / f"{name}.txt", rows, between=" ")


def vot_masks(root, name, boxes):
    """Full masks; boxes are whole numbers."""
    write_frames(root / name / "color", len(boxes), "{:08d}.jpg")
    rows = ["m" + ",".join(f"{value:g}" for value in (*box, 0, box[2] * box[3])) for box in boxes]
    (root / name / "groundtruth.txt").write_text("\n".join(rows))


def nuspro(root, name, boxes):
    write_frames(root / name, len(boxes), "{:05d}.jpg")
    corners = np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]]) + 1
    write_rows(root / name / "groundtruth.txt", corners, between=" ")
    write_rows(root / name / "occlusion.txt", np.zeros((len(boxes), 1), int))


def tc128(root, name, boxes):
    """Frames 4 and on are annotated; those before show nothing of interest."""
    write_frames(root / name / "img", 3, "{:04d}.jpg")
    write_frames(root / name / "img", len(boxes), "{:04d}.jpg", 4)
    write_rows(root / name / f"{name}_gt.txt", boxes + ONE_BASED)
    (root / name / f"{name}_frames.txt").write_text(f"4,{len(boxes) + 3}")


def davis(root, name, boxes, colour=255):
    write_frames(root / "JPEGImages/480p" / name, len(boxes), "{:05d}.jpg", 0)
    for index, (x, y, w, h) in enumerate(boxes.astype(int)):
        mask = np.zeros((HEIGHT, WIDTH, *np.shape(colour)), np.uint8)
        # a cross, which fills the box by its ends only
        mask[y : y + h, x + 2] = mask[y + 1, x : x + w] = colour
        write_png(root / "Annotations/480p" / name / f"{index:05d}.png", mask)


def vid(root, name, boxes):
    part = Path("VID/train/ILSVRC2015_VID_train_0000") / name
    write_frames(root / "Data" / part, len(boxes), "{:06d}.JPEG", 0)
    for index, box in enumerate(boxes):
        write_xml(root / "Annotations" / part / f"{index:06d}.xml", [(0, box, 0)])


def write_xml(path, objects):
    """objects: (trackid, box 0-based, occluded)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "<annotation><folder>x</folder><size><width>240</width><height>200</height></size>"
    for track, (x, y, w, h), occluded in objects:
        sides = {"xmax": x + w - 1, "xmin": x, "ymax": y + h - 1, "ymin": y}
        box = "".join(f"<{side}>{at:g}</{side}>" for side, at in sides.items())
        text += f"<object><trackid>{track}</trackid><name>n02834778</name><bndbox>{box}</bndbox>"
        text += f"<occluded>{occluded}</occluded></object>"
    path.write_text(text + "</annotation>")


LAYOUTS = {
    writer.__name__: writer
    for writer in (
        otb, vot, vot_masks, got10k, lasot, uav123, uav123_10fps, uav20l, trackingnet, mot, nfs,
        nuspro, tc128, davis, vid,
    )
}  # fmt: skip
