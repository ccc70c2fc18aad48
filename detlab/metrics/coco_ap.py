"""COCO's precision and recall arrays from columns, with faster_coco_eval's C++ matching."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detlab.metrics.columns import Found, Truth, box_area

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_THRESHOLDS = np.linspace(0.0, 1.0, 101)
AREAS = ("all", "small", "medium", "large")
MAX_DETECTIONS = 100


class CocoCurves(NamedTuple):
    """precision ``[10 IoU, 101 recall, C, 4 areas]`` and recall ``[10 IoU, C, 4 areas]``, at most 100
    detections per image and class; nan where a class has no ground truth."""

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]


def coco_curves(found: Found, truth: Truth, num_classes: int) -> CocoCurves:
    """Match as COCO's `COCOeval` does for boxes; equal detections of a class keep the order of image numbers.

    `truth.ignore` has the meaning of COCO's iscrowd (COCOeval overwrites any other ignore flag with it):
    such a box takes any number of detections out of the count, and overlap with it is intersection over the
    *detection's* area, so that one person found inside a crowd is no false positive. For a VOC `difficult`
    object this is a little kinder than VOC's own rule (plain IoU), which `mAP_voc` follows.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    found = found.rows(np.isin(found.label, truth.label))  # a class without ground truth is nan whatever was found
    header = {
        "info": {},
        "images": [{"id": int(i)} for i in np.union1d(found.image, truth.image)],
        "categories": [{"id": label, "name": ""} for label in range(num_classes)],
    }
    if not len(truth.label):
        return CocoCurves(np.full((10, 101, num_classes, 4), np.nan), np.full((10, num_classes, 4), np.nan))
    with _paused_garbage_collection():
        evaluation = COCOeval_faster(
            COCO({**header, "annotations": _truth_records(truth)}),
            COCO({**header, "annotations": _found_records(found)}),
            "bbox",
            print_function=_silent,
        )
        evaluation.params.maxDets = [MAX_DETECTIONS]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = np.asarray(evaluation.eval["precision"], dtype=np.float64)[..., 0]
    recall = np.asarray(evaluation.eval["recall"], dtype=np.float64)[..., 0]
    return CocoCurves(np.where(precision < 0, np.nan, precision), np.where(recall < 0, np.nan, recall))


@contextmanager
def _paused_garbage_collection() -> Iterator[None]:
    """Half a million new dictionaries set off collection after collection, half of the time; none is garbage."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _silent(*_: object) -> None:
    """faster_coco_eval prints its progress."""


def _xywh(box: NDArray[np.float64]) -> list[list[float]]:
    return np.concatenate([box[:, :2], box[:, 2:] - box[:, :2]], 1).tolist()


def _truth_records(truth: Truth) -> list[dict]:
    columns = zip(
        truth.image.tolist(), truth.label.tolist(), _xywh(truth.box), truth.area.tolist(), truth.ignore.tolist()
    )
    return [
        {"id": n, "image_id": image, "category_id": label, "bbox": box, "area": area, "iscrowd": int(ignore)}
        for n, (image, label, box, area, ignore) in enumerate(columns, 1)  # 0 would mean "unmatched"
    ]


def _found_records(found: Found) -> list[dict]:
    columns = zip(
        found.image.tolist(),
        found.label.tolist(),
        _xywh(found.box),
        box_area(found.box).tolist(),
        found.score.tolist(),
    )
    return [
        {"id": n, "image_id": image, "category_id": label, "bbox": box, "area": area, "score": score, "iscrowd": 0}
        for n, (image, label, box, area, score) in enumerate(columns, 1)
    ]
