"""Detections by their IoU, beside loops over single boxes."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from detlab.metrics.by_iou import best_iou, mean_score_by_iou, share_reaching
from detlab.metrics.columns import Found, Truth, box_area


def found(rows: list[tuple[int, int, list[float], float]]) -> Found:
    return Found(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.int64),
        np.array([row[2] for row in rows], float).reshape(-1, 4),
        np.array([row[3] for row in rows], float),
    )


def truth(rows: list[tuple[int, int, list[float], bool]]) -> Truth:
    box = np.array([row[2] for row in rows], float).reshape(-1, 4)
    image, label = (np.array([row[n] for row in rows], np.int64) for n in (0, 1))
    return Truth(image, label, box, np.array([row[3] for row in rows], bool), box_area(box))


def one_iou(a: list[float], b: list[float]) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    overlap = max(wide, 0) * max(high, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap
    return overlap / union if union > 0 else 0.0


def random_boxes(rng: np.random.Generator, count: int) -> list[list[float]]:
    corner = rng.uniform(0, 20, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(2, 12, (count, 2))], 1).tolist()


def test_best_iou_equals_a_loop():
    rng = np.random.default_rng(0)
    mine = [(*map(int, rng.integers(3, size=2)), box, float(rng.random())) for box in random_boxes(rng, 60)]
    theirs = [(*map(int, rng.integers(3, size=2)), box, bool(rng.random() < 0.3)) for box in random_boxes(rng, 25)]
    expected = []
    for image, label, box, _ in mine:
        overlaps = [(one_iou(box, t[2]), not t[3]) for t in theirs if t[:2] == (image, label)]
        best, counted = max(overlaps, default=(0.0, True))
        expected.append(best if counted or best == 0 else math.nan)
    ours = best_iou(found(mine), truth(theirs))
    np.testing.assert_allclose(ours, expected, rtol=1e-12)
    assert np.isnan(ours).any()
    assert (ours > 0.3).any()


def test_best_iou_of_nothing_and_beside_nothing():
    box = [0.0, 0.0, 4.0, 4.0]
    assert best_iou(found([]), truth([(0, 0, box, False)])).shape == (0,)
    assert best_iou(found([(0, 0, box, 0.5)]), truth([])).tolist() == [0.0]
    assert best_iou(found([(0, 0, box, 0.5)]), truth([(1, 0, box, False), (0, 1, box, False)])).tolist() == [0.0]


def test_an_ignored_object_takes_detections_out_only_where_it_fits_best():
    box, beside = [0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 3.0]
    both = truth([(0, 0, box, True), (0, 0, beside, False)])
    assert np.isnan(best_iou(found([(0, 0, box, 0.5)]), both)).all()
    assert best_iou(found([(0, 0, beside, 0.5)]), both).tolist() == [1.0]
    equal = truth([(0, 0, box, True), (0, 0, box, False)])
    assert best_iou(found([(0, 0, box, 0.5)]), equal).tolist() == [1.0]
    assert best_iou(found([(0, 0, [50.0, 50.0, 60.0, 60.0], 0.5)]), both).tolist() == [0.0]  # far from the crowd


def test_mean_scores_equal_a_loop():
    rng = np.random.default_rng(1)
    iou, score = rng.random(200), rng.random(200)
    iou[:5], iou[5:8], iou[8] = [0.0, 0.5, 0.75, 1.0, 0.25], np.nan, 0.9
    edges = [0.25, 0.5, 0.75, 1.0]
    mean, count = mean_score_by_iou(iou, score, edges)
    for n, (low, high) in enumerate(pairwise(edges)):
        inside = [s for i, s in zip(iou, score) if low <= i < high or (high == 1.0 and i == 1.0)]
        assert count[n] == len(inside)
        assert mean[n] == pytest.approx(sum(inside) / len(inside))


def test_empty_bins_are_nan():
    mean, count = mean_score_by_iou([0.9], [0.4], [0.0, 0.5, 1.0])
    assert np.isnan(mean[0])
    assert (mean[1], count.tolist()) == (0.4, [0, 1])
    assert np.isnan(mean_score_by_iou([], [], [0.0, 1.0])[0]).all()


@pytest.mark.parametrize("edges", [[0.5], [0.5, 0.5], [1.0, 0.0]])
def test_edges_must_rise(edges):
    with pytest.raises(ValueError, match="edges in rising order"):
        mean_score_by_iou([0.5], [0.5], edges)


def test_shares_equal_a_loop():
    iou = [0.0, 0.5, 0.5, 0.7, math.nan, 1.0]
    thresholds = [0.0, 0.5, 0.6, 1.0]
    known = [value for value in iou if not math.isnan(value)]
    expected = [sum(value >= threshold for value in known) / len(known) for threshold in thresholds]
    assert share_reaching(iou, thresholds).tolist() == pytest.approx(expected)
    assert np.isnan(share_reaching([math.nan], thresholds)).all()
