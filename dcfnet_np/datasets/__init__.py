"""The field's data sets: which folder is a sequence, which frames it has, and where its target is in them.

This is the only reader of ground truth.  Each module below is one layout; it says how the layout is known, who
defines it, and where its boxes are counted from.  Everything that leaves this package counts from 0, and a frame
without a target is a row of NaN.

    otb          img/ and groundtruth_rect.txt, or groundtruth_rect.1.txt, .2.txt, ... for several targets    from 1
    tc128        TempleColor128: img/, NAME_gt.txt, and NAME_frames.txt with the first and last frame         from 1
    got10k       groundtruth.txt beside the frames, with meta_info.ini or *.label                             from 1
    lasot        img/, groundtruth.txt, full_occlusion.txt and out_of_view.txt; folders of classes above it   from 1
    nuspro       groundtruth.txt of corners x1 y1 x2 y2 beside the frames, with occlusion.txt, or below a     from 1
                 folder that has seq_list_with_gt.csv
    vot          groundtruth.txt of boxes, polygons or masks beside the frames, in color/ or in img/          from 0
    uav123       ROOT/anno/UAV123/NAME.txt and ROOT/data_seq/UAV123/FOLDER/; likewise UAV20L, UAV123_10fps    from 1
    trackingnet  ROOT/anno/NAME.txt and ROOT/frames/NAME/                                                     from 0
    nfs          Need for Speed: ROOT/30/NAME.txt and ROOT/30/NAME/, likewise 240                             from 0
    mot          MOTChallenge: img1/ and gt/gt.txt with a number for each target                              from 1
    davis        ROOT/JPEGImages/[480p/]NAME/ and masks in ROOT/Annotations/[480p/]NAME/
    vid          ROOT/Data/VID/.../NAME/ and ILSVRC's XML in ROOT/Annotations/VID/.../NAME/, a file a frame   from 0

A folder with none of the marks of a data set is read as OTB's when it has groundtruth_rect.txt, and as VOT's when it
has groundtruth.txt.  A video with several targets becomes NAME.ID each.
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
