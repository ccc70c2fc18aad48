"""Weights of the background by overlap, against a loop."""

from __future__ import annotations

import math

import pytest
import torch
from torchvision.ops import box_iou

from detlab.losses.classification import Focal
from detlab.ops.matching import gather
from detlab.pseudo_labels.none import AllBackground
from detlab.pseudo_labels.soft_sampling import SoftSampling, highest_iou
from detlab.structures import Anchors, Assignment, Predictions, Targets

CLASSES = 3


def scene() -> tuple[Anchors, list[Targets], Predictions, Assignment]:
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(20, 2, generator=generator) * 40
    boxes = torch.cat([corner, corner + 5 + torch.rand(20, 2, generator=generator) * 20], 1)
    annotated = torch.tensor([True, False, True])
    one = Targets.of(boxes[:3] + 1, torch.tensor([0, 2, 0]), CLASSES, annotated=annotated)
    one.ignore[2] = True
    none = Targets.of(torch.zeros(0, 4), torch.zeros(0), CLASSES, annotated=~annotated)
    predictions = Predictions(
        torch.randn(2, 20, CLASSES, generator=generator).requires_grad_(),
        boxes.repeat(2, 1, 1),
        torch.zeros(2, 20, 4),
        objectness=torch.randn(2, 20, generator=generator),
    )
    index = torch.full((2, 20), -1)
    index[0, :2] = torch.tensor([0, 1])
    index[0, 5] = -2
    return Anchors(boxes, torch.zeros(20, dtype=torch.int64), (20,)), [one, none], predictions, Assignment(index)


@pytest.mark.parametrize("mode", ["soft", "hard"])
def test_equals_the_loop(mode: str) -> None:
    anchors, targets, predictions, assignment = scene()
    treatment = SoftSampling(mode=mode)  # type: ignore[arg-type]
    known = treatment.transform_targets(targets)
    matched = treatment.apply_to_matches(gather(anchors, known, assignment, predictions), anchors, known, None)
    for image, target in enumerate(targets):
        for anchor, box in enumerate(anchors.boxes):
            kept = target.boxes[~target.ignore]
            overlap = float(box_iou(box[None], kept).max()) if len(kept) else 0.0
            if mode == "soft":
                expected = 0.25 + 0.75 * math.exp(-50 * math.exp(-20 * overlap))
            else:
                expected = float(overlap >= 0.1)
            match = int(assignment.gt_index[image, anchor])
            expected = 1.0 if match >= 0 else 0.0 if match == -2 else expected
            assert matched.object_weights is not None
            assert float(matched.object_weights[image, anchor]) == pytest.approx(expected, rel=1e-4)
            weights = matched.class_weights[image, anchor].expand(CLASSES)
            assert weights.tolist() == pytest.approx([expected] * CLASSES, rel=1e-4)


def test_background_without_overlap_gets_no_gradient_in_hard_mode() -> None:
    anchors, targets, predictions, assignment = scene()
    treatment = SoftSampling(mode="hard")
    known = treatment.transform_targets(targets)
    Focal()(
        treatment.apply_to_matches(gather(anchors, known, assignment, predictions), anchors, known, None)
    ).backward()
    gradient = predictions.logits.grad
    assert gradient is not None
    far = (highest_iou(anchors, known) < 0.1) & (assignment.gt_index < 0)
    near = (highest_iou(anchors, known) >= 0.1) & (assignment.gt_index == -1)
    assert far.any()
    assert near.any()
    assert (gradient[far] == 0).all()
    assert (gradient[near] != 0).all()


def test_all_background_forgets_who_looked_for_what() -> None:
    _, targets, _, _ = scene()
    known = AllBackground().transform_targets(targets)
    assert all(t.annotated.all() for t in known)
    assert not targets[0].annotated.all()  # the originals stay


@pytest.mark.parametrize("bad", [{"mode": "mild"}, {"floor": 1.5}, {"overlap": -0.1}, {"b": -1.0}, {"c": -1.0}])
def test_bad_values(bad: dict) -> None:
    with pytest.raises(ValueError, match="Expected"):
        SoftSampling(**bad)
