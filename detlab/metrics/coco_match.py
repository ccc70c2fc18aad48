"""Which detections are right at one overlap, by COCO's rule, all images and classes at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detlab.metrics.coco_ap import MAX_DETECTIONS
from detlab.metrics.columns import Found, Pairs, Truth, pairs


class Matches(NamedTuple):
    """What became of each detection: truth int64 ``[N]``, the row of the object that it is the true positive of, −1
    for none; iou float64 ``[N]``, the overlap with it, 0 for none; counted bool ``[N]``, false where it lies on a
    crowd or beyond the best 100 of its image and class. A counted one without an object is a false positive."""

    truth: NDArray[np.int64]
    iou: NDArray[np.float64]
    counted: NDArray[np.bool_]


def match(found: Found, truth: Truth, iou: float = 0.5) -> Matches:
    """COCO's matching (`COCOeval.evaluateImg`, area "all") at one threshold.

    In each image and class the detections come in falling order of score (equal ones in the order of their rows),
    at most 100, and each takes, of the objects still free, the one it overlaps most, from `iou` on (of equal ones
    the last). One that gets no object but lies in a crowd (`truth.ignore`) with a share of `iou` of its own area or
    more is not counted; a crowd takes any number of them.

    Where all objects prefer detections in the same order, taking turns and proposing in rounds (Gale and Shapley,
    1962) end in the same pairs: each detection asks for its best object, each object keeps the best-scored of those
    that ask, the others go on to their next best. A few rounds do for all images together.
    """
    turn = _turns(found)
    counted = turn.within < MAX_DETECTIONS
    objects, crowds = np.flatnonzero(~truth.ignore), np.flatnonzero(truth.ignore)
    near = _above(found, truth.rows(objects), iou, counted)
    chosen, overlap = np.full(len(counted), -1), np.zeros(len(counted))
    won = _propose(near, turn.priority, len(objects))
    chosen[near.found[won]], overlap[near.found[won]] = objects[near.truth[won]], near.iou[won]
    on_crowd = _above(found, truth.rows(crowds), iou, counted & (chosen < 0), crowd=True)
    counted[on_crowd.found] = False
    return Matches(chosen, overlap, counted)


class _Turns(NamedTuple):
    """priority int64 ``[N]``: places in the order of image, class and falling score; within int64 ``[N]``: places
    within image and class, from 0."""

    priority: NDArray[np.int64]
    within: NDArray[np.int64]


def _turns(found: Found) -> _Turns:
    order = np.lexsort((-found.score, found.label, found.image))
    image, label = found.image[order], found.label[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (image[1:] != image[:-1]) | (label[1:] != label[:-1])
    place = np.arange(len(order))
    priority, within = np.empty_like(place), np.empty_like(place)
    priority[order], within[order] = place, place - np.maximum.accumulate(np.where(new, place, 0))
    return _Turns(priority, within)


def _above(found: Found, truth: Truth, iou: float, which: NDArray[np.bool_], *, crowd: bool = False) -> Pairs:
    """The pairs of the detections `which` that overlap by `iou` or more."""
    rows = np.flatnonzero(which)
    parts = []
    for block in pairs(found.rows(rows), truth, crowd=crowd):
        keep = block.iou >= iou
        parts.append(Pairs(rows[block.found[keep]], block.truth[keep], block.iou[keep]))
    return Pairs(*(np.concatenate(column) for column in zip(*parts)))


def _propose(near: Pairs, priority: NDArray[np.int64], objects: int) -> NDArray[np.int64]:
    """Which of the pairs `near` become matches: their positions, each detection and each object at most once."""
    wishes = np.lexsort((-near.truth, -near.iou, near.found))
    first = np.flatnonzero(np.diff(near.found[wishes], prepend=-1))
    end = np.append(first[1:], len(wishes))
    while True:
        asked = near.truth[wishes[first]]
        rank = priority[near.found[wishes[first]]]
        best = np.full(objects, len(priority))
        np.minimum.at(best, asked, rank)
        refused = rank != best[asked]
        if not refused.any():
            return wishes[first]
        first = first + refused
        first, end = first[first < end], end[first < end]


class Ranked(NamedTuple):
    """The counted detections of one class in falling order of score, equal ones in the order of images: rows int64
    ``[N]`` into the detections, score ``[N]``, correct bool ``[N]`` (true positives), iou ``[N]`` with their objects
    (0 for false positives); positives: how many objects there were to find, at least one."""

    label: int
    rows: NDArray[np.int64]
    score: NDArray[np.float64]
    correct: NDArray[np.bool_]
    iou: NDArray[np.float64]
    positives: int


def ranked_classes(found: Found, truth: Truth, matches: Matches) -> Iterator[Ranked]:
    """The classes that have objects (crowds are none), in the order of labels."""
    counted = np.flatnonzero(matches.counted)
    order = counted[np.lexsort((found.image[counted], -found.score[counted], found.label[counted]))]
    labels, positives = np.unique(truth.label[~truth.ignore], return_counts=True)
    begin = np.searchsorted(found.label[order], labels)
    end = np.searchsorted(found.label[order], labels, side="right")
    for label, count, rows in zip(labels.tolist(), positives.tolist(), map(order.__getitem__, map(slice, begin, end))):
        yield Ranked(label, rows, found.score[rows], matches.truth[rows] >= 0, matches.iou[rows], count)
