from __future__ import annotations

import pickle

import pytest
import torch

from detlab.structures import Batch, Predictions, Targets


def targets(count: int = 3, probs: bool = False) -> Targets:
    return Targets.of(
        torch.arange(4.0 * count).view(count, 4),
        torch.arange(count) % 2,
        2,
        ignore=torch.arange(count) == 1,
        probs=torch.rand(count, 2) if probs else None,
    )


def batch() -> Batch:
    numbers = torch.ones(2, 2)
    whole = numbers.long()
    two = [targets(), targets(0)]
    return Batch(
        torch.zeros(2, 3, 4, 4), two, whole, numbers, whole, whole[:, 0], two, [torch.ones(3), torch.ones(0)], 1
    )


def test_of_fills_in_the_usual_values() -> None:
    found = Targets.of(torch.tensor([[0, 1, 2, 3]]), torch.tensor([1]), 3)
    assert found.boxes.dtype == found.weights.dtype == torch.float32
    assert found.labels.dtype == torch.int64
    assert found.weights.tolist() == [1]
    assert found.ignore.tolist() == [False]
    assert found.annotated.tolist() == [True] * 3
    assert found.probs is None
    assert len(found) == 1


def test_of_takes_no_boxes() -> None:
    for nothing in (torch.zeros(0, 4), torch.tensor([])):
        empty = Targets.of(nothing, torch.tensor([]), 5)
        assert empty.boxes.shape == (0, 4)
        assert empty.labels.dtype == torch.int64
        assert len(empty) == 0


@pytest.mark.parametrize("label", [-1, 3])
def test_of_refuses_labels_out_of_range(label: int) -> None:
    with pytest.raises(ValueError, match=r"0\.\.2"):
        Targets.of(torch.zeros(1, 4), torch.tensor([label]), 3)


def test_of_refuses_unequal_lengths() -> None:
    with pytest.raises(ValueError, match="1 labels for 2 boxes"):
        Targets.of(torch.zeros(2, 4), torch.tensor([0]), 3)


@pytest.mark.parametrize("probs", [False, True])
@pytest.mark.parametrize("keep", [torch.tensor([True, False, True]), torch.tensor([0, 2])])
def test_indexing_keeps_every_column_in_step(keep: torch.Tensor, probs: bool) -> None:
    every = targets(probs=probs)
    every.weights = torch.tensor([1.0, 0.5, 0.25])
    some = every[keep]
    assert some.boxes.tolist() == every.boxes[[0, 2]].tolist()
    assert some.labels.tolist() == [0, 0]
    assert some.weights.tolist() == [1.0, 0.25]
    assert some.ignore.tolist() == [False, False]
    assert torch.equal(some.annotated, every.annotated)
    assert (some.probs is not None) == probs


def test_moving_reaches_nested_targets_and_leaves_the_rest() -> None:
    moved = batch().to("meta")
    assert moved.images.device.type == moved.targets[0].boxes.device.type == "meta"
    assert moved.originals is not None
    assert moved.originals[1].labels.device.type == "meta"
    assert moved.areas is not None
    assert moved.areas[0].device.type == "meta"
    assert moved.skipped == 1
    assert moved.targets[0].probs is None
    assert len(moved) == 2
    assert batch().images.device.type == "cpu"


def test_batches_travel_between_processes() -> None:
    again = pickle.loads(pickle.dumps(batch()))
    assert torch.equal(again.targets[0].boxes, batch().targets[0].boxes)


@pytest.mark.parametrize("quality", [None, torch.zeros(1, 2, requires_grad=True)])
def test_detached_predictions_share_memory_without_gradient(quality: torch.Tensor | None) -> None:
    logits = torch.zeros(1, 2, 3, requires_grad=True)
    found = Predictions(logits, logits[..., :1], logits, quality).detach()
    assert not any(field.requires_grad for field in found if field is not None)
    assert (found.quality is None) == (quality is None)
    assert found.logits.data_ptr() == logits.data_ptr()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weights", torch.ones(1)),
        ("ignore", torch.zeros(3, dtype=torch.bool)),
        ("annotated", torch.ones(2, dtype=torch.bool)),
        ("probs", torch.ones(2, 2)),
        ("probs", torch.ones(1, 3)),
    ],
)
def test_of_refuses_other_fields_of_the_wrong_shape(name: str, value: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=name):
        Targets.of(torch.zeros(2, 4), torch.zeros(2), 3, **{name: value})  # type: ignore[arg-type]
