"""FixedNumber against loops, and by eye."""

from __future__ import annotations

import pytest
import torch

from detlab.assigners import Assigner
from detlab.assigners.fixed_number import FixedNumber
from detlab.losses.anchor_cost import AnchorCost
from detlab.losses.classification import Focal
from detlab.losses.iou import IoULoss
from detlab.structures import BACKGROUND, IGNORED, Anchors, Predictions, Targets
from tests.assigners.literal_paa import fixed_number, procedure
from tests.assigners.scored_images import costing, given_cost, image_of, random_image, random_predictions

BOX = [0.0, 0.0, 10.0, 10.0]


def on_levels(*sizes: int) -> Anchors:
    """All of them on the object."""
    level = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return Anchors(torch.tensor([BOX] * len(level)), level, sizes)


def one_object() -> list[Targets]:
    return [Targets.of(torch.tensor([BOX]), torch.zeros(1), 1)]


@pytest.mark.parametrize("number", [1, 10, 1000])
def test_equals_the_loop(grid_anchors, number: int) -> None:
    generator = torch.Generator().manual_seed(0)
    anchors = grid_anchors(64, (4, 8, 16, 32))
    targets = [random_image(count, generator, crowd=0.2, unannotated=0.3) for count in (0, 1, 5, 12)]
    predictions = random_predictions(anchors, len(targets), generator)
    assigner = FixedNumber(AnchorCost(Focal(), IoULoss()), number)
    found = assigner(anchors, targets, predictions).gt_index
    for row, target in enumerate(targets):
        wanted = procedure(anchors, target, image_of(predictions, row), fixed_number(number))
        assert found[row].tolist() == wanted
        one = Predictions(*(None if field is None else field[row : row + 1] for field in predictions))  # type: ignore[arg-type]
        assert torch.equal(assigner(anchors, [target], one).gt_index[0], found[row])
    assert (found == IGNORED).any()


def test_the_cheapest_of_all_levels() -> None:
    found = FixedNumber(given_cost, 3)(on_levels(3, 2), one_object(), costing([[5.0, 0.3, 0.1, 0.2, 6.0]]))
    assert found.gt_index.tolist() == [[BACKGROUND, 0, 0, 0, BACKGROUND]]


def test_all_candidates_where_there_are_fewer() -> None:
    found = FixedNumber(given_cost, 10)(on_levels(2), one_object(), costing([[0.3, 100.0]]))
    assert found.gt_index.tolist() == [[0, 0]]


def test_of_equal_costs_the_first_anchors() -> None:
    found = FixedNumber(given_cost, 2)(on_levels(2, 2), one_object(), costing([[0.5, 0.5, 0.5, 0.5]]))
    assert found.gt_index.tolist() == [[0, 0, BACKGROUND, BACKGROUND]]


def test_nan_comes_last_and_gradients_do_not_flow() -> None:
    predictions = costing([[float("nan"), 0.7, 0.1]])
    predictions.logits.requires_grad_()
    found = FixedNumber(given_cost, 2)(on_levels(3), one_object(), predictions).gt_index
    assert found.tolist() == [[BACKGROUND, 0, 0]]
    assert not found.requires_grad


def test_is_an_assigner_that_needs_predictions() -> None:
    assert isinstance(FixedNumber(given_cost), Assigner)
    with pytest.raises(ValueError, match="Expected predictions for FixedNumber"):
        FixedNumber(given_cost)(on_levels(3), one_object())


@pytest.mark.parametrize("arguments", [{"number": 0}, {"number": -3}, {"min_iou": 2.0}, {"ignore_ioa": 0.0}])
def test_refuses_impossible_arguments(arguments: dict) -> None:
    with pytest.raises(ValueError, match="Expected"):
        FixedNumber(given_cost, **arguments)
