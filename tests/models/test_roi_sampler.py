"""Which regions a second stage learns from."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from detlab.assigners.max_iou import MaxIoU
from detlab.models.roi_sampler import RoIs, RoISampler, draws_of
from detlab.structures import Targets

CLASSES = 3
ASSIGNER = MaxIoU(0.5, 0.5, low_quality=False)


def boxes_of(count: int, seed: int) -> Tensor:
    corner = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed)) * 60
    return torch.cat(
        [corner, corner + 10 + 30 * torch.rand(count, 2, generator=torch.Generator().manual_seed(-seed))], 1
    )


def targets_of(count: int, seed: int, **more: Tensor) -> Targets:
    return Targets.of(boxes_of(count, seed), torch.arange(count) % CLASSES, CLASSES, **more)


def everything(proposals: list[Tensor], targets: list[Targets]) -> RoIs:
    return RoISampler(ASSIGNER, number=10_000)(proposals, targets)


def test_targets_of_regions_are_those_of_a_loop() -> None:
    proposals = [boxes_of(60, 1), boxes_of(0, 2), boxes_of(40, 3)]
    targets = [targets_of(4, 4), targets_of(2, 5), targets_of(0, 6)]
    targets[0].weights[:] = torch.tensor([0.1, 0.2, 0.3, 0.4])
    rois = everything(proposals, targets)
    assert [len(each) for each in rois.boxes] == [64, 2, 40]
    number = row = 0
    for boxes, t in zip(rois.boxes, targets, strict=True):
        for box in boxes:
            iou = box_iou(box[None], t.boxes)[0].tolist()
            best = max(range(len(t)), key=lambda g: iou[g]) if len(t) else -1
            label = int(t.labels[best]) if len(t) and iou[best] >= 0.5 else -1
            assert rois.labels[row] == label
            if label >= 0:
                assert rois.positive[number] == row
                assert torch.equal(rois.target_boxes[number], t.boxes[best])
                assert rois.weights[number] == rois.box_weights[number] == t.weights[best]
                assert rois.class_targets[number].tolist() == [float(c == label) for c in range(CLASSES)]
                number += 1
            row += 1
    assert number == len(rois.positive) == len(rois.weights) > 6


def test_a_share_at_most_is_on_objects() -> None:
    target = targets_of(2, 1)
    proposals = torch.cat([target.boxes + 0.5 * k for k in range(-5, 6)] + [boxes_of(50, 9) + 100])
    rois = RoISampler(ASSIGNER, number=16, positive=0.25)([proposals, proposals], [target, target])
    for labels in rois.labels.split([16, 16]):
        assert int((labels >= 0).sum()) == 4
    few = RoISampler(ASSIGNER, number=16)([proposals[-50:]], [target])
    assert (len(few.labels), len(few.positive)) == (16, 2)  # the objects' own boxes


def test_ignored_objects_are_neither_positive_nor_negative() -> None:
    target = targets_of(2, 1, ignore=torch.tensor([True, False]))
    inside = target.boxes[:1] + torch.tensor([[1.0, 1, -1, -1]])
    far = torch.tensor([[200.0, 200, 220, 220]])
    rois = everything([torch.cat([target.boxes[:1], inside, far])], [target])
    assert torch.equal(rois.boxes[0], torch.cat([far, target.boxes[1:]]))
    assert rois.labels.tolist() == [-1, 1]


def test_where_nobody_looked_for_anything_there_is_no_background() -> None:
    nothing = torch.zeros(CLASSES, dtype=torch.bool)
    rois = everything([boxes_of(9, 1) + 200], [targets_of(2, 2, annotated=nothing)])
    assert rois.labels.tolist() == [0, 1]
    partly = torch.tensor([True, False, False])
    rois = everything([boxes_of(9, 1) + 200], [targets_of(2, 2, annotated=partly)])
    assert rois.labels.tolist() == [-1] * 9 + [0, 1]
    assert torch.equal(rois.annotated, partly.expand(11, -1))


def test_soft_classes_and_weights_of_boxes() -> None:
    probs = torch.tensor([[0.1, 0.7, 0.0], [0.0, 0.0, 0.9]])
    target = targets_of(2, 2, probs=probs)
    target.box_weights = torch.tensor([0.0, 1.0])
    rois = everything([torch.zeros(0, 4)], [target])
    torch.testing.assert_close(rois.class_targets, probs)
    assert rois.box_weights.tolist() == [0, 1]
    assert rois.weights.tolist() == [1, 1]


def test_draws_depend_on_seed_and_iteration_alone() -> None:
    def draw(iteration: int) -> float:
        with draws_of(iteration, torch.device("cpu")):
            return float(torch.rand(()))

    torch.manual_seed(3)
    expected = torch.rand(2).tolist()
    torch.manual_seed(3)
    first = float(torch.rand(()))
    drawn = [draw(7), draw(8), draw(7)]
    assert [first, float(torch.rand(()))] == expected  # as if nothing had been drawn
    assert drawn[0] == drawn[2] != drawn[1]
    torch.manual_seed(4)
    assert draw(7) != drawn[0]


@pytest.mark.parametrize("count", [0, 3])
def test_no_proposals(count) -> None:
    rois = everything([torch.zeros(0, 4)] * 2, [targets_of(count, 1), targets_of(0, 2)])
    assert len(rois.labels) == len(rois.positive) == count
    assert rois.class_targets.shape == (count, CLASSES)
