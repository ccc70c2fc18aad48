"""Gather against a loop over images, anchors and classes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from detlab.losses.classification import CrossEntropy, Focal
from detlab.ops.matching import gather
from detlab.structures import BACKGROUND, IGNORED, Anchors, Assignment, Matched, Predictions, Targets

CLASSES = 4
ANCHORS = Anchors(torch.arange(24.0).view(6, 4), torch.tensor([0, 0, 0, 0, 1, 1]), (4, 2))


def predictions(batch: int, quality: bool = True, seed: int = 0) -> Predictions:
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> Tensor:
        return torch.randn(batch, 6, *shape, generator=generator).requires_grad_()

    return Predictions(rand(CLASSES), rand(4), rand(4), rand() if quality else None)


def image(labels: list[int], **fields: Tensor) -> Targets:
    boxes = torch.arange(4.0 * len(labels)).view(-1, 4) + 100
    return Targets.of(boxes, torch.tensor(labels), CLASSES, **fields)  # type: ignore[arg-type]


def literal_class_weights(targets: list[Targets], index: Tensor) -> list[list[list[float]]]:
    result = []
    for target, row in zip(targets, index.tolist(), strict=True):
        per_image = []
        for g in row:
            if g == IGNORED:
                per_image.append([0.0] * CLASSES)
                continue
            weight = 1.0 if g == BACKGROUND else float(target.weights[g])
            per_class = [weight * float(known) for known in target.annotated]
            if g >= 0 and target.probs is not None:
                per_class = [weight if target.probs[g, c] > 0 else value for c, value in enumerate(per_class)]
            elif g >= 0:
                per_class[int(target.labels[g])] = weight
            per_image.append(per_class)
        result.append(per_image)
    return result


ASSIGNMENT = Assignment(torch.tensor([[1, -1, -2, 0, 1, -1], [-1, -2, 0, -1, -1, -2]]))


def two_images(annotated: bool = False, probs: bool = False) -> list[Targets]:
    known = torch.tensor([True, False, True, False]) if annotated else None
    soft = torch.tensor([[0.6, 0.4, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]) if probs else None
    first = image([0, 3], weights=torch.tensor([1.0, 0.5]), annotated=known, probs=soft)  # type: ignore[arg-type]
    return [first, image([2], weights=torch.tensor([0.25]))]


def check_positives(matched: Matched, targets: list[Targets], index: Tensor, predicted: Predictions) -> None:
    position = 0
    for b, row in enumerate(index.tolist()):
        for a, g in enumerate(row):
            if g < 0:
                assert matched.labels[b, a] == -1
                continue
            assert matched.labels[b, a] == targets[b].labels[g]
            assert matched.positive[position] == b * len(row) + a
            assert torch.equal(matched.boxes[position], predicted.boxes[b, a])
            assert torch.equal(matched.deltas[position], predicted.deltas[b, a])
            assert torch.equal(matched.anchor_boxes[position], ANCHORS.boxes[a])
            assert torch.equal(matched.target_boxes[position], targets[b].boxes[g])
            assert matched.box_weights[position] == targets[b].weights[g]
            if predicted.quality is not None:
                assert matched.quality is not None
                assert matched.quality[position] == predicted.quality[b, a]
            position += 1
    assert len(matched.positive) == position


@pytest.mark.parametrize("annotated", [False, True])
@pytest.mark.parametrize("probs", [False, True])
@pytest.mark.parametrize("quality", [False, True])
def test_equals_the_loop(annotated: bool, probs: bool, quality: bool) -> None:
    targets, predicted = two_images(annotated, probs), predictions(2, quality)
    matched = gather(ANCHORS, targets, ASSIGNMENT, predicted)
    check_positives(matched, targets, ASSIGNMENT.gt_index, predicted)
    assert (matched.quality is not None) == quality
    assert matched.logits is predicted.logits
    assert matched.class_weights.shape == (2, 6, CLASSES if annotated else 1)
    expected = torch.tensor(literal_class_weights(targets, ASSIGNMENT.gt_index))
    torch.testing.assert_close(matched.class_weights.expand(-1, -1, CLASSES), expected)


def test_soft_targets_and_one_hot_rows_for_the_boxes_without() -> None:
    targets = two_images(probs=True)
    soft = gather(ANCHORS, targets, ASSIGNMENT, predictions(2)).class_targets
    assert soft is not None
    assert targets[0].probs is not None
    assert torch.equal(soft[0, 3], targets[0].probs[0])
    assert torch.equal(soft[0, 4], targets[0].probs[1])
    assert soft[1, 2].tolist() == [0, 0, 1, 0]
    assert soft.sum().item() == 4  # one per positive, nothing elsewhere
    assert gather(ANCHORS, two_images(), ASSIGNMENT, predictions(2)).class_targets is None


@pytest.mark.parametrize("annotated", [False, True])
@pytest.mark.parametrize("probs", [False, True])
def test_batch_equals_its_images_one_by_one(annotated: bool, probs: bool) -> None:
    targets, predicted = two_images(annotated, probs), predictions(2)
    together = gather(ANCHORS, targets, ASSIGNMENT, predicted)
    seen = 0
    for b in range(2):
        row = Predictions(*(None if field is None else field[b : b + 1] for field in predicted))  # type: ignore[arg-type]
        alone = gather(ANCHORS, targets[b : b + 1], Assignment(ASSIGNMENT.gt_index[b : b + 1]), row)
        count = len(alone.positive)
        part = slice(seen, seen + count)
        assert torch.equal(alone.positive + 6 * b, together.positive[part])
        for name in ("boxes", "deltas", "anchor_boxes", "target_boxes", "quality", "box_weights", "level"):
            assert torch.equal(getattr(alone, name), getattr(together, name)[part])
        assert torch.equal(alone.labels[0], together.labels[b])
        assert torch.equal(alone.level, (alone.positive >= 4).long())
        weights = together.class_weights[b].expand(-1, CLASSES)
        assert torch.equal(alone.class_weights[0].expand(-1, CLASSES), weights)
        seen += count


@pytest.mark.parametrize("loss", [Focal(), CrossEntropy()])
def test_unannotated_classes_get_no_gradient_except_on_their_own_boxes(loss: Focal) -> None:
    """The first image's annotators looked for classes 0 and 2; its second box is a pseudo-label of class 3."""
    predicted = predictions(2)
    matched = gather(ANCHORS, two_images(annotated=True), ASSIGNMENT, predicted)
    loss(matched).backward()
    slope = predicted.logits.grad
    assert slope is not None
    assert (slope[0, :, 1] == 0).all()
    own = torch.tensor([True, False, False, False, True, False])  # anchors of the pseudo-label
    assert torch.equal(slope[0, :, 3] != 0, own)
    assert (slope[0, [0, 1, 3, 4, 5]][:, [0, 2]] != 0).all()
    assert (slope[0, 2] == 0).all()  # ignored
    assert (slope[1, [0, 2, 3, 4]] != 0).all()


