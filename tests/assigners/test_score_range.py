"""ScoreRange against loops, and by eye."""

from __future__ import annotations

import math

import pytest
import torch

from detlab.assigners import Assigner
from detlab.assigners.score_range import ScoreRange
from detlab.losses.anchor_cost import AnchorCost
from detlab.losses.classification import Focal
from detlab.losses.iou import IoULoss
from detlab.structures import BACKGROUND, IGNORED, Anchors, Predictions, Targets
from tests.assigners.literal_paa import procedure, score_range
from tests.assigners.scored_images import costing, given_cost, image_of, random_image, random_predictions

BOX = [0.0, 0.0, 10.0, 10.0]


def on_object(count: int) -> Anchors:
    return Anchors(torch.tensor([BOX] * count), torch.zeros(count, dtype=torch.long), (count,))


def one_object() -> list[Targets]:
    return [Targets.of(torch.tensor([BOX]), torch.zeros(1), 1)]


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.5])
def test_equals_the_loop(grid_anchors, threshold: float) -> None:
    generator = torch.Generator().manual_seed(0)
    anchors = grid_anchors(64, (4, 8, 16, 32))
    targets = [random_image(count, generator, crowd=0.2, unannotated=0.3) for count in (0, 1, 5, 12)]
    predictions = random_predictions(anchors, len(targets), generator)
    assigner = ScoreRange(AnchorCost(Focal(), IoULoss()), threshold)
    found = assigner(anchors, targets, predictions).gt_index
    for row, target in enumerate(targets):
        assert found[row].tolist() == procedure(anchors, target, image_of(predictions, row), score_range(threshold))
        one = Predictions(*(None if field is None else field[row : row + 1] for field in predictions))  # type: ignore[arg-type]
        assert torch.equal(assigner(anchors, [target], one).gt_index[0], found[row])
    assert (found >= 0).any()
    assert (found == IGNORED).any()


def test_score_has_to_exceed_the_threshold() -> None:
    """exp(−0) = 1, exp(−ln 2) = 1/2, exp(−2) = 0.135, exp(−3) = 0.050; exactly 1/2 is not more than that."""
    predictions = costing([[0.0, math.log(2), 2.0, 3.0]])
    for threshold, count in ((0.0, 4), (0.1, 3), (0.4999, 2), (0.5001, 1), (0.99, 1)):
        found = ScoreRange(given_cost, threshold)(on_object(4), one_object(), predictions).gt_index
        assert found.tolist() == [[0] * count + [BACKGROUND] * (4 - count)]


def test_object_may_end_without_any_anchor() -> None:
    found = ScoreRange(given_cost)(on_object(2), one_object(), costing([[2.4, 9.0]]))
    assert found.gt_index.tolist() == [[BACKGROUND] * 2]


def test_nan_and_infinity_are_no_scores_and_gradients_do_not_flow() -> None:
    predictions = costing([[float("nan"), float("inf"), 0.5]])
    predictions.logits.requires_grad_()
    found = ScoreRange(given_cost, 0.0)(on_object(3), one_object(), predictions).gt_index
    assert found.tolist() == [[BACKGROUND, BACKGROUND, 0]]
    assert not found.requires_grad


def test_is_an_assigner_that_needs_predictions() -> None:
    assert isinstance(ScoreRange(given_cost), Assigner)
    with pytest.raises(ValueError, match="Expected predictions for ScoreRange"):
        ScoreRange(given_cost)(on_object(3), one_object())


@pytest.mark.parametrize("arguments", [{"threshold": -0.1}, {"threshold": 1.0}, {"min_iou": 2.0}, {"ignore_ioa": 0.0}])
def test_refuses_impossible_arguments(arguments: dict) -> None:
    with pytest.raises(ValueError, match="Expected"):
        ScoreRange(given_cost, **arguments)
