"""Soft-NMS against the loop of its paper (Bodla et al. 2017, figure 2), image by image and class by class."""

from __future__ import annotations

import math

import pytest
import torch

from detlab.postprocess import Candidates, ClassNMS, Postprocess, ScoreVoting, SoftNMS, Suppression
from tests.postprocess.toys import SIZES, anchors, iou, one_image, predictions

Taken = tuple[int, int, float, list[float]]


def literal(
    candidates: Candidates, method: str = "gaussian", sigma: float = 0.5, overlap: float = 0.3, least: float = 0.001
) -> list[Taken]:
    """(image, label, score, box) as they are taken, in falling score; in float64."""
    found: list[Taken] = []
    keys = list(zip(candidates.images.tolist(), candidates.labels.tolist()))
    for image, label in sorted(set(keys)):
        mine = torch.tensor([key == (image, label) for key in keys])
        boxes, scores = candidates.boxes[mine].double().tolist(), candidates.scores[mine].double().tolist()
        while boxes:
            best = scores.index(max(scores))
            box, score = boxes.pop(best), scores.pop(best)
            if score <= least:
                break
            found.append((image, label, score, box))
            for i, other in enumerate(boxes):
                u = iou(box, other)
                if method == "gaussian":
                    scores[i] *= math.exp(-(u**2) / sigma)
                elif u >= overlap:
                    scores[i] *= 1 - u
    return sorted(found, key=lambda row: -row[2])


def crowded(seed: int = 0) -> Candidates:
    return Postprocess(score_threshold=0.0).candidates(predictions(seed=seed), anchors(), SIZES)


def assert_same(found: Candidates, expected: list[Taken]) -> None:
    assert found.scores.tolist() == pytest.approx([row[2] for row in expected], rel=1e-5)
    torch.testing.assert_close(found.boxes, torch.tensor([row[3] for row in expected]).reshape(-1, 4))
    assert list(zip(found.images.tolist(), found.labels.tolist())) == [row[:2] for row in expected]


@pytest.mark.parametrize(
    ("method", "sigma", "overlap", "least"),
    [
        ("gaussian", 0.5, 0.3, 0.001),
        ("gaussian", 0.1, 0.3, 0.05),
        ("linear", 0.5, 0.3, 0.001),
        ("linear", 0.5, 0.0, 0.02),
        ("linear", 0.5, 1.0, 0.0),
    ],
)
def test_equals_the_loop(method, sigma, overlap, least) -> None:
    candidates = crowded()
    found = SoftNMS(method, sigma, overlap, least)(candidates)
    assert_same(found, literal(candidates, method, sigma, overlap, least))
    assert isinstance(SoftNMS(), Suppression)


def test_scores_fall_and_types_are_fixed() -> None:
    found = SoftNMS()(crowded())
    assert (found.scores.diff() <= 0).all()
    assert found.boxes.dtype == found.scores.dtype == torch.float32
    assert found.labels.dtype == found.images.dtype == torch.int64


@pytest.mark.parametrize("limit", [1, 5, 40])
def test_a_limit_is_one_for_each_class_and_changes_nothing_of_the_best(limit: int) -> None:
    candidates = crowded(3)
    limited, plain = SoftNMS(limit=limit)(candidates), SoftNMS()(candidates)
    assert torch.bincount(limited.images * 3 + limited.labels).tolist() == [limit] * 9
    for image in range(3):
        assert torch.equal(limited.scores[limited.images == image][:limit], plain.scores[plain.images == image][:limit])


def test_by_hand() -> None:
    """IoU 0.8 and 0: the neighbour's 0.5 falls, the far box's 0.1 does not."""
    candidates = one_image([[0.0, 0, 10, 10], [0, 0, 10, 8], [50, 50, 60, 60]], [0, 0, 0])
    assert SoftNMS()(candidates).scores.tolist() == pytest.approx([0.9, 0.5 * math.exp(-(0.8**2) / 0.5), 0.1])
    linear = SoftNMS("linear")(candidates)
    assert linear.scores.tolist() == pytest.approx([0.9, 0.1, 0.1])
    assert SoftNMS("linear", iou=0.81)(candidates).scores.tolist() == pytest.approx([0.9, 0.5, 0.1])


def test_other_classes_and_other_images_do_not_matter() -> None:
    box = [0.0, 0, 10, 10]
    found = SoftNMS("linear")(one_image([box] * 5, [0, 0, 1, 0, 1], [0, 0, 0, 1, 1]))
    assert found.labels.tolist() == [0, 1, 0, 1]
    assert found.images.tolist() == [0, 0, 1, 1]


def test_equal_boxes_of_equal_score_are_taken_in_order() -> None:
    zero = torch.zeros(3).long()
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 4], [20, 0, 24, 4]])
    found = SoftNMS()(Candidates(boxes, torch.full((3,), 0.5), zero, zero))
    assert found.scores.tolist() == pytest.approx([0.5, 0.5, 0.5 * math.exp(-2)])
    assert found.boxes[:, 0].tolist() == [0, 20, 0]


def test_nothing_and_nothing_good_enough() -> None:
    nothing = crowded().select(torch.zeros(0).long())
    assert len(SoftNMS()(nothing).scores) == 0
    low = one_image([[0.0, 0, 9, 9]] * 2, [0, 1])
    assert len(SoftNMS(score_threshold=0.95)(low).scores) == 0


def test_the_input_is_left_alone() -> None:
    candidates = crowded()
    before = candidates.scores.clone()
    SoftNMS()(candidates)
    assert torch.equal(candidates.scores, before)


def test_in_post_processing_and_under_voting() -> None:
    predicted = predictions()
    soft = Postprocess(SoftNMS(limit=20), 0.05, 1000, 20)(predicted, anchors(), SIZES)
    hard = Postprocess(ClassNMS(), 0.05, 1000, 20)(predicted, anchors(), SIZES)
    voted = Postprocess(ScoreVoting(SoftNMS(limit=20), limit=20), 0.05, 1000, 20)(predicted, anchors(), SIZES)
    for a, b, c in zip(soft, hard, voted, strict=True):
        assert len(a.scores) == len(c.scores) == 20
        assert a.scores[0] == b.scores[0]
        assert torch.equal(a.scores, c.scores)
        assert not torch.equal(a.boxes, c.boxes)


@pytest.mark.parametrize(
    "arguments",
    [
        {"method": "hard"},
        {"sigma": 0.0},
        {"iou": 1.1},
        {"score_threshold": -0.1},
        {"score_threshold": 1.0},
        {"limit": 0},
    ],
)
def test_refuses_impossible_arguments(arguments) -> None:
    with pytest.raises(ValueError, match="Expected"):
        SoftNMS(**arguments)
