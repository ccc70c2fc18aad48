from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from detlab.models.necks.fpn import FPN

CHANNELS = {2: 8, 3: 16, 4: 24, 5: 32}


def some_maps(levels: tuple[int, ...], size: tuple[int, int] = (96, 160)) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, CHANNELS[n], -(-size[0] // 2**n), -(-size[1] // 2**n)) for n in levels]


def a_pyramid(in_levels: tuple[int, ...], **arguments: Any) -> FPN:
    return FPN([CHANNELS[n] for n in in_levels], in_levels, **arguments)


@pytest.mark.parametrize("size", [(96, 160), (97, 131), (40, 33)])
@pytest.mark.parametrize("norm", [None, "gn"])
@pytest.mark.parametrize(
    ("in_levels", "levels"),
    [
        ((3, 4, 5), (3, 4, 5, 6, 7)),
        ((3, 4, 5), (3, 4, 5)),
        ((2, 3, 4, 5), (2, 3, 4, 5)),
        ((2, 3, 4, 5), (3, 4, 5, 6)),
        ((3, 4, 5), (3, 4)),
    ],
)
def test_shapes(in_levels: tuple[int, ...], levels: tuple[int, ...], norm: Any, size: tuple[int, int]) -> None:
    fpn = a_pyramid(in_levels, out_channels=16, levels=levels, norm=norm)
    outputs = fpn(some_maps(in_levels, size))
    for x, level in zip(outputs, levels, strict=True):
        assert x.shape == (2, 16, -(-size[0] // 2**level), -(-size[1] // 2**level))


@pytest.mark.parametrize("extra", ["c5", "p5"])
def test_equals_torchvisions_pyramid(extra: Any) -> None:
    fpn = a_pyramid((3, 4, 5), out_channels=32, extra=extra)
    other = FeaturePyramidNetwork([16, 24, 32], 32, LastLevelP6P7(32, 32))
    assert other.extra_blocks is not None
    other.extra_blocks.use_P5 = extra == "p5"
    order = [f"{part}.{i}.0" for part in ("inner_blocks", "layer_blocks") for i in range(3)]
    order += ["extra_blocks.p6", "extra_blocks.p7"]
    names = [f"{name}.{kind}" for name in order for kind in ("weight", "bias")]
    other.load_state_dict(dict(zip(names, fpn.state_dict().values(), strict=True)))
    maps = some_maps((3, 4, 5), (97, 131))
    expected = other({str(i): x for i, x in enumerate(maps)}).values()
    for got, wanted in zip(fpn(maps), expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm", [None, "gn"])
def test_gradients_reach_everything(norm: Any) -> None:
    fpn = a_pyramid((3, 4, 5), out_channels=16, norm=norm)
    torch.stack([x.square().mean() for x in fpn(some_maps((3, 4, 5)))]).sum().backward()
    for name, parameter in fpn.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"levels": (3, 5)}, "consecutive pyramid levels"),
        ({"levels": ()}, "consecutive pyramid levels"),
        ({"levels": (2, 3)}, r"starting at one of the backbone's \(3, 4, 5\), got \(2, 3\)"),
        ({"levels": (6, 7)}, "starting at one of the backbone's"),
        ({"out_channels": 20, "norm": "gn"}, "divisible by 8 for group norm, got 20"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        a_pyramid((3, 4, 5), **arguments)
    with pytest.raises(ValueError, match="as many in_channels"):
        FPN([8], (3, 4))
