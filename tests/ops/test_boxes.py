from __future__ import annotations

import math

import pytest
import torch
from torchvision.ops import box_iou

from detlab.ops.boxes import BoxCoder, aligned_iou, clip_boxes

CODERS = [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)]


def random_boxes(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 50
    return torch.cat([corner, corner + 1 + torch.rand(count, 2, generator=generator) * 40], 1)


def test_aligned_iou_is_the_diagonal_of_pairwise_iou() -> None:
    a, b = random_boxes(30, 0), random_boxes(30, 1)
    torch.testing.assert_close(aligned_iou(a, b), box_iou(a, b).diagonal())


def test_aligned_iou_broadcasts() -> None:
    a, b = random_boxes(3, 0), random_boxes(5, 1)
    torch.testing.assert_close(aligned_iou(a[:, None], b[None]), box_iou(a, b))


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([0, 0, 4, 4], [0, 0, 4, 4], 1.0),
        ([0, 0, 4, 4], [2, 0, 6, 4], 1 / 3),
        ([0, 0, 4, 4], [4, 0, 8, 4], 0.0),
        ([3, 3, 3, 3], [3, 3, 3, 3], 0.0),
        ([6, 6, 2, 2], [0, 0, 8, 8], 0.0),
    ],
)
def test_aligned_iou_by_hand(a: list[float], b: list[float], expected: float) -> None:
    assert aligned_iou(torch.tensor(a).float(), torch.tensor(b).float()).item() == pytest.approx(expected)


@pytest.mark.parametrize("scale", [1e-5, 1e6])
def test_aligned_iou_of_tiny_and_huge_boxes(scale: float) -> None:
    a, b = torch.tensor([0.0, 0, 4, 4]) * scale, torch.tensor([2.0, 0, 6, 4]) * scale
    assert aligned_iou(a, b).item() == pytest.approx(1 / 3, rel=1e-5)


def test_aligned_iou_of_no_boxes() -> None:
    assert aligned_iou(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0,)


def test_aligned_iou_gradient_is_the_numerical_one() -> None:
    a, b = random_boxes(6, 0).double().requires_grad_(), random_boxes(6, 1).double()
    assert torch.autograd.gradcheck(lambda x: aligned_iou(x, b), (a,))


def test_clip_is_per_image_and_takes_height_and_width() -> None:
    boxes = torch.tensor([[-5.0, -5, 50, 50], [30, 1, 40, 2]]).expand(2, 2, 4)
    clipped = clip_boxes(boxes, torch.tensor([[20, 35], [60, 10]]))
    assert clipped.tolist() == [
        [[0, 0, 35, 20], [30, 1, 35, 2]],
        [[0, 0, 10, 50], [10, 1, 10, 2]],
    ]
    assert clip_boxes(torch.zeros(2, 0, 4), torch.tensor([[1, 1], [1, 1]])).shape == (2, 0, 4)


@pytest.mark.parametrize("weights", CODERS)
def test_decoding_undoes_encoding(weights: tuple[float, float, float, float]) -> None:
    coder, boxes, anchors = BoxCoder(weights), random_boxes(40, 0), random_boxes(40, 1)
    torch.testing.assert_close(coder.decode(coder.encode(boxes, anchors), anchors), boxes, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("weights", CODERS)
def test_encoding_by_the_formula(weights: tuple[float, float, float, float]) -> None:
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = (2.0, 3.0, 12.0, 8.0), (4.0, 1.0, 9.0, 21.0)
    expected = [
        weights[0] * ((bx1 + bx2) - (ax1 + ax2)) / 2 / (ax2 - ax1),
        weights[1] * ((by1 + by2) - (ay1 + ay2)) / 2 / (ay2 - ay1),
        weights[2] * math.log((bx2 - bx1) / (ax2 - ax1)),
        weights[3] * math.log((by2 - by1) / (ay2 - ay1)),
    ]
    found = BoxCoder(weights).encode(torch.tensor([bx1, by1, bx2, by2]), torch.tensor([ax1, ay1, ax2, ay2]))
    assert found.tolist() == pytest.approx(expected)


def test_zero_offsets_decode_to_the_anchors_of_every_image() -> None:
    anchors = random_boxes(7, 0)
    decoded = BoxCoder().decode(torch.zeros(3, 7, 4), anchors)
    torch.testing.assert_close(decoded, anchors.expand(3, -1, -1))


def test_wild_offsets_decode_to_finite_boxes() -> None:
    deltas = torch.tensor([[0.0, 0, 1e4, 1e4], [1e4, -1e4, -1e4, -1e4]])
    decoded = BoxCoder().decode(deltas, torch.tensor([[0.0, 0, 16, 16]]).expand(2, 4))
    assert decoded.isfinite().all()
    assert (decoded[0, 2] - decoded[0, 0]).item() == pytest.approx(1000, rel=1e-4)  # 16 · 1000 / 16


def test_box_without_area_encodes_to_finite_offsets() -> None:
    anchors = random_boxes(2, 0)
    points = torch.tensor([[5.0, 5, 5, 5], [6, 6, 2, 2]])
    assert BoxCoder().encode(points, anchors).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_offsets_decode_in_float32(dtype: torch.dtype) -> None:
    coder, anchors = BoxCoder((10, 10, 5, 5)), random_boxes(20, 1)
    deltas = coder.encode(random_boxes(20, 0), anchors).to(dtype)
    found = coder.decode(deltas, anchors)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, coder.decode(deltas.float(), anchors))


def test_coder_takes_no_boxes_and_passes_gradients() -> None:
    coder = BoxCoder()
    assert coder.encode(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0, 4)
    assert coder.decode(torch.zeros(2, 0, 4), torch.zeros(0, 4)).shape == (2, 0, 4)
    anchors = random_boxes(4, 1).double()
    deltas = (torch.randn(4, 4) * 0.2).requires_grad_()
    coder.decode(deltas, anchors.float()).sum().backward()
    assert deltas.grad is not None
    assert (deltas.grad[:, :2] > 0).all()


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (1.0, 1.0, 0.0, 1.0), (1.0, 1.0, 1.0, -1.0)])
def test_coder_refuses_impossible_weights(weights: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="four positive"):
        BoxCoder(weights)  # type: ignore[arg-type]
