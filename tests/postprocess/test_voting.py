"""Score voting against Eqs. 9-10 written out as loops over boxes and candidates, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from detlab.postprocess import (
    Candidates,
    ClassNMS,
    Postprocess,
    ScoreVoting,
    Suppression,
    best_of_images,
    score_voting,
    voting,
)
from tests.postprocess.toys import SIZES, anchors, iou, one_image, predictions


def literal(
    boxes: Tensor,
    labels: Tensor,
    candidate_boxes: Tensor,
    candidate_scores: Tensor | None,
    candidate_labels: Tensor,
    sigma: float = 0.025,
    min_iou: float = 0.01,
) -> Tensor:
    rows, classes = candidate_boxes.double().tolist(), candidate_labels.tolist()
    scores = [1.0] * len(rows) if candidate_scores is None else candidate_scores.double().tolist()
    voted = []
    for box, label in zip(boxes.double().tolist(), labels.tolist()):
        total, weights = [0.0] * 4, 0.0
        for other, score, kind in zip(rows, scores, classes):
            overlap = iou(box, other) if kind == label else 0.0
            if overlap > min_iou:
                weight = math.exp(-((1 - overlap) ** 2) / sigma) * score
                total = [t + weight * x for t, x in zip(total, other)]
                weights += weight
        voted.append([t / weights for t in total] if weights else box)
    return torch.tensor(voted, dtype=torch.float64).reshape(-1, 4)


def crowd(count: int, classes: int = 3, span: float = 60, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """boxes, labels and scores, in falling score, of candidates around a tenth as many objects."""
    generator = torch.Generator().manual_seed(seed)
    objects = count // 10 + 1
    corner = torch.rand(objects, 2, generator=generator) * span
    size = 10 + torch.rand(objects, 2, generator=generator) * 35
    which = torch.randint(objects, (count,), generator=generator)
    boxes = torch.cat([corner, corner + size], 1)[which] + torch.randn(count, 4, generator=generator)
    return boxes, which % classes, torch.rand(count, generator=generator).sort(descending=True).values


@pytest.mark.parametrize(("sigma", "min_iou"), [(0.025, 0.01), (0.0025, 0.0), (1.0, 0.5)])
@pytest.mark.parametrize("use_scores", [True, False])
def test_equals_the_loop(sigma: float, min_iou: float, use_scores: bool) -> None:
    boxes, labels, scores = crowd(200)
    weights = scores if use_scores else None
    voted = score_voting(boxes[:40], labels[:40], boxes, weights, labels, sigma, min_iou)
    expected = literal(boxes[:40], labels[:40], boxes, weights, labels, sigma, min_iou)
    torch.testing.assert_close(voted.double(), expected, atol=1e-4, rtol=1e-6)
    assert (voted - boxes[:40]).abs().max() > 0.5


@pytest.mark.parametrize("pairs", [1, 100, 5000, voting.PAIRS_CPU])
def test_a_thousand_boxes_whatever_is_held_at_a_time(pairs: int, monkeypatch) -> None:
    """Classes of very different sizes, so that chunks differ in width, too."""
    monkeypatch.setattr(voting, "PAIRS_CPU", pairs)
    boxes, _, scores = crowd(1000, span=600)
    labels = (torch.rand(1000, generator=torch.Generator().manual_seed(1)) ** 4 * 80).long()
    assert labels.bincount().max() > 20 * labels.bincount()[-10:].max()
    voted = score_voting(boxes, labels, boxes, scores, labels)
    torch.testing.assert_close(voted.double(), literal(boxes, labels, boxes, scores, labels), atol=2e-3, rtol=1e-6)


def test_double_precision_is_kept() -> None:
    boxes, labels, scores = crowd(100)
    voted = score_voting(boxes.double(), labels, boxes.double(), scores.double(), labels)
    expected = literal(boxes, labels, boxes, scores, labels)
    torch.testing.assert_close(voted, expected, atol=1e-10, rtol=0)


def test_no_more_pairs_than_allowed_are_held_at_a_time() -> None:
    counts = torch.tensor([3, 900, 0, 400, 5, 5, 4, 2000, 1] + [30] * 200)
    chunks = list(voting._chunks(counts, 1000))
    rows = torch.cat([rows for rows, _ in chunks])
    assert sorted(rows.tolist()) == [i for i, count in enumerate(counts.tolist()) if count]
    for rows, width in chunks:
        assert width == counts[rows].max()
        assert 2 * counts[rows].min() >= width
        assert len(rows) * width <= 1000 or len(rows) == 1


def test_the_formula_by_hand() -> None:
    """Two voters of IoU 1 and 0.8 with scores 0.9 and 0.5."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 8]])
    voted = score_voting(boxes[:1], torch.zeros(1).long(), boxes, torch.tensor([0.9, 0.5]), torch.zeros(2).long())
    other = 0.5 * math.exp(-(0.2**2) / 0.025)
    assert voted[0].tolist() == pytest.approx([0, 0, 10, (0.9 * 10 + other * 8) / (0.9 + other)])


