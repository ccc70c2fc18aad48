from __future__ import annotations

import math

import pytest
import torch

from detlab.losses.regression import SmoothL1, smooth_l1
from detlab.ops.boxes import BoxCoder


def literal(difference: float, beta: float) -> float:
    size = abs(difference)
    return 0.5 * size**2 / beta if size < beta else size - 0.5 * beta


@pytest.mark.parametrize("beta", [0.1, 1 / 9, 1.0])
def test_equals_the_formula(beta: float) -> None:
    deltas = torch.tensor([[0.05, -0.5, 2.0, -0.1], [0.0, 0.3, -3.0, 1.0]])
    expected = [sum(literal(x, beta) for x in row) for row in deltas.tolist()]
    assert smooth_l1(deltas, torch.zeros(2, 4), beta).tolist() == pytest.approx(expected)


def test_beta_zero_is_l1() -> None:
    assert smooth_l1(torch.tensor([1.0, -2.0, 0.5, 0.0]), torch.zeros(4), 0.0).item() == 3.5


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
def test_true_offsets_by_hand(make_matched, weights: tuple[float, float, float, float]) -> None:
    """A box twice as wide as its anchor of 4 × 4 and shifted by 2: dx = 1/2, dw = log 2."""
    matched = make_matched(1)._replace(
        anchor_boxes=torch.tensor([[0.0, 0, 4, 4]]),
        target_boxes=torch.tensor([[0.0, 0, 8, 4]]),
        deltas=torch.zeros(1, 4),
    )
    expected = weights[0] * 0.5 + weights[2] * math.log(2)
    assert SmoothL1(BoxCoder(weights), beta=0.0)(matched).tolist() == pytest.approx([expected])


def test_perfect_offsets_cost_nothing(make_matched) -> None:
    matched = make_matched(5)
    coder = BoxCoder((10, 10, 5, 5))
    perfect = coder.encode(matched.target_boxes, matched.anchor_boxes)
    assert SmoothL1(coder)(matched._replace(deltas=perfect)).tolist() == [0] * 5


def test_half_precision_deltas_are_compared_in_float32(make_matched) -> None:
    matched = make_matched(5)
    loss = SmoothL1(BoxCoder())
    found = loss(matched._replace(deltas=matched.deltas.half()))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, loss(matched), rtol=0.01, atol=1e-3)


def test_no_positives_backpropagate(make_matched) -> None:
    matched = make_matched(0)
    loss = SmoothL1(BoxCoder())(matched)
    assert loss.shape == (0,)
    loss.sum().backward()


def test_refuses_a_negative_beta() -> None:
    with pytest.raises(ValueError, match="beta"):
        SmoothL1(BoxCoder(), beta=-0.1)
