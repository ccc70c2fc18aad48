"""Post-processing against loops over images, levels and classes, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from detlab.postprocess import Candidates, ClassNMS, Postprocess, ScoreVoting, SoftNMS, Suppression
from detlab.structures import Detections, Predictions
from tests.postprocess.toys import CLASSES, LEVELS, SIZES, anchors, iou, predictions


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


Row = tuple[float, list[float], int]


def reference(
    predicted: Predictions, b: int, size: list[int], threshold: float, topk: int, nms: float, limit: int
) -> list[Row]:
    found: list[Row] = []
    start = 0
    for level_size in LEVELS:
        level: list[Row] = []
        for a in range(start, start + level_size):
            for c in range(CLASSES):
                score = sigmoid(predicted.logits[b, a, c].item())
                if score <= threshold:
                    continue
                if predicted.quality is not None:
                    score = math.sqrt(score * sigmoid(predicted.quality[b, a].item()))
                x1, y1, x2, y2 = predicted.boxes[b, a].tolist()
                box = [max(x1, 0.0), max(y1, 0.0), min(x2, size[1]), min(y2, size[0])]
                level.append((score, box, c))
        found += sorted(level, key=lambda row: -row[0])[:topk]
        start += level_size
    kept: list[Row] = []
    for score, box, c in sorted(found, key=lambda row: -row[0]):
        if box[2] <= box[0] or box[3] <= box[1]:
            continue
        if all(other != c or iou(box, chosen) <= nms for _, chosen, other in kept):
            kept.append((score, box, c))
    return kept[:limit]


def assert_same(found: Detections, expected: list[Row]) -> None:
    assert found.labels.tolist() == [row[2] for row in expected]
    assert found.scores.tolist() == pytest.approx([row[0] for row in expected], abs=1e-6)
    torch.testing.assert_close(found.boxes, torch.tensor([row[1] for row in expected]).reshape(-1, 4))


@pytest.mark.parametrize("quality", [False, True])
@pytest.mark.parametrize(
    ("threshold", "topk", "nms", "limit"),
    [(0.05, 1000, 0.5, 100), (0.3, 10, 0.3, 5), (0.0, 1000, 1.0, 1000), (0.0, 7, 0.0, 100), (0.999, 9, 0.5, 9)],
)
def test_equals_the_loop(quality: bool, threshold: float, topk: int, nms: float, limit: int) -> None:
    predicted = predictions(quality=quality)
    found = Postprocess(ClassNMS(nms), threshold, topk, limit)(predicted, anchors(), SIZES)
    assert len(found) == 3
    for b, detections in enumerate(found):
        assert_same(detections, reference(predicted, b, SIZES[b].tolist(), threshold, topk, nms, limit))


def test_batch_equals_its_images_one_by_one() -> None:
    predicted = predictions(quality=True)
    together = Postprocess()(predicted, anchors(), SIZES)
    for b, expected in enumerate(together):
        row = Predictions(*(None if field is None else field[b : b + 1] for field in predicted))  # type: ignore[arg-type]
        (alone,) = Postprocess()(row, anchors(), SIZES[b : b + 1])
        for field, other in zip(alone, expected, strict=True):
            assert torch.equal(field, other)


def test_scores_fall_and_types_are_fixed() -> None:
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        predicted = predictions(quality=True)
        half = predicted._replace(logits=predicted.logits.to(dtype))
        for detections in Postprocess()(half, anchors(), SIZES):
            assert (detections.scores.diff() <= 0).all()
            assert detections.boxes.dtype == detections.scores.dtype == torch.float32
            assert detections.labels.dtype == torch.int64
            assert len(detections.scores) > 0


def test_half_precision_equals_the_loop_on_the_rounded_logits() -> None:
    predicted = predictions(seed=3)
    half = predicted._replace(logits=predicted.logits.half())
    found = Postprocess(score_threshold=0.3)(half, anchors(), SIZES)
    for b, detections in enumerate(found):
        expected = reference(half, b, SIZES[b].tolist(), 0.3, 1000, 0.5, 100)
        assert detections.scores.tolist() == pytest.approx([row[0] for row in expected], abs=1e-6)


def test_quality_can_be_left_out() -> None:
    predicted = predictions(quality=True)
    found = Postprocess(quality="ignore")(predicted, anchors(), SIZES)
    plain = Postprocess()(predicted._replace(quality=None), anchors(), SIZES)
    for a, b in zip(found, plain, strict=True):
        assert torch.equal(a.scores, b.scores)


def with_objectness(seed: int = 0) -> Predictions:
    predicted = predictions(seed=seed)
    generator = torch.Generator().manual_seed(seed)
    return predicted._replace(objectness=torch.randn(3, sum(LEVELS), generator=generator) * 2)


def as_one_logit(predicted: Predictions, classes: str) -> Predictions:
    """Objectness times class probability, in float64, as the sigmoid of a single logit."""
    logits, objectness = predicted.logits.double(), predicted.objectness
    assert objectness is not None
    joint = torch.zeros_like(logits)
    for row, of_object, result in zip(logits.view(-1, CLASSES), objectness.flatten().tolist(), joint.view(-1, CLASSES)):
        evidence = sum(math.exp(x) for x in row.tolist())
        for c, x in enumerate(row.tolist()):
            p = sigmoid(of_object) * (math.exp(x) / evidence if classes == "softmax" else sigmoid(x))
            result[c] = math.log(p / (1 - p))
    return predicted._replace(logits=joint, objectness=None)


@pytest.mark.parametrize("classes", ["softmax", "sigmoid"])
@pytest.mark.parametrize(
    ("threshold", "topk", "nms", "limit"),
    [(0.05, 1000, 0.5, 100), (0.3, 10, 0.3, 5), (0.0, 1000, 1.0, 1000), (0.0, 7, 0.0, 100), (0.95, 9, 0.5, 9)],
)
def test_objectness_times_class_equals_the_loop(classes, threshold: float, topk: int, nms: float, limit: int) -> None:
    predicted = with_objectness()
    found = Postprocess(ClassNMS(nms), threshold, topk, limit, classes=classes)(predicted, anchors(), SIZES)
    joint = as_one_logit(predicted, classes)
    for b, detections in enumerate(found):
        assert_same(detections, reference(joint, b, SIZES[b].tolist(), threshold, topk, nms, limit))


def test_objectness_alone_decides_where_there_is_one_class() -> None:
    predicted = with_objectness()
    assert predicted.objectness is not None
    found = Postprocess()(predicted._replace(logits=predicted.logits[..., :1]), anchors(), SIZES)
    plain = Postprocess()(predicted._replace(logits=predicted.objectness[..., None], objectness=None), anchors(), SIZES)
    for a, b in zip(found, plain, strict=True):
        torch.testing.assert_close(a.scores, b.scores)
        assert torch.equal(a.boxes, b.boxes)


@pytest.mark.parametrize("suppression", [SoftNMS(), ScoreVoting()])
def test_objectness_under_every_suppression(suppression: Suppression) -> None:
    predicted = with_objectness(1)
    found = Postprocess(suppression)(predicted, anchors(), SIZES)
    expected = Postprocess(suppression)(as_one_logit(predicted, "softmax"), anchors(), SIZES)
    for a, b in zip(found, expected, strict=True):
        assert len(a.scores) > 0
        assert a.labels.tolist() == b.labels.tolist()
        torch.testing.assert_close(a.scores, b.scores.float())
        torch.testing.assert_close(a.boxes, b.boxes, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("field", ["logits", "objectness"])
def test_non_finite_objectness_or_classes_leave_the_rest(bad: float, field: str) -> None:
    predicted = with_objectness()
    getattr(predicted, field)[:, 3] = bad
    for classes in ("softmax", "sigmoid"):
        for detections in Postprocess(topk_per_level=5, classes=classes)(predicted, anchors(), SIZES):
            assert len(detections.scores) > 0
            assert detections.scores.isfinite().all()


def test_half_precision_with_objectness() -> None:
    predicted = with_objectness(2)
    half = predicted._replace(logits=predicted.logits.half())
    exact = half._replace(logits=half.logits.float())
    for a, b in zip(Postprocess()(half, anchors(), SIZES), Postprocess()(exact, anchors(), SIZES), strict=True):
        assert torch.equal(a.scores, b.scores)


@pytest.mark.parametrize("batch", [1, 3])
def test_nothing_above_the_threshold(batch: int) -> None:
    predicted = predictions(batch)
    quiet = predicted._replace(logits=torch.full_like(predicted.logits, -50.0))
    for detections in Postprocess()(quiet, anchors(), SIZES[:batch]):
        assert detections.boxes.shape == (0, 4)
        assert detections.scores.shape == detections.labels.shape == (0,)


def test_no_images_and_no_anchors() -> None:
    predicted = predictions(0)
    assert Postprocess()(predicted, anchors(), torch.zeros(0, 2, dtype=torch.long)) == []
    none = Predictions(torch.zeros(2, 0, 3), torch.zeros(2, 0, 4), torch.zeros(2, 0, 4))
    assert [len(d.scores) for d in Postprocess()(none, anchors((0,)), SIZES[:2])] == [0, 0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("quality", [False, True])
def test_non_finite_values_are_dropped_and_leave_the_rest(bad: float, quality: bool) -> None:
    predicted = predictions(quality=quality)
    predicted.logits[0, 3] = bad
    predicted.boxes[1, 5, 2] = bad
    if predicted.quality is not None:
        predicted.quality[2, 7] = bad
    found = Postprocess(topk_per_level=5)(predicted, anchors(), SIZES)
    for detections in found:
        assert len(detections.scores) > 0
        assert detections.scores.isfinite().all()
        assert detections.boxes.isfinite().all()
        assert (detections.boxes[:, 2:] > detections.boxes[:, :2]).all()
    predicted.logits.fill_(bad)
    for detections in Postprocess()(predicted, anchors(), SIZES):
        assert detections.scores.isfinite().all()


@pytest.mark.parametrize("field", ["logits", "quality"])
def test_nan_does_not_crowd_out_a_good_box(field: str) -> None:
    predicted = predictions(1, quality=True)
    predicted.logits.fill_(2.0)
    getattr(predicted, field).fill_(float("nan"))
    predicted.logits[0, 2] = torch.tensor([-9.0, 3.0, -9.0])
    assert predicted.quality is not None
    predicted.quality[0, 2] = 1.0
    (found,) = Postprocess(topk_per_level=1)(predicted, anchors(), SIZES[:1])
    assert found.labels.tolist() == [1]


def test_infinite_boxes_are_dropped_not_clipped_to_the_picture() -> None:
    predicted = predictions(1)
    predicted.boxes[0, 5] = torch.tensor([0.0, 0.0, float("inf"), 20.0])
    predicted.logits[0, 5] = 9.0
    (found,) = Postprocess()(predicted, anchors(), SIZES[:1])
    assert (found.scores < 0.999).all()


def test_boxes_outside_the_picture_are_dropped() -> None:
    predicted = predictions(1)
    predicted.boxes[0, :] = torch.tensor([85.0, 10.0, 95.0, 20.0])  # the picture is 80 wide
    (found,) = Postprocess()(predicted, anchors(), SIZES[:1])
    assert len(found.scores) == 0


def test_another_suppression_can_take_the_place_of_nms() -> None:
    class KeepAll:
        def __call__(self, candidates: Candidates) -> Candidates:
            return candidates

    assert isinstance(KeepAll(), Suppression)
    predicted = predictions(1)
    (found,) = Postprocess(KeepAll(), 0.0, 1000, 1000)(predicted, anchors(), SIZES[:1])
    assert len(found.scores) == sum(LEVELS) * CLASSES - dropped(predicted.boxes, SIZES[0])


def dropped(boxes: Tensor, size: Tensor) -> int:
    """How many (box, class) have no area left inside the picture."""
    height, width = size.tolist()
    outside = (boxes[0, :, 0] >= width) | (boxes[0, :, 1] >= height) | (boxes[0, :, 2:] <= 0).any(-1)
    return int(outside.sum()) * CLASSES


@pytest.mark.parametrize(
    "arguments",
    [
        {"score_threshold": -0.1},
        {"score_threshold": 1.0},
        {"topk_per_level": 0},
        {"max_detections": 0},
        {"quality": "yes"},
        {"classes": "softmin"},
    ],
)
def test_refuses_impossible_arguments(arguments) -> None:
    with pytest.raises(ValueError, match="Expected"):
        Postprocess(**arguments)
