"""ρ against the textbook's formulas, written out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from detlab.metrics.coco_match import match, ranked_classes
from detlab.metrics.rank_correlation import rank_correlation, rank_correlations


def rank(values, at):
    """The mean place, from 1, of all values equal to that one."""
    below, equal = sum(v < values[at] for v in values), sum(v == values[at] for v in values)
    return below + (equal + 1) / 2


def by_definition(score, iou):
    n = len(score)
    a, b = [rank(score, k) for k in range(n)], [rank(iou, k) for k in range(n)]
    centre = (n + 1) / 2
    covariance = sum((x - centre) * (y - centre) for x, y in zip(a, b))
    return covariance / math.sqrt(sum((x - centre) ** 2 for x in a) * sum((y - centre) ** 2 for y in b))


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_definition_with_ties(seed):
    rng = np.random.default_rng(seed)
    score, iou = rng.integers(0, 9, 40) / 8, rng.integers(50, 70, 40) / 100
    assert rank_correlation(score, iou) == pytest.approx(by_definition(score.tolist(), iou.tolist()), abs=1e-12)


def test_by_hand():
    score = np.array([0.9, 0.8, 0.7, 0.6])
    assert rank_correlation(score, score**5) == pytest.approx(1)
    assert rank_correlation(score, -(score**5)) == pytest.approx(-1)
    # one swap of neighbours among four: 1 − 6 · (1 + 1) / (4 · 15)
    assert rank_correlation(score, np.array([0.9, 0.7, 0.8, 0.6])) == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("score", "iou"), [([], []), ([0.5], [0.7]), ([0.5, 0.5], [0.6, 0.7]), ([0.4, 0.5], [0.7, 0.7])]
)
def test_what_cannot_be_ranked_is_nan(score, iou):
    assert math.isnan(rank_correlation(np.array(score), np.array(iou)))


def test_classes_each_by_their_true_positives(random_columns, looped_class):
    found, truth = random_columns(2)
    found.box[found.label == 1] += 500
    result = rank_correlations(ranked_classes(found, truth, match(found, truth)), 5)
    for label in (0, 2, 3):
        hits = [one for one in looped_class(found, truth, label)[0] if one.correct]
        assert result[label] == pytest.approx(by_definition([h.score for h in hits], [h.iou for h in hits]), abs=1e-12)
    assert np.isnan(result[[1, 4]]).all()