@pytest.mark.parametrize("fill", [BACKGROUND, IGNORED])
@pytest.mark.parametrize("annotated", [False, True])
def test_no_positives(fill: int, annotated: bool) -> None:
    known = torch.tensor([not annotated, True, True, True])
    targets = [image([], annotated=known), image([])]
    predicted = predictions(2)
    matched = gather(ANCHORS, targets, Assignment(torch.full((2, 6), fill)), predicted)
    assert matched.boxes.shape == matched.target_boxes.shape == (0, 4)
    assert (matched.labels == -1).all()
    expected = torch.full((2, 6, CLASSES), float(fill == BACKGROUND))
    expected[0, :, 0] *= not annotated
    assert torch.equal(matched.class_weights.expand(-1, -1, CLASSES), expected)
    assert matched.quality is not None
    (matched.boxes.sum() + matched.deltas.sum() + matched.quality.sum()).backward()
    assert predicted.boxes.grad is not None
    assert (predicted.boxes.grad == 0).all()


def test_half_precision_predictions_keep_their_type() -> None:
    half = Predictions(*(None if f is None else f.half() for f in predictions(2)))  # type: ignore[arg-type]
    matched = gather(ANCHORS, two_images(annotated=True, probs=True), ASSIGNMENT, half)
    assert matched.deltas.dtype == torch.float16
    assert matched.class_weights.dtype == matched.target_boxes.dtype == torch.float32


def test_refuses_targets_of_another_number_of_classes() -> None:
    other = Targets.of(torch.zeros(0, 4), torch.zeros(0), 7)
    with pytest.raises(ValueError, match="4 classes, got 7"):
        gather(ANCHORS, [other], Assignment(torch.full((1, 6), -1)), predictions(1))
