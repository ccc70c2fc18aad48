"""All detections and all ground truth of a data set as columns: what the metrics' pure functions take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Found(NamedTuple):
    """Detections of all images: image int64 ``[N]`` (any numbering), label int64 ``[N]``, box float64 ``[N, 4]``
    xyxy pixels, score float64 ``[N]``."""

    image: NDArray[np.int64]
    label: NDArray[np.int64]
    box: NDArray[np.float64]
    score: NDArray[np.float64]

    def rows(self, keep: NDArray) -> Found:
        """Those chosen by a mask or an index."""
        return Found(self.image[keep], self.label[keep], self.box[keep], self.score[keep])


class Truth(NamedTuple):
    """Ground truth of all images: image, label int64 ``[M]``, box float64 ``[M, 4]`` xyxy pixels, ignore bool
    ``[M]`` (COCO's crowd, VOC's difficult), area float64 ``[M]`` in square pixels (of the object, not the box)."""

    image: NDArray[np.int64]
    label: NDArray[np.int64]
    box: NDArray[np.float64]
    ignore: NDArray[np.bool_]
    area: NDArray[np.float64]

    def rows(self, keep: NDArray) -> Truth:
        """Those chosen by a mask or an index."""
        return Truth(self.image[keep], self.label[keep], self.box[keep], self.ignore[keep], self.area[keep])


def box_area(box: NDArray[np.float64]) -> NDArray[np.float64]:
    """``[N, 4]`` xyxy → ``[N]`` square pixels."""
    return (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])


class Pairs(NamedTuple):
    """Detections ``found [P]`` and ground truths ``truth [P]`` (row numbers) that share image and class, and
    their iou ``[P]``; ordered by detection, then by ground truth."""

    found: NDArray[np.int64]
    truth: NDArray[np.int64]
    iou: NDArray[np.float64]


def pairs(found: Found, truth: Truth, at_most: int = 2_000_000, *, crowd: bool = False) -> Iterator[Pairs]:
    """Every pair of a detection and a ground truth of the same image and class, in blocks of about `at_most`
    pairs (a crowded data set has more of them than fit in memory); a detection's pairs stay in one block.

    crowd: in place of the IoU the share of the detection that lies in the ground truth, COCO's measure for crowds.
    """
    classes = int(max(found.label.max(initial=0), truth.label.max(initial=0))) + 1
    found_key, truth_key = found.image * classes + found.label, truth.image * classes + truth.label
    order = np.argsort(truth_key, kind="stable")
    start = np.searchsorted(truth_key[order], found_key)
    count = np.searchsorted(truth_key[order], found_key, side="right") - start
    partnered = np.flatnonzero(count)
    block = np.cumsum(count[partnered]) // at_most
    for rows in np.split(partnered, np.flatnonzero(np.diff(block)) + 1):
        first = np.cumsum(count[rows]) - count[rows]
        within = np.arange(count[rows].sum()) - np.repeat(first, count[rows])
        left = np.repeat(rows, count[rows])
        right = order[np.repeat(start[rows], count[rows]) + within]
        a, b = found.box[left], truth.box[right]
        size = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
        overlap = np.clip(size, 0, None).prod(1)
        whole = box_area(a) if crowd else box_area(a) + box_area(b) - overlap
        yield Pairs(left, right, np.divide(overlap, whole, out=np.zeros_like(overlap), where=whole > 0))


def mean_of_known(values: NDArray[np.float64]) -> float:
    """The mean of the values that are not nan; nan where all are."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
