from __future__ import annotations

import pytest
import torch
from torch import nn

from detlab.models.deformable import DeformableConv2d


@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize(("stride", "groups", "bias"), [(1, 1, False), (2, 4, True)])
def test_the_start_equals_the_plain_convolution(modulated: bool, stride: int, groups: int, bias: bool) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(8, 12, 3, stride, 1, groups=groups, bias=bias)
    deformable = DeformableConv2d(plain, modulated)
    x = torch.randn(2, 8, 11, 9)
    torch.testing.assert_close(deformable(x), plain(x), rtol=1e-5, atol=1e-5)
    assert deformable.weight is plain.weight


def test_an_offset_of_one_pixel_shifts_the_input() -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(4, 4, 3, padding=1, bias=False)
    deformable = DeformableConv2d(plain, modulated=False)
    assert deformable.offset.bias is not None
    with torch.no_grad():
        deformable.offset.bias[1::2] = 1.0  # (dy, dx) per tap: one pixel to the right
    x = torch.randn(1, 4, 8, 8)
    torch.testing.assert_close(deformable(x)[..., 1:-2], plain(x)[..., 2:-1], rtol=1e-4, atol=1e-5)


def test_gradients_reach_weight_offsets_and_input() -> None:
    deformable = DeformableConv2d(nn.Conv2d(4, 6, 3, padding=1, bias=False))
    x = torch.randn(2, 4, 6, 6, requires_grad=True)
    deformable(x).square().sum().backward()
    assert x.grad is not None
    for name, parameter in deformable.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_mixed_precision_on_the_cpu() -> None:
    deformable = DeformableConv2d(nn.Conv2d(4, 6, 3, padding=1, bias=False))
    with torch.autocast("cpu", torch.bfloat16):
        out = deformable(torch.randn(1, 4, 6, 6))
    assert out.isfinite().all()
