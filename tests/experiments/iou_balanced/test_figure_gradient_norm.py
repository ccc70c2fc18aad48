"""Equations 11 and 12 literally, and real boxes through the loss."""

from __future__ import annotations

import math

import numpy as np
import pytest

from detlab.losses.iou_balanced import W_LOC
from experiments.iou_balanced.figure_gradient_norm import DELTA, gradient_bound, gradient_of_loss


def literal(d: float, lambda_: float, size: bool) -> float:
    """Eqs. 7–12 for a box one unit wide, moved by d or e^d as wide."""
    if size:
        overlap, whole = min(1.0, math.exp(d)), max(1.0, math.exp(d))
    else:
        overlap, whole = max(1 - abs(d), 0.0), 1 + abs(d)
    slope = d / DELTA if abs(d) <= DELTA else math.copysign(1, d)
    return W_LOC[lambda_] * (overlap / whole) ** lambda_ * abs(slope)


@pytest.mark.parametrize("size", [False, True])
@pytest.mark.parametrize("lambda_", W_LOC)
def test_the_bound_is_that_of_the_equations(lambda_, size):
    d = np.array([-1.5, -0.6, -DELTA, -0.05, 0.0, 0.01, DELTA, 0.3, 0.99, 1.0])
    expected = [literal(value, lambda_, size) for value in d]
    assert gradient_bound(d, lambda_, W_LOC[lambda_], size) == pytest.approx(expected)


@pytest.mark.parametrize("coordinate", range(4))
@pytest.mark.parametrize("lambda_", W_LOC)
def test_boxes_off_in_one_coordinate_reach_the_bound(lambda_, coordinate):
    d = np.array([-0.9, -0.5, -0.1, 0.05, 0.2, 0.7])
    offsets = np.zeros((6, 4))
    offsets[:, coordinate] = d
    bound = gradient_bound(d, lambda_, W_LOC[lambda_], size=coordinate >= 2)
    assert gradient_of_loss(offsets, coordinate, lambda_, W_LOC[lambda_]) == pytest.approx(bound, rel=1e-4)


@pytest.mark.parametrize("coordinate", range(4))
def test_no_box_exceeds_the_bound(coordinate):
    offsets = np.random.default_rng(0).uniform(-0.8, 0.8, (500, 4))
    if coordinate < 2:
        offsets[:, coordinate + 2] = 0  # the bound of the centre is one for boxes of the object's width
    bound = gradient_bound(offsets[:, coordinate], 1.5, 3.049, size=coordinate >= 2)
    gradient = gradient_of_loss(offsets, coordinate, 1.5, 3.049)
    assert (gradient <= bound * (1 + 1e-5)).all()
    assert (gradient < 0.9 * bound).any()


def test_a_wider_box_may_exceed_the_bound_of_the_centre():
    gradient = gradient_of_loss([[0.5, 0.0, np.log(2.0), 0.0]], 0, 1.0, 1.0)
    assert gradient == pytest.approx([0.5])  # it covers the object and is twice as wide
    assert gradient_bound([0.5], 1.0, 1.0, size=False) == pytest.approx([1 / 3])


def test_inliers_gain_and_outliers_lose():
    """What the paper reads from its Figure 1."""
    for size in (False, True):
        plain = gradient_bound([0.1, 1.0], 0.0, 1.0, size)
        balanced = gradient_bound([0.1, 1.0], 1.5, W_LOC[1.5], size)
        assert balanced[0] > 2 * plain[0]
        assert balanced[1] < plain[1]
