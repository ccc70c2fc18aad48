from __future__ import annotations

import math

import pytest
import torch

from detlab.ops.distance_coder import DistanceCoder


def points_inside(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cells of side 8, and boxes that hold their centers."""
    generator = torch.Generator().manual_seed(0)
    center = torch.rand(count, 2, generator=generator) * 100
    distances = torch.rand(count, 4, generator=generator) * 60 + 0.5
    return torch.cat([center - 4, center + 4], 1), torch.cat([center - distances[:, :2], center + distances[:, 2:]], 1)


def test_encoding_by_the_formula() -> None:
    found = DistanceCoder().encode(torch.tensor([2.0, 3, 30, 13]), torch.tensor([4.0, 2, 12, 10]))  # center (8, 6)
    assert found.tolist() == pytest.approx([math.log(d / 8) for d in (6, 3, 22, 7)])


def test_decoding_undoes_encoding() -> None:
    cells, boxes = points_inside(40)
    coder = DistanceCoder()
    torch.testing.assert_close(coder.decode(coder.encode(boxes, cells), cells), boxes, rtol=1e-4, atol=1e-4)


def test_zero_is_a_stride_to_each_side_in_every_image() -> None:
    cells, _ = points_inside(5)
    center = (cells[:, :2] + cells[:, 2:]) / 2
    found = DistanceCoder().decode(torch.zeros(3, 5, 4), cells)
    torch.testing.assert_close(found, torch.cat([center - 8, center + 8], 1).expand(3, -1, -1))


def test_what_has_no_logarithm_and_wild_outputs_are_finite() -> None:
    coder, cell = DistanceCoder(), torch.tensor([[0.0, 0, 8, 8]])
    for box in ([5.0, 5, 9, 9], [4, 4, 4, 4], [6, 6, 2, 2]):
        assert coder.encode(torch.tensor([box]), cell).isfinite().all()
    decoded = coder.decode(torch.tensor([[1e4, -1e4, 1e4, 0]]), cell)
    assert decoded[0].tolist() == pytest.approx([4 - 500, 4, 4 + 500, 12], rel=1e-4)  # 8 · 1000 / 16


def test_half_precision_is_decoded_in_float32_and_no_boxes_are_fine() -> None:
    coder = DistanceCoder()
    cells, boxes = points_inside(10)
    assert coder.decode(coder.encode(boxes, cells).bfloat16(), cells).dtype == torch.float32
    assert coder.encode(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0, 4)
    assert coder.decode(torch.zeros(2, 0, 4), torch.zeros(0, 4)).shape == (2, 0, 4)


def test_gradients_enlarge_the_box() -> None:
    cells, _ = points_inside(3)
    deltas = torch.zeros(3, 4, requires_grad=True)
    boxes = DistanceCoder().decode(deltas, cells)
    (boxes[:, 2:] - boxes[:, :2]).sum().backward()
    assert deltas.grad is not None
    torch.testing.assert_close(deltas.grad, torch.full((3, 4), 8.0))
