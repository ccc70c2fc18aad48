"""The IoU family against scalar geometry in plain floats and against torchvision."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from torch import Tensor
from torchvision.ops import complete_box_iou_loss, distance_box_iou_loss, generalized_box_iou_loss

from detlab.losses.iou import IoUKind, IoULoss, iou_loss

KINDS = get_args(IoUKind)


def literal(a: list[float], b: list[float], kind: str) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    both = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    hull_width, hull_height = max(a[2], b[2]) - min(a[0], b[0]), max(a[3], b[3]) - min(a[1], b[1])
    iou = both / union
    if kind == "iou":
        return 1 - iou
    if kind == "giou":
        hull = hull_width * hull_height
        return 1 - (iou - (hull - union) / hull)
    distance = math.dist([(a[0] + a[2]) / 2, (a[1] + a[3]) / 2], [(b[0] + b[2]) / 2, (b[1] + b[3]) / 2])
    diou = iou - (distance / math.hypot(hull_width, hull_height)) ** 2
    if kind == "diou":
        return 1 - diou
    shape = math.atan((b[2] - b[0]) / (b[3] - b[1])) - math.atan((a[2] - a[0]) / (a[3] - a[1]))
    v = 4 / math.pi**2 * shape**2
    return 1 - diou + (v / (1 - iou + v) * v if v else 0.0)


def random_pairs(count: int = 60) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(2, count, 2, generator=generator, dtype=torch.float64) * 20
    extent = torch.rand(2, count, 2, generator=generator, dtype=torch.float64) * 15 + 0.5
    boxes = torch.cat([corner, corner + extent], -1)
    return boxes[0].requires_grad_(), boxes[1]


@pytest.mark.parametrize("kind", KINDS)
def test_equals_scalar_geometry(kind: IoUKind) -> None:
    boxes, targets = random_pairs()
    expected = [literal(a, b, kind) for a, b in zip(boxes.tolist(), targets.tolist(), strict=True)]
    assert iou_loss(boxes, targets, kind).tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("kind", "other"),
    [("giou", generalized_box_iou_loss), ("diou", distance_box_iou_loss), ("ciou", complete_box_iou_loss)],
)
def test_value_and_gradient_equal_torchvision(kind: IoUKind, other) -> None:
    boxes, targets = random_pairs()
    found, expected = iou_loss(boxes, targets, kind).sum(), other(boxes, targets, reduction="sum")
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, boxes)[0], torch.autograd.grad(expected, boxes)[0], rtol=1e-4, atol=1e-7
    )


@pytest.mark.parametrize("kind", ["iou", "giou", "diou"])  # ciou holds its trade-off constant
def test_gradient_is_the_numerical_one(kind: IoUKind) -> None:
    boxes, targets = random_pairs(12)
    assert torch.autograd.gradcheck(lambda x: iou_loss(x, targets, kind), (boxes,))


@pytest.mark.parametrize("kind", KINDS)
def test_special_cases(kind: IoUKind) -> None:
    box = torch.tensor([2.0, 2.0, 6.0, 4.0])
    assert iou_loss(box, box, kind).item() == pytest.approx(0.0, abs=1e-6)
    far = iou_loss(torch.tensor([0.0, 0, 1, 1]), torch.tensor([1e5, 1e5, 1e5 + 1, 1e5 + 1]), kind)
    assert far.item() == pytest.approx(1.0 if kind == "iou" else 2.0, rel=1e-3)
    scaled = iou_loss(torch.tensor([0.0, 0, 4, 4]) * 100, torch.tensor([1.0, 0, 5, 3]) * 100, kind)
    torch.testing.assert_close(scaled, iou_loss(torch.tensor([0.0, 0, 4, 4]), torch.tensor([1.0, 0, 5, 3]), kind))


@pytest.mark.parametrize("kind", KINDS)
def test_boxes_without_area_and_huge_boxes_stay_finite(kind: IoUKind) -> None:
    odd = torch.tensor(
        [[3.0, 3, 3, 3], [3, 3, 3, 9], [3, 3, 9, 3], [0, 0, 1e6, 1e6], [5, 5, 5 + 1e-5, 5 + 1e-5], [1, 1, 4, 4]]
    )
    boxes = odd[:, None].expand(-1, len(odd), -1).clone().requires_grad_()
    loss = iou_loss(boxes, odd[None], kind)  # every pair, itself included
    loss.sum().backward()
    assert loss.isfinite().all()
    assert boxes.grad is not None
    assert boxes.grad.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_boxes_are_compared_in_float32(kind: IoUKind) -> None:
    boxes, targets = random_pairs()
    found = iou_loss(boxes.bfloat16(), targets.bfloat16(), kind)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, iou_loss(boxes.bfloat16().double(), targets.bfloat16().double(), kind).float())


def test_broadcasts_to_every_pair() -> None:
    boxes, targets = random_pairs(5)
    pairs = iou_loss(boxes[:, None], targets[None], "giou")
    assert pairs.shape == (5, 5)
    torch.testing.assert_close(pairs.diagonal(), iou_loss(boxes, targets, "giou"))


@pytest.mark.parametrize("kind", KINDS)
def test_module_and_empty(make_matched, kind: IoUKind) -> None:
    matched = make_matched(4)
    torch.testing.assert_close(
        IoULoss(kind)(matched), iou_loss(matched.boxes, matched.target_boxes, kind), rtol=0, atol=0
    )
    loss = IoULoss(kind)(make_matched(0))
    assert loss.shape == (0,)
    loss.sum().backward()


def test_refuses_an_unknown_kind() -> None:
    with pytest.raises(ValueError, match="kind"):
        IoULoss("eiou")  # type: ignore[arg-type]
