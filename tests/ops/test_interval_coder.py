"""Sides in intervals: against a literal loop, there and back, and where sides lie beyond."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from detlab.ops.interval_coder import IntervalCoder


def literal(box: list[float], region: list[float], intervals: int, reach: float) -> list[tuple[int, float, bool]]:
    """(interval, offset in intervals, inside) of x1, y1, x2, y2, from the words of section 2.2."""
    found = []
    for side in range(4):
        size = max(region[2 + side % 2] - region[side % 2], 1.0)
        start, end = region[side] - reach * size, region[side] + reach * size
        edges = [start + (end - start) * k / intervals for k in range(intervals + 1)]
        step = (end - start) / intervals
        inside = edges[0] <= box[side] <= edges[-1]
        k = min(range(intervals), key=lambda k: abs(box[side] - (edges[k] + edges[k + 1]) / 2))
        found.append((k, (box[side] - (edges[k] + edges[k + 1]) / 2) / step, inside))
    return found


def pairs(count: int, shift: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Regions, and boxes whose sides are off by up to `shift` of the region's."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 900 - 50
    size = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 300 + 2
    regions = torch.cat([corner, corner + size], 1)
    moves = (torch.rand(count, 4, generator=generator, dtype=torch.float64) * 2 - 1) * shift * size.repeat(1, 2)
    return regions + moves, regions


def perfect(coder: IntervalCoder, boxes: Tensor, regions: Tensor) -> Tensor:
    """Outputs that say exactly where the sides are."""
    index, offset, _ = coder.encode(boxes, regions)
    outputs = torch.zeros(*boxes.shape[:-1], 4, 2, coder.intervals, dtype=boxes.dtype)
    outputs[..., 0, :].scatter_(-1, index[..., None], 20.0)
    outputs[..., 1, :] = 7.0  # offsets of the other intervals must not matter
    outputs[..., 1, :].scatter_(-1, index[..., None], offset[..., None])
    return outputs.flatten(-3)


@pytest.mark.parametrize(("intervals", "reach"), [(30, 0.5), (4, 0.25), (7, 1.0)])
def test_targets_are_those_of_a_loop(intervals: int, reach: float) -> None:
    boxes, regions = pairs(100, 0.8)
    coder = IntervalCoder(intervals, reach)
    found = coder.encode(boxes, regions)
    for row in range(len(boxes)):
        expected = literal(boxes[row].tolist(), regions[row].tolist(), intervals, reach)
        assert found.interval[row].tolist() == [k for k, _, _ in expected]
        assert found.offset[row].tolist() == pytest.approx([o for _, o, _ in expected], abs=1e-9)
        assert found.inside[row].tolist() == [i for _, _, i in expected]
    assert found.offset[found.inside].abs().max() <= 0.5 + 1e-9
    beyond = found.offset[~found.inside].abs()
    assert (beyond > 0.5).all()
    assert len(beyond) == 0 if reach > 0.8 else len(beyond) > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_there_and_back(dtype: torch.dtype) -> None:
    boxes, regions = (x.to(dtype) for x in pairs(2000, 0.45))
    coder = IntervalCoder()
    assert coder.encode(boxes, regions).inside.all()
    decoded = coder.decode(perfect(coder, boxes, regions), regions)
    assert (decoded - boxes).abs().max() <= 1e-4
    assert decoded.dtype == dtype


def test_beyond_the_segment_without_size_and_outside_the_picture() -> None:
    coder = IntervalCoder(10, 0.5)
    regions = torch.tensor([[0.0, 0, 10, 10], [5, 5, 5, 5], [-500, -500, -400, -300], [9, 9, 3, 2]])
    boxes = torch.tensor([[-40.0, 2, 40, 10], [5, 5, 5.4, 5], [-520, -520, -410, -310], [9, 9, 3, 2]])
    found = coder.encode(boxes, regions)
    assert found.interval[0].tolist() == [0, 7, 9, 5]
    assert found.inside[0].tolist() == [False, True, False, True]
    decoded = coder.decode(perfect(coder, boxes, regions), regions)
    assert decoded.isfinite().all()
    assert torch.allclose(decoded[1], boxes[1], atol=1e-4)  # of no size: seen as of one pixel
    assert torch.allclose(decoded[2], boxes[2], atol=1e-3)
    assert (decoded[:, 2:] >= decoded[:, :2]).all()
    assert coder.encode(boxes[:0], regions[:0]).interval.shape == (0, 4)
    assert coder.decode(torch.zeros(0, coder.values), regions[:0]).shape == (0, 4)


@pytest.mark.parametrize("probability", ["sigmoid", "softmax"])
@pytest.mark.parametrize("scale", [0.0, 3.0, 1e4])
def test_quality_is_the_mean_of_four_highest_probabilities(probability, scale: float) -> None:
    coder = IntervalCoder(5, probability=probability)
    outputs = torch.randn(50, coder.values, generator=torch.Generator().manual_seed(1)) * scale
    quality = coder.quality(outputs)
    assert ((quality >= 0) & (quality <= 1)).all()
    for row in range(50):
        highest = []
        for side in range(4):
            scores = outputs[row, side * 10 : side * 10 + 5].double().tolist()
            best = max(scores)
            odds = 1 / (1 + math.exp(-best)) if best > -700 else 0.0
            share = 1 / sum(math.exp(max(s - best, -700)) for s in scores)
            highest.append(odds if probability == "sigmoid" else share)
        assert float(quality[row]) == pytest.approx(sum(highest) / 4, abs=1e-5)
    half = coder.quality(outputs.half().clamp(-1000, 1000))
    assert half.dtype == torch.float32


def test_at_first_every_interval_is_as_probable_as_one_of_them() -> None:
    coder = IntervalCoder(20)
    bias = torch.ones(3 * coder.values)
    coder.initialise(bias)
    scores, offsets = coder.split(bias.view(3, -1))
    assert torch.allclose(scores.sigmoid(), torch.tensor(1 / 20))
    assert (offsets == 0).all()


@pytest.mark.parametrize("bad", [{"intervals": 1}, {"reach": 0.0}, {"probability": "max"}], ids=str)
def test_bad_values(bad: dict) -> None:
    with pytest.raises(ValueError, match="Expected"):
        IntervalCoder(**bad)
