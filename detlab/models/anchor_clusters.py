"""Anchor shapes from the boxes of a data set: k-means of their sizes (YOLOv2, Redmon and Farhadi 2017)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2

from detlab.data.index import AnnotationIndex


class AnchorShapes(NamedTuple):
    """Anchor shapes for a pyramid and how well they fit L boxes.

    Attributes:
        levels: Of the pyramid.
        shapes: (width, height) in pixels, a list per level, rising in area.
        boxes: How many boxes are nearest to each shape.
        iou: Mean over the boxes of the IoU with the nearest shape, both with one center.
        matched: Share of the boxes where that exceeds 0.5.
        iou_now: The same mean for the shapes in use.
        matched_now: The same share for the shapes in use.
    """

    levels: list[int]
    shapes: list[list[tuple[int, int]]]
    boxes: list[list[int]]
    iou: float
    matched: float
    iou_now: float
    matched_now: float


def find_anchor_shapes(
    sides: NDArray[np.float64],
    levels: Sequence[int],
    per_level: int,
    now: NDArray[np.float64],
    seed: int = 0,
    repeats: int = 20,
) -> AnchorShapes:
    """Cluster box sizes into `per_level` shapes for each level.

    Args:
        sides: Width and height of boxes in pixels, ``[N, 2]``.
        levels: Of the pyramid.
        per_level: Shapes on each.
        now: The shapes in use, ``[K, 2]``.
        seed: Of the random starts.
        repeats: Random starts, of which the best is kept.
    """
    count = len(levels) * per_level
    shapes = cluster(sides, count, seed, repeats)
    best, nearest = best_iou(sides, shapes)
    best_now, _ = best_iou(sides, now)
    counts = np.bincount(nearest, minlength=count).reshape(len(levels), -1).tolist()
    by_level = [[(int(w), int(h)) for w, h in level] for level in shapes.reshape(len(levels), -1, 2)]
    return AnchorShapes(
        list(levels), by_level, counts, float(best.mean()), float((best > 0.5).mean()),
        float(best_now.mean()), float((best_now > 0.5).mean()),
    )  # fmt: skip


def resized_sides(
    index: AnnotationIndex, resize: Callable[[int, int, np.random.Generator], tuple[int, int]], seed: int = 0
) -> NDArray[np.float64]:
    """Width and height ``[N, 2]`` of the boxes in pixels of the resized images, without ignored and empty boxes.

    Args:
        index: The annotations.
        resize: (height, width) of a file → those of the image that is trained on.
        seed: For a resize that draws sizes.
    """
    rng = np.random.default_rng(seed)
    resized = [resize(int(h), int(w), rng) for h, w in zip(index.heights, index.widths)]
    scale = np.array(resized, float)[:, ::-1] / np.stack([index.widths, index.heights], 1)
    sides = (index.boxes[:, 2:] - index.boxes[:, :2]) * scale[index.box_images]
    return sides[~index.ignore & (sides > 0).all(1)]


def cluster(sides: NDArray[np.float64], count: int, seed: int = 0, repeats: int = 20) -> NDArray[np.float64]:
    """`count` (width, height) that stand for ``sides [N, 2]``, both in pixels, rising in area, rounded to whole pixels
    of at least 1. Of `repeats` starts of k-means the best by the mean IoU with the nearest."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(repeats):
        centers, _ = kmeans2(np.log(sides), count, minit="++", rng=rng)
        shapes = np.exp(centers).round().clip(min=1)
        found.append((best_iou(sides, shapes)[0].mean(), shapes))
    shapes = max(found, key=lambda each: each[0])[1]
    return shapes[shapes.prod(1).argsort(kind="stable")]


def best_iou(sides: NDArray[np.float64], shapes: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Of each of ``sides [N, 2]`` the highest IoU with one of ``shapes [K, 2]``, centre on centre, and which."""
    shared = np.minimum(sides[:, None], shapes).prod(2)
    iou = shared / (sides.prod(1)[:, None] + shapes.prod(1) - shared)
    return iou.max(1), iou.argmax(1)
