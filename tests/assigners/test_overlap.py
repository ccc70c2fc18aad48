from __future__ import annotations

import pytest
import torch
from torchvision.ops import box_iou

from detlab.assigners import overlap
from detlab.structures import Targets


def targets_of(boxes: list[list[float]], ignore: list[bool] | None = None) -> Targets:
    flags = None if ignore is None else torch.tensor(ignore)
    return Targets.of(torch.tensor(boxes), torch.zeros(len(boxes)), 1, ignore=flags)


def test_padding_is_neither_matchable_nor_crowd() -> None:
    padded = overlap.pad_targets([targets_of([[0, 0, 4, 4], [1, 1, 2, 2]], [False, True]), targets_of([])])
    assert padded.boxes.shape == (2, 2, 4)
    assert padded.matchable.tolist() == [[True, False], [False, False]]
    assert padded.crowd.tolist() == [[False, True], [False, False]]


def test_padding_of_images_without_boxes_keeps_one_empty_slot() -> None:
    padded = overlap.pad_targets([targets_of([]), targets_of([])])
    assert padded.boxes.shape == (2, 1, 4)
    assert not padded.matchable.any()
    assert not padded.crowd.any()


def test_pairwise_iou_equals_torchvision() -> None:
    torch.manual_seed(0)
    corner, extent = torch.rand(2, 5, 2) * 50, torch.rand(2, 5, 2) * 40
    boxes = torch.cat([corner, corner + extent], -1)
    anchors = boxes.flatten(0, 1) + torch.randn(10, 4)
    anchors = torch.cat([anchors[:, :2], anchors[:, :2] + 10], 1)
    expected = torch.stack([box_iou(b, anchors) for b in boxes])
    torch.testing.assert_close(overlap.pairwise_iou(boxes, anchors), expected)


@pytest.mark.parametrize("size", [1e-6, 1e6])
def test_iou_of_a_box_with_itself_is_one_at_any_size(size: float) -> None:
    box = torch.tensor([[0.0, 0.0, size, size]])
    assert overlap.pairwise_iou(box[None], box).item() == pytest.approx(1.0)


def test_boxes_without_area_have_iou_zero_not_nan() -> None:
    point = torch.tensor([[3.0, 3.0, 3.0, 3.0]])
    inverted = torch.tensor([[5.0, 5.0, 1.0, 1.0]])
    both = torch.cat([point, inverted])
    assert overlap.pairwise_iou(both[None], both).tolist() == [[[0.0, 0.0], [0.0, 0.0]]]


def test_crowd_overlap_is_measured_in_the_anchors_area() -> None:
    crowd = targets_of([[0, 0, 100, 100], [200, 200, 201, 201]], [True, False])
    anchors = torch.tensor([[0.0, 0, 10, 10], [95, 0, 105, 10], [96, 0, 106, 10], [200, 200, 201, 201]])
    found = overlap.overlaps_crowd(overlap.pad_targets([crowd]), anchors, 0.5)
    assert found.tolist() == [[True, True, False, False]]


def test_anchor_without_area_is_never_in_a_crowd() -> None:
    crowd = overlap.pad_targets([targets_of([[0, 0, 10, 10]], [True])])
    assert not overlap.overlaps_crowd(crowd, torch.tensor([[5.0, 5, 5, 5]]), 0.5).any()


def test_chunks_cover_every_image_once(monkeypatch: pytest.MonkeyPatch) -> None:
    padded = overlap.pad_targets([targets_of([[0, 0, 1, 1]] * 3)] * 5)
    monkeypatch.setattr(overlap, "PAIRS_AT_ONCE", 2 * 3 * 10)
    assert list(overlap.image_chunks(padded, 10)) == [slice(0, 2), slice(2, 4), slice(4, 5)]
    monkeypatch.setattr(overlap, "PAIRS_AT_ONCE", 1)
    assert len(list(overlap.image_chunks(padded, 10))) == 5
