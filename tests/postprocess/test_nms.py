"""Greedy suppression: what stays, exactly."""

from __future__ import annotations

import pytest
import torch

from detlab.postprocess import Candidates, ClassNMS, Postprocess, nms_by_class, nms_by_image
from tests.postprocess.toys import SIZES, anchors, one_image, predictions


def test_nms_keeps_equal_boxes_of_other_classes_and_other_images() -> None:
    box = [0.0, 0, 10, 10]
    found = ClassNMS(0.5)(one_image([box] * 5, [0, 0, 1, 0, 1], [0, 0, 0, 1, 1]))
    assert found.labels.tolist() == [0, 1, 0, 1]
    assert found.images.tolist() == [0, 0, 1, 1]


def test_nms_drops_only_what_exceeds_the_threshold() -> None:
    """IoU of exactly one half stays."""
    boxes = [[0.0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 6]]
    assert ClassNMS(0.5)(one_image(boxes, [0, 0, 0])).boxes.tolist() == boxes[:2]


def test_both_ways_to_split_a_batch_agree() -> None:
    candidates = Postprocess(score_threshold=0.0).candidates(predictions(), anchors(), SIZES)
    by_class = nms_by_class(candidates, 0.4)
    assert 0 < len(by_class) < len(candidates.scores)
    assert torch.equal(by_class, nms_by_image(candidates, 0.4))


@pytest.mark.parametrize("split", [nms_by_class, nms_by_image])
def test_nms_is_exact_with_many_classes(split) -> None:
    """IoU 0.5 + 1e-4 in each of 2,000 classes; shifting them apart in float32 would move the boxes by a quarter of
    a pixel."""
    classes = 2000
    boxes = torch.tensor([[0.0, 0, 8, 8], [0, 0, 8, 4.001]]).repeat(classes, 1)
    boxes += torch.tensor([1024.0, 0, 1024, 0])
    labels = torch.arange(classes).repeat_interleave(2)
    candidates = Candidates(boxes, torch.ones(2 * classes), labels, torch.zeros_like(labels))
    assert candidates.labels[split(candidates, 0.5)].tolist() == list(range(classes))
    assert len(split(candidates, 0.501)) == 2 * classes


def test_refuses_an_overlap_above_one() -> None:
    with pytest.raises(ValueError, match="NMS IoU"):
        ClassNMS(1.5)