def test_only_voters_above_the_least_overlap() -> None:
    """An IoU of exactly min_iou does not vote; 0.01 is the released one, and 1/100 in float32."""
    zero = torch.zeros(2).long()
    for low, least in (([0.0, 0, 10, 5], 0.5), ([0.0, 0, 1, 1], 0.01)):
        boxes = torch.tensor([[0.0, 0, 10, 10], low])
        scores = torch.tensor([0.5, 0.5])
        assert torch.equal(score_voting(boxes[:1], zero[:1], boxes, scores, zero, 10.0, least), boxes[:1])
        assert score_voting(boxes[:1], zero[:1], boxes, scores, zero, 10.0, least - 1e-4)[0, 3] < 9.9


def test_touching_boxes_do_not_vote() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [10, 0, 20, 10]])
    zero = torch.zeros(2).long()
    assert torch.equal(score_voting(boxes, zero, boxes, torch.ones(2), zero, 100.0, 0.0), boxes)


def test_identical_boxes_stay_exactly() -> None:
    boxes = torch.tensor([[100.1, 200.3, 733.7, 611.9]]).repeat(50, 1)
    zero = torch.zeros(50).long()
    assert torch.equal(score_voting(boxes, zero, boxes, torch.rand(50), zero), boxes)


def test_without_candidates_of_its_class_a_box_stays() -> None:
    boxes, _, scores = crowd(20)
    ones = torch.ones(20).long()
    assert torch.equal(score_voting(boxes, ones, boxes, scores, 0 * ones), boxes)
    assert torch.equal(score_voting(boxes, ones, boxes[:0], scores[:0], ones[:0]), boxes)
    far = boxes + 1000
    assert torch.equal(score_voting(boxes, ones, far, scores, ones), boxes)


def test_empty_input() -> None:
    boxes, labels, scores = crowd(5)
    assert score_voting(boxes[:0], labels[:0], boxes, scores, labels).shape == (0, 4)
    assert score_voting(boxes[:0], labels[:0], boxes[:0], scores[:0], labels[:0]).shape == (0, 4)


def test_one_box_is_its_own_mean() -> None:
    box, zero = torch.tensor([[3.3, 4.4, 15.5, 26.6]]), torch.zeros(1).long()
    assert torch.equal(score_voting(box, zero, box, torch.tensor([0.7]), zero), box)


@pytest.mark.parametrize("score", [0.0, 1e-45, 1e-30])
def test_weights_that_vanish_do_not_give_nan(score: float) -> None:
    """Zero scores leave the box; tiny ones weigh as large ones do."""
    boxes, labels, _ = crowd(60, classes=1)
    voted = score_voting(boxes[:10], labels[:10], boxes, torch.full((60,), score), labels)
    expected = boxes[:10] if score == 0 else score_voting(boxes[:10], labels[:10], boxes, None, labels)
    torch.testing.assert_close(voted, expected, atol=1e-4, rtol=0)


