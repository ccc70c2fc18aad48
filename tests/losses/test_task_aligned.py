"""Soft targets and losses of task alignment against loops in float64."""

from __future__ import annotations

import math

import pytest
import torch

from detlab.losses.classification import Focal
from detlab.losses.criterion import Criterion
from detlab.losses.iou import IoULoss, iou_loss
from detlab.losses.quality import PredictedIoU
from detlab.losses.task_aligned import TaskAlignedCriterion, alignment_targets
from detlab.structures import Matched


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def iou(a: list[float], b: list[float]) -> float:
    both = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def reference_targets(matched: Matched, alpha: float, beta: float) -> list[float]:
    """t̂ of each positive, section 3.3."""
    rows, logits = [], matched.logits.tolist()
    for p, where in enumerate(matched.positive.tolist()):
        image, anchor = divmod(where, matched.labels.shape[1])
        label = int(matched.labels[image, anchor])
        box, target = matched.boxes[p].double().tolist(), matched.target_boxes[p].double().tolist()
        overlap = iou(box, target)
        t = sigmoid(logits[image][anchor][label]) ** alpha * overlap**beta
        rows.append((t, overlap, (image, label, *target)))
    found = []
    for t, _, key in rows:
        own = [row for row in rows if row[2] == key]
        found.append(t / max(row[0] for row in own) * max(row[1] for row in own))
    return found


def shared_objects(matched: Matched) -> Matched:
    """The same, but all positives of an image that have the same class have the same object."""
    image, label = matched.positive // 7, matched.labels.flatten()[matched.positive]
    first = ((image[:, None] == image) & (label[:, None] == label)).int().argmax(1)
    boxes = matched.target_boxes[first]
    return matched._replace(target_boxes=boxes, anchor_boxes=boxes, boxes=boxes + matched.deltas * 5)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 6.0), (0.5, 2.0)])
def test_targets_are_the_literal_ones(make_matched, seed: int, alpha: float, beta: float) -> None:
    matched = shared_objects(make_matched(10, seed=seed))
    found = alignment_targets(matched, alpha, beta)
    assert found.tolist() == pytest.approx(reference_targets(matched, alpha, beta), rel=1e-4)
    assert len(matched.target_boxes.unique(dim=0)) <= 6  # objects have several positives


def test_the_losses_are_the_papers(make_matched) -> None:
    """Eqs. 5 and 6, over the sum of t̂."""
    matched = shared_objects(make_matched(8))
    matched = matched._replace(box_weights=torch.ones(8))
    target = reference_targets(matched, 1.0, 6.0)
    losses = TaskAlignedCriterion(Focal(None), IoULoss("giou"), localization_weight=2.0)(matched)
    at = dict(zip(matched.positive.tolist(), target))
    total = 0.0
    for where, row in enumerate(matched.logits.flatten(0, 1).tolist()):
        for c, logit in enumerate(row):
            s = sigmoid(logit)
            own = where in at and c == int(matched.labels.flatten()[where])
            t = at[where] if own else 0.0
            total -= abs(t - s) ** 2 * (t * math.log(s) + (1 - t) * math.log(1 - s))
    count = max(1.0, sum(target))
    giou = iou_loss(matched.boxes, matched.target_boxes, "giou").tolist()
    assert losses["classification"].item() == pytest.approx(total / count, rel=1e-4)
    expected = 2 * sum(t * loss for t, loss in zip(target, giou)) / count
    assert losses["localization"].item() == pytest.approx(expected, rel=1e-4)


def test_without_exponents_perfect_boxes_leave_the_plain_criterion(make_matched) -> None:
    matched = make_matched(5, quality=True)
    matched = matched._replace(boxes=matched.target_boxes.clone())
    parts = (Focal(None), IoULoss("iou"), PredictedIoU())
    found, plain = TaskAlignedCriterion(*parts, alpha=0.0, beta=0.0)(matched), Criterion(*parts)(matched)
    for name, value in plain.items():
        torch.testing.assert_close(found[name], value)


def test_soft_pseudo_labels_are_multiplied(make_matched) -> None:
    """Their rows of probabilities by t̂; targets of anchors without an object stay."""
    matched = make_matched(3)
    soft = torch.zeros(2, 7, 3)
    soft.view(-1, 3)[matched.positive] = torch.tensor([0.5, 0.25, 0.125])
    other = next(index for index in range(14) if index not in matched.positive)
    soft.view(-1, 3)[other] = 0.3
    seen = []
    TaskAlignedCriterion(lambda m: seen.append(m) or m.logits.sum(), IoULoss())(matched._replace(class_targets=soft))
    rows, target = seen[0].class_targets.flatten(0, 1), alignment_targets(matched, 1.0, 6.0)
    torch.testing.assert_close(rows[matched.positive], target[:, None] * torch.tensor([0.5, 0.25, 0.125]))
    assert rows[other].tolist() == pytest.approx([0.3] * 3)
    assert soft.view(-1, 3)[matched.positive].tolist() == [[0.5, 0.25, 0.125]] * 3


def test_targets_are_constants_and_gradients_reach_every_output(make_matched) -> None:
    matched = make_matched(4)
    assert not alignment_targets(matched, 1.0, 6.0).requires_grad
    torch.stack(list(TaskAlignedCriterion(Focal(None), IoULoss())(matched).values())).sum().backward()
    assert matched.logits.grad is not None
    assert (matched.logits.grad != 0).all()


def test_no_positives(make_matched) -> None:
    matched = make_matched(0)
    losses = TaskAlignedCriterion(Focal(None), IoULoss())(matched)
    torch.stack(list(losses.values())).sum().backward()
    assert losses["localization"].item() == 0
    assert losses["classification"].item() > 0
    assert (matched.logits.grad != 0).all()


def test_boxes_that_all_miss_have_no_target(make_matched) -> None:
    matched = make_matched(2)
    matched = matched._replace(boxes=matched.boxes + 1000)
    assert alignment_targets(matched, 1.0, 6.0).tolist() == [0, 0]
    assert all(loss.isfinite() for loss in TaskAlignedCriterion(Focal(None), IoULoss())(matched).values())


@pytest.mark.parametrize("arguments", [{"alpha": -1.0}, {"beta": -1.0}, {"quality_weight": -1.0}])
def test_impossible_arguments_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="Expected"):
        TaskAlignedCriterion(Focal(), IoULoss(), **arguments)  # type: ignore[arg-type]
