from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from detlab.models.deformable import DeformableConv2d
from detlab.models.heads.dense import DenseHead


def a_head(**arguments: Any) -> DenseHead:
    defaults: dict[str, Any] = {
        "in_channels": 16, "num_classes": 3, "anchors_per_location": 2, "num_levels": 2, "convs": 2, "channels": 16,
    }  # fmt: skip
    return DenseHead(**(defaults | arguments))


def some_maps(batch: int = 2, channels_last: bool = False) -> list[Tensor]:
    torch.manual_seed(0)
    maps = [torch.randn(batch, 16, 5, 7), torch.randn(batch, 16, 3, 4)]
    return [x.contiguous(memory_format=torch.channels_last) for x in maps] if channels_last else maps


@pytest.mark.parametrize("norm", [None, "gn"])
@pytest.mark.parametrize("quality", ["none", "centerness", "iou"])
@pytest.mark.parametrize("convs", [0, 2])
def test_shapes_and_gradients(norm: Any, quality: Any, convs: int) -> None:
    head = a_head(norm=norm, quality=quality, convs=convs, level_scales=True)
    out = head(some_maps())
    count = (5 * 7 + 3 * 4) * 2
    assert out.logits.shape == (2, count, 3)
    assert out.deltas.shape == (2, count, 4)
    assert (out.quality is None) == (quality == "none")
    outputs = [out.logits, out.deltas]
    if out.quality is not None:
        assert out.quality.shape == (2, count)
        outputs.append(out.quality)
    torch.stack([x.square().sum() for x in outputs]).sum().backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_order_is_level_row_column_anchor() -> None:
    head = a_head(quality="iou")
    maps = some_maps()
    out = head(maps)
    assert out.quality is not None
    assert head.quality is not None
    start = 0
    for x in maps:
        logits, tower = head.logits(head.class_tower(x)), head.box_tower(x)
        deltas, quality = head.deltas(tower), head.quality(tower)
        height, width = x.shape[-2:]
        for row in range(height):
            for column in range(width):
                for k in range(2):
                    index = start + (row * width + column) * 2 + k
                    torch.testing.assert_close(out.logits[:, index], logits[:, 3 * k : 3 * k + 3, row, column])
                    torch.testing.assert_close(out.deltas[:, index], deltas[:, 4 * k : 4 * k + 4, row, column])
                    torch.testing.assert_close(out.quality[:, index], quality[:, k, row, column])
        start += height * width * 2


@pytest.mark.parametrize("norm", [None, "gn"])
@pytest.mark.parametrize("convs", [1, 3])
def test_deformable_towers_start_as_plain_ones_and_learn_offsets(convs: int, norm: Any) -> None:
    torch.manual_seed(1)
    plain = a_head(convs=convs, norm=norm)
    torch.manual_seed(1)
    deformable = a_head(convs=convs, norm=norm, deformable_last=True)
    for tower in (deformable.class_tower, deformable.box_tower):
        kinds = [isinstance(layer, DeformableConv2d) for layer in tower if isinstance(layer, torch.nn.Conv2d)]
        assert kinds == [False] * (convs - 1) + [True]
    maps = [x.requires_grad_() for x in some_maps()]
    got, expected = deformable(maps), plain(some_maps())
    torch.testing.assert_close(got.logits, expected.logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got.deltas, expected.deltas, rtol=1e-4, atol=1e-5)
    (got.logits.square().sum() + got.deltas.square().sum()).backward()
    offsets = {name: p.grad for name, p in deformable.named_parameters() if ".offset." in name}
    assert len(offsets) == 2 * 2  # weight and bias, two towers
    assert all(grad is not None and grad.abs().sum() > 0 for grad in offsets.values())


def test_a_deformable_head_can_be_built_without_memory() -> None:
    with torch.device("meta"):
        head = a_head(norm="gn", deformable_last=True)
    assert all(p.is_meta for p in head.parameters())


@pytest.mark.parametrize("prior", [0.01, 0.3])
def test_every_anchor_starts_near_the_prior(prior: float) -> None:
    probabilities = a_head(prior=prior)(some_maps()).logits.sigmoid().detach()
    assert abs(float(probabilities.mean()) / prior - 1) < 0.05


def test_level_scales_multiply_the_offsets_of_their_level() -> None:
    head = a_head(level_scales=True)
    before = head(some_maps()).deltas
    assert head.level_scales is not None
    with torch.no_grad():
        head.level_scales[1] = 3.0
    after = head(some_maps()).deltas
    torch.testing.assert_close(after[:, :70], before[:, :70])
    torch.testing.assert_close(after[:, 70:], before[:, 70:] * 3)


def test_memory_format_does_not_change_the_outputs() -> None:
    head = a_head(norm="gn", quality="centerness")
    expected = head(some_maps())
    got = head.to(memory_format=torch.channels_last)(some_maps(channels_last=True))
    for a, b in zip(got, expected):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 0}, "Expected positive"),
        ({"convs": -1}, "convs ≥ 0"),
        ({"convs": 0, "deformable_last": True}, "convs of at least 1 for deformable_last, got 0"),
        ({"prior": 1.0}, "prior probability between 0 and 1, got 1.0"),
        ({"channels": 20, "norm": "gn"}, "divisible by 8 for group norm, got 20"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        a_head(**arguments)
