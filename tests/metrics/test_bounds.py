"""The bounds against every other way to deal out the overlaps, and their AP against COCO's."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from detlab.metrics.bounds import average_precisions, bounds_of, lower_bound, upper_bound
from detlab.metrics.coco_ap import IOU_THRESHOLDS, coco_curves
from detlab.metrics.coco_match import Ranked, match, ranked_classes
from detlab.metrics.columns import Found, Truth
from detlab.metrics.rank_correlation import rank_correlations


def looped_ap(correct, positives):
    """Mean of the highest precision at recall 0, 0.01, … or more."""
    points = [(sum(correct[: k + 1]) / positives, sum(correct[: k + 1]) / (k + 1)) for k in range(len(correct))]
    best = [max((p for r, p in points if r >= step / 100 - 1e-12), default=0.0) for step in range(101)]
    return sum(best) / 101


def classes_of(found, truth):
    return list(ranked_classes(found, truth, match(found, truth)))


@pytest.mark.parametrize("seed", range(4))
def test_only_the_pairing_changes(seed, random_columns):
    found, truth = random_columns(seed)
    as_is = classes_of(found, truth)
    ap50 = coco_curves(found, truth, 5).precision[0, :, :, 0].mean(0)
    for deal in (lower_bound, upper_bound):
        dealt = [deal(ranked) for ranked in as_is]
        assert average_precisions(dealt, 5)[0] == pytest.approx(ap50, abs=1e-9, nan_ok=True)
        for before, after in zip(as_is, dealt):
            assert sorted(after.iou) == sorted(before.iou)
            assert after._replace(iou=None) == before._replace(iou=None)
            assert ((after.iou > 0) == after.correct).all()
            assert (before.iou != after.iou).any()


def test_the_correlations_are_exact_where_nothing_ties(random_columns):
    as_is = classes_of(*random_columns(1, ties=False))
    assert rank_correlations(map(lower_bound, as_is), 4) == pytest.approx(-1, abs=1e-12)
    assert rank_correlations(map(upper_bound, as_is), 4) == pytest.approx(1, abs=1e-12)
    assert np.abs(rank_correlations(as_is, 4)).max() < 0.9


def test_no_other_way_to_deal_is_better_or_worse():
    iou = np.array([0.7, 0, 0.55, 0.93, 0, 0.81, 0.62])
    ranked = Ranked(0, np.arange(7), np.linspace(0.9, 0.3, 7), iou > 0, iou, 6)
    low, high = (average_precisions([deal(ranked)], 1)[:, 0] for deal in (lower_bound, upper_bound))
    some = []
    for order in itertools.permutations(iou[iou > 0]):
        whole = iou.copy()
        whole[iou > 0] = order
        some.append(average_precisions([ranked._replace(iou=whole)], 1)[:, 0])
    assert np.min(some, 0) == pytest.approx(low, abs=1e-12)
    assert np.max(some, 0) == pytest.approx(high, abs=1e-12)
    assert low.mean() < high.mean() - 0.1
    assert low[0] == high[0]


@pytest.mark.parametrize("seed", range(2))
def test_ap_equals_the_loop(seed, random_columns, looped_class):
    found, truth = random_columns(seed)
    result = average_precisions(classes_of(found, truth), 5)
    for label in range(4):
        counted, positives = looped_class(found, truth, label)
        for row, threshold in enumerate(IOU_THRESHOLDS):
            correct = [one.correct and one.iou >= threshold for one in counted]
            assert result[row, label] == pytest.approx(looped_ap(correct, positives), abs=1e-12)
    assert np.isnan(result[:, 4]).all()


def test_ap_is_cocos_where_each_object_is_found_once():
    """One object an image and one detection at most: matching at another overlap changes no partner."""
    rng = np.random.default_rng(3)
    count = 200
    image, label = np.arange(count), rng.integers(0, 3, count)
    box = np.tile([10.0, 10, 60, 60], (count, 1))
    near = box + rng.normal(0, 6, (count, 4))
    truth = Truth(image, label, box, np.zeros(count, bool), np.full(count, 2500.0))
    found = Found(image, label, near, rng.random(count)).rows(rng.random(count) < 0.9)
    expected = coco_curves(found, truth, 3).precision[..., 0].mean(1)
    assert average_precisions(classes_of(found, truth), 3) == pytest.approx(expected, abs=1e-9)
    rows = bounds_of(found, truth, 3)
    once = rows["as it is, matched once"]
    assert once["AP"] == pytest.approx(expected.mean())
    assert (once["AP50"], once["AP75"], once["AP90"]) == pytest.approx(tuple(expected[[0, 5, 8]].mean(1)))
    lower, upper = rows["lower bound"], rows["upper bound"]
    assert lower["AP50"] == pytest.approx(upper["AP50"], abs=1e-12) == pytest.approx(once["AP50"], abs=1e-12)
    assert lower["AP"] < once["AP"] < upper["AP"]
    assert (lower["rho"], upper["rho"]) == pytest.approx((-1, 1))


def test_nothing_found_nothing_there():
    none = np.zeros(0, dtype=np.int64)
    found, truth = (
        Found(none, none, np.zeros((0, 4)), np.zeros(0)),
        Truth(none, none, np.zeros((0, 4)), np.zeros(0, bool), np.zeros(0)),
    )
    one = np.zeros(1, dtype=np.int64)
    missed = Truth(one, one, np.array([[0.0, 0, 9, 9]]), np.zeros(1, bool), np.full(1, 81.0))
    crowd = missed._replace(ignore=np.ones(1, bool))
    for row in bounds_of(found, missed, 1).values():
        assert math.isnan(row.pop("rho"))
        assert set(row.values()) == {0.0}
    for nothing in (truth, crowd):
        for row in bounds_of(found, nothing, 1).values():
            assert all(map(math.isnan, row.values()))
