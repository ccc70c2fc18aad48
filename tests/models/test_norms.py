from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from detlab.models.norms import FrozenNormConv2d, fold_frozen_norms, group_norm


def a_trained_norm(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels)
    nn.init.uniform_(norm.weight, -2, 2)
    nn.init.normal_(norm.bias)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.1, 3)
    return norm


@pytest.mark.parametrize(("kernel", "stride", "groups"), [(1, 1, 1), (3, 2, 1), (3, 1, 4)])
def test_folded_norm_equals_torchvisions_frozen_norm_with_gradients(kernel: int, stride: int, groups: int) -> None:
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(8, 16, kernel, stride, kernel // 2, groups=groups, bias=False), a_trained_norm(16)
    frozen = FrozenBatchNorm2d(16)
    frozen.load_state_dict(norm.state_dict())
    x = torch.randn(2, 8, 9, 7, requires_grad=True)
    weight = torch.randn_like(conv(x))
    expected = frozen(conv(x))
    wanted = torch.autograd.grad((expected * weight).sum(), [x, conv.weight])
    actual = FrozenNormConv2d(conv, norm)(x)
    got = torch.autograd.grad((actual * weight).sum(), [x, conv.weight])
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    for a, b in zip(got, wanted):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_folding_trains_the_convolution_only_and_leaves_no_norm() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), a_trained_norm(8), nn.ReLU())
    x = torch.randn(1, 3, 5, 5)
    expected = module.eval()(x)
    fold_frozen_norms(module)
    torch.testing.assert_close(module.train()(x), expected, rtol=1e-5, atol=1e-5)
    assert [name for name, _ in module.named_parameters()] == ["0.conv.weight"]
    assert {name for name, _ in module.named_buffers()} == {"0.scale", "0.shift"}


def test_a_pair_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="without bias"):
        FrozenNormConv2d(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8))
    with pytest.raises(ValueError, match="norm of 8 channels, got 4"):
        FrozenNormConv2d(nn.Conv2d(3, 8, 1, bias=False), nn.BatchNorm2d(4))


def test_groups_hold_eight_channels_and_odd_channels_are_refused() -> None:
    assert [group_norm(c).num_groups for c in (8, 24, 64, 256)] == [1, 3, 8, 32]
    for channels in (0, 4, 12, 100):
        with pytest.raises(ValueError, match=f"divisible by 8 for group norm, got {channels}"):
            group_norm(channels)
