"""k-means of box sizes: shapes found again, IoUs by hand, boxes that do not count."""

from __future__ import annotations

import numpy as np
import pytest

from detlab.data.index import AnnotationIndex
from detlab.models.anchor_clusters import best_iou, cluster, find_anchor_shapes, resized_sides


def test_shapes_that_boxes_gather_around_are_found_again() -> None:
    rng = np.random.default_rng(0)
    true = np.array([[10, 20], [30, 12], [40, 45], [90, 30], [100, 150], [300, 200]], float)
    sides = (true[:, None] * np.exp(rng.normal(0, 0.03, (6, 200, 2)))).reshape(-1, 2)
    found = cluster(sides, 6)
    assert np.abs(found / true - 1).max() < 0.05
    assert (np.diff(found.prod(1)) > 0).all()
    assert np.array_equal(found, cluster(sides, 6))  # the same seed, the same shapes


def test_best_iou_by_hand() -> None:
    """10 × 10 in 20 × 10: a half; 10 × 10 with 5 × 20: 50 of 150."""
    sides, shapes = np.array([[10.0, 10], [5, 20], [20, 10]]), np.array([[20.0, 10], [5, 20]])
    best, which = best_iou(sides, shapes)
    assert best.tolist() == [0.5, 1.0, 1.0]
    assert which.tolist() == [0, 1, 0]
    assert best_iou(sides[:1], shapes[1:])[0].tolist() == [pytest.approx(1 / 3)]


def test_shapes_are_shared_out_over_the_levels() -> None:
    """Two sizes, one for each of two levels; the shape in use covers half of either."""
    sides = np.array([[10.0, 10], [10, 10], [10, 10], [40, 40]])
    found = find_anchor_shapes(sides, [3, 4], 1, now=np.array([[10.0, 20.0]]))
    assert found.shapes == [[(10, 10)], [(40, 40)]]
    assert found.boxes == [[3], [1]]
    assert (found.iou, found.matched) == (1.0, 1.0)
    assert found.iou_now == pytest.approx((3 * 0.5 + 200 / 1600) / 4)
    assert found.matched_now == 0


def test_sides_are_those_of_the_resized_image_without_ignored_and_empty_boxes() -> None:
    index = AnnotationIndex.build(
        ["a"], paths=["0.jpg", "1.jpg"], widths=[100, 50], heights=[50, 50], box_images=[0, 0, 0, 1],
        boxes=[[0, 0, 10, 20], [0, 0, 30, 30], [5, 5, 5, 9], [0, 0, 8, 4]], labels=[0, 0, 0, 0],
        ignore=[False, True, False, False],
    )  # fmt: skip
    sides = resized_sides(index, lambda height, width, rng: (2 * height, 3 * width))  # noqa: ARG005
    assert sides.tolist() == [[30, 40], [24, 8]]
