"""The field's data sets: which folder is a sequence, and where its target is in which frames.

This is the only reader of ground truth.  Each module below is one layout; it says how the layout is
known, who defines it, and where its boxes are counted from.  Everything that leaves this package
counts from 0, and a frame without a target is a row of NaN.

    layout       from
    otb          1     img/ and groundtruth_rect.txt; for several targets groundtruth_rect.1.txt, ...
    tc128        1     TempleColor128: img/, NAME_gt.txt and NAME_frames.txt
    got10k       1     groundtruth.txt beside the frames, with meta_info.ini or *.label
    lasot        1     img/, groundtruth.txt, full_occlusion.txt and out_of_view.txt
    nuspro       1     groundtruth.txt of corners beside the frames, with occlusion.txt
    vot          0     groundtruth.txt of boxes, polygons or masks; color/, img/ or beside the frames
    uav123       1     anno/UAV123/NAME.txt and data_seq/UAV123/FOLDER/; UAV20L, UAV123_10fps
    trackingnet  0     anno/NAME.txt and frames/NAME/
    nfs          0     Need for Speed: 30/NAME.txt and 30/NAME/, likewise 240
    mot          1     MOTChallenge: img1/ and gt/gt.txt
    davis        -     JPEGImages/[480p/]NAME/ and masks in Annotations/[480p/]NAME/
    vid          0     ILSVRC-VID: Data/VID/.../NAME/ and XML in Annotations/VID/.../NAME/

A folder with none of the marks of a data set is read as OTB's when it has groundtruth_rect.txt, and
as VOT's when it has groundtruth.txt.  A video with several targets becomes NAME.ID each.
"""

from .check import Problem, check
from .find import FORMATS, describe, find, find_here, is_ground_truth, load, read
from .sequence import DatasetError, Entry, Sequence, frame_number, frames_of

__all__ = [
    "FORMATS",
    "DatasetError",
    "Entry",
    "Problem",
    "Sequence",
    "check",
    "describe",
    "find",
    "find_here",
    "frame_number",
    "frames_of",
    "is_ground_truth",
    "load",
    "read",
]