def test_of_voters_whose_weights_all_underflow_the_nearest_wins() -> None:
    """exp(−0.2² / 1e-6) is 0 even in float64."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 5]])
    voted = score_voting(boxes[:1], torch.zeros(1).long(), boxes[1:], torch.ones(2), torch.zeros(2).long(), 1e-6)
    assert torch.equal(voted, boxes[1:2])


@pytest.mark.parametrize("size", [1e5, 1e8, 1e16])
def test_huge_boxes(size: float) -> None:
    boxes, labels, scores = crowd(30, classes=1)
    voted = score_voting(boxes * size, labels, boxes * size, scores, labels)
    expected = literal(boxes, labels, boxes, scores, labels)
    torch.testing.assert_close(voted.double() / size, expected, atol=1e-3, rtol=0)


def test_boxes_too_large_for_an_area_stay() -> None:
    """Their areas are infinite, their IoU is not a number."""
    boxes, labels, scores = crowd(30, classes=1)
    assert torch.equal(score_voting(boxes * 1e25, labels, boxes * 1e25, scores, labels), boxes * 1e25)


def test_boxes_without_area_stay() -> None:
    boxes = torch.tensor([[5.0, 5, 5, 9], [0, 0, 10, 10]])
    zero = torch.zeros(2).long()
    assert torch.equal(score_voting(boxes, zero, boxes, torch.ones(2), zero, 1.0, 0.0), boxes)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(dtype: torch.dtype) -> None:
    boxes, labels, scores = crowd(100)
    half, weights = boxes.to(dtype), scores.to(dtype)
    voted = score_voting(half[:20], labels[:20], half, weights, labels)
    assert voted.dtype == torch.float32
    expected = literal(half[:20], labels[:20], half, weights, labels)
    torch.testing.assert_close(voted.double(), expected, atol=1e-4, rtol=1e-6)


def test_it_is_exact_under_mixed_precision() -> None:
    boxes, labels, scores = crowd(100)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = score_voting(boxes, labels, boxes, scores, labels)
    assert torch.equal(mixed, score_voting(boxes, labels, boxes, scores, labels))


def test_the_input_is_left_alone() -> None:
    boxes, labels, scores = crowd(30)
    before = boxes.clone()
    score_voting(boxes, labels, boxes, scores, labels)
    assert torch.equal(boxes, before)


def voters(seed: int = 0) -> Candidates:
    return Postprocess(score_threshold=0.0).candidates(predictions(seed=seed), anchors(), SIZES)


def test_votes_stay_inside_an_image_and_a_class() -> None:
    candidates, nms = voters(), ClassNMS(0.4)
    found, kept = ScoreVoting(nms)(candidates), nms(candidates)
    assert isinstance(ScoreVoting(), Suppression)
    for field in ("scores", "labels", "images"):
        assert torch.equal(getattr(found, field), getattr(kept, field))
    for image in range(3):
        here, there = kept.images == image, candidates.images == image
        expected = literal(
            kept.boxes[here], kept.labels[here],
            candidates.boxes[there], candidates.scores[there], candidates.labels[there],
        )  # fmt: skip
        torch.testing.assert_close(found.boxes[here].double(), expected, atol=1e-4, rtol=1e-6)


def test_without_scores() -> None:
    candidates = voters()
    found = ScoreVoting(ClassNMS(0.4), use_scores=False)(candidates)
    alike = ScoreVoting(ClassNMS(0.4))(candidates._replace(scores=torch.ones_like(candidates.scores)))
    kept = ClassNMS(0.4)(candidates)
    expected = score_voting(
        kept.boxes, kept.images * 3 + kept.labels, candidates.boxes, None, candidates.images * 3 + candidates.labels
    )
    assert torch.equal(found.boxes, expected)
    assert not torch.equal(found.boxes, ScoreVoting(ClassNMS(0.4))(candidates).boxes)
    assert len(alike.boxes) > 0


@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_a_limit_changes_nothing_but_the_cost(limit: int) -> None:
    predicted = predictions(seed=5)
    plain, limited = (
        Postprocess(ScoreVoting(ClassNMS(0.5), limit=each), 0.1, max_detections=limit)(predicted, anchors(), SIZES)
        for each in (None, limit)
    )
    for a, b in zip(plain, limited, strict=True):
        assert len(a.scores) > 0
        for one, other in zip(a, b, strict=True):
            assert torch.equal(one, other)
    assert torch.bincount(ScoreVoting(limit=limit)(voters()).images).max() <= limit


def test_the_best_of_each_image() -> None:
    boxes = [[0.0, 0, i + 1, 9] for i in range(7)]
    found = best_of_images(one_image(boxes, [0, 1, 0, 1, 0, 1, 0], [2, 0, 2, 2, 0, 2, 0]), 2)
    assert found.images.tolist() == [2, 0, 2, 0]
    assert found.boxes[:, 2].tolist() == [1, 2, 3, 5]


def test_nothing_to_vote_on() -> None:
    assert len(ScoreVoting()(voters().select(torch.zeros(0).long())).scores) == 0
    quiet = predictions()
    quiet.logits.fill_(-50)
    assert [len(found.scores) for found in Postprocess(ScoreVoting())(quiet, anchors(), SIZES)] == [0, 0, 0]


@pytest.mark.parametrize(
    "arguments", [{"sigma": 0.0}, {"sigma": float("nan")}, {"min_iou": 1.0}, {"min_iou": -0.1}, {"limit": 0}]
)
def test_refuses_impossible_arguments(arguments) -> None:
    with pytest.raises(ValueError, match="Expected"):
        ScoreVoting(**arguments)
    if "limit" not in arguments:
        boxes, labels, scores = crowd(3)
        with pytest.raises(ValueError, match="Expected"):
            score_voting(boxes, labels, boxes, scores, labels, **arguments)
