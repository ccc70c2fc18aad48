"""Eqs. 3 and 5 side by side with a literal loop in float64."""

from __future__ import annotations

import math

import pytest
import torch

from detlab.losses.interval import IntervalLoss
from detlab.ops.interval_coder import IntervalCoder


def literal(outputs, box, region, coder: IntervalCoder, beta: float, weight: float, places: float) -> float:
    """Of one box."""
    total, count = 0.0, coder.intervals
    for side in range(4):
        scores = outputs[side * 2 * count : side * 2 * count + count]
        offsets = outputs[side * 2 * count + count : (side + 1) * 2 * count]
        size = max(region[2 + side % 2] - region[side % 2], 1.0)
        step = 2 * coder.reach * size / count
        place = (box[side] - (region[side] - coder.reach * size)) / step
        right = min(max(math.floor(place), 0), count - 1)
        if coder.probability == "softmax":
            total += places * (math.log(sum(math.exp(s) for s in scores)) - scores[right])
        else:
            for k, score in enumerate(scores):
                p = 1 / (1 + math.exp(-score))
                total -= places * (math.log(p) if k == right else math.log(1 - p))
        if 0 <= place <= count:
            d = abs(offsets[right] - (place - right - 0.5))
            total += weight * (d**2 / (2 * beta) if d < beta else d - beta / 2)
    return total


@pytest.mark.parametrize("probability", ["sigmoid", "softmax"])
@pytest.mark.parametrize(("beta", "weight", "places"), [(1.0, 1.0, 1.0), (0.2, 3.0, 0.25)])
def test_against_a_loop(probability, beta: float, weight: float, places: float) -> None:
    generator = torch.Generator().manual_seed(0)
    coder = IntervalCoder(6, 0.4, probability)
    regions = torch.rand(40, 4, generator=generator, dtype=torch.float64) * 50
    regions[:, 2:] += regions[:, :2]
    boxes = regions + (torch.rand(40, 4, generator=generator, dtype=torch.float64) - 0.5) * 40
    outputs = torch.randn(40, coder.values, generator=generator, dtype=torch.float64)
    found = IntervalLoss(coder, beta, weight, places).of(outputs, boxes, regions)
    for row in range(40):
        args = outputs[row].tolist(), boxes[row].tolist(), regions[row].tolist()
        assert float(found[row]) == pytest.approx(literal(*args, coder, beta, weight, places), rel=1e-9)


@pytest.mark.parametrize("probability", ["sigmoid", "softmax"])
def test_its_least_is_at_the_target_and_a_side_beyond_gives_no_offset_gradient(probability) -> None:
    coder = IntervalCoder(8, 0.5, probability)
    region = torch.tensor([[10.0, 10, 30, 30]])
    box = torch.tensor([[12.0, -100, 33, 30]])  # y1 is far beyond
    outputs = torch.zeros(1, coder.values, requires_grad=True)
    optimiser = torch.optim.Adam([outputs], 0.1)
    loss = IntervalLoss(coder)
    for _ in range(400):
        optimiser.zero_grad()
        loss.of(outputs, box, region).sum().backward()
        _, offsets = coder.split(outputs.grad)
        assert (offsets[0, 1] == 0).all()
        optimiser.step()
    decoded = coder.decode(outputs.detach(), region)[0]
    assert decoded[[0, 2, 3]].tolist() == pytest.approx([12, 33, 30], abs=0.1)
    assert coder.encode(box, region).interval[0, 1] == coder.split(outputs.detach())[0][0, 1].argmax() == 0
    assert float(coder.quality(outputs.detach())) > 0.9


def test_nothing_and_half_precision() -> None:
    coder = IntervalCoder(8)
    loss = IntervalLoss(coder)
    empty = torch.zeros(0, coder.values, requires_grad=True)
    loss.of(empty, torch.zeros(0, 4), torch.zeros(0, 4)).sum().backward()
    found = loss.of(torch.full((1, coder.values), 3e4, dtype=torch.half), torch.ones(1, 4), torch.ones(1, 4))
    assert found.dtype == torch.float32
    assert found.isfinite().all()


@pytest.mark.parametrize("bad", [{"beta": -1.0}, {"regression_weight": -1.0}, {"places_weight": -1.0}], ids=str)
def test_bad_values(bad: dict) -> None:
    with pytest.raises(ValueError, match="Expected"):
        IntervalLoss(IntervalCoder(), **bad)
