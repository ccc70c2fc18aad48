"""Mean error of predicted IoU: a loop in float64, batches, empty input, and both processes of two."""

from __future__ import annotations

import math

import pytest
import torch

from detlab.metrics.iou_error import IoUError


def by_definition(predicted: list[float], true: list[float]) -> float:
    total = 0.0
    for p, t in zip(predicted, true, strict=True):
        total += t - p if t > p else p - t
    return total / len(true)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_it_is_the_mean_of_absolute_differences_whatever_the_batches(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    metric = IoUError()
    predicted, true = (torch.rand(200_000, generator=generator).to(dtype) for _ in range(2))
    for part in (slice(0, 0), slice(0, 1), slice(1, 150_000), slice(150_000, None)):
        metric.update(predicted[part], true[part])
    assert float(metric.compute()) == pytest.approx(by_definition(predicted.tolist(), true.tolist()), rel=1e-5)


def test_over_all_boxes_not_over_batches() -> None:
    metric = IoUError()
    metric.update(torch.tensor([0.0]), torch.tensor([1.0]))
    metric.update(torch.full((3,), 0.5), torch.full((3,), 0.5))
    assert float(metric.compute()) == 0.25


def test_processes_add_their_sums_and_counts() -> None:
    def from_all(state: torch.Tensor, group: object) -> list[torch.Tensor]:
        assert group is None
        elsewhere = 0.8 if state.is_floating_point() else 6  # six boxes
        return [state, torch.full_like(state, elsewhere)]

    metric = IoUError(distributed_available_fn=lambda: True, dist_sync_fn=from_all)
    metric.update(torch.tensor([0.2, 0.4]), torch.tensor([0.3, 0.7]))
    assert float(metric.compute()) == pytest.approx((0.1 + 0.3 + 0.8) / 8)


def test_nothing_is_known_of_no_boxes() -> None:
    metric = IoUError()
    metric.update(torch.empty(0), torch.empty(0))
    assert math.isnan(float(metric.compute()))
    metric.update(torch.tensor([0.5]), torch.tensor([0.75]))
    assert float(metric.compute()) == 0.25
    metric.reset()
    metric.update(torch.empty(0), torch.empty(0))
    assert math.isnan(float(metric.compute()))


def test_boxes_that_do_not_correspond_are_refused() -> None:
    with pytest.raises(RuntimeError, match="same shape"):
        IoUError().update(torch.zeros(2), torch.zeros(3))
