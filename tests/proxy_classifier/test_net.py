"""The net: its twenty layers, any size of crop, and the pyramid against slices."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from detlab.proxy_classifier.net import ResNet20
from detlab.proxy_classifier.pyramid import SpatialPyramidPooling


def test_resnet_20_has_twenty_layers_and_the_paper_s_weights() -> None:
    net = ResNet20(10, levels=(1,))
    layers = [m for n, m in net.named_modules() if isinstance(m, nn.Conv2d | nn.Linear) and "shortcut" not in n]
    assert len(layers) == 20
    shortcuts = sum(p.numel() for n, p in net.named_parameters() if "shortcut" in n)
    assert sum(p.numel() for p in net.parameters()) - shortcuts == pytest.approx(0.27e6, rel=0.01)  # their Table 6


@pytest.mark.parametrize("size", [(8, 8), (8, 64), (33, 17), (128, 96)])
def test_crops_of_any_size(size: tuple[int, int]) -> None:
    net = ResNet20(5, width=0.5)
    logits = net(torch.randn(3, 3, *size))
    assert logits.shape == (3, 5)
    logits.sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_too_small_crops_and_too_narrow_nets_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 8 pixels"):
        ResNet20(5, width=0.25)(torch.zeros(1, 3, 8, 7))
    with pytest.raises(ValueError, match="width"):
        ResNet20(5, width=0.01)


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_the_pyramid_equals_slices(pooling: str) -> None:
    maps = torch.randn(2, 3, 8, 12)
    pyramid = SpatialPyramidPooling((1, 2, 4), pooling)  # type: ignore[arg-type]
    found = pyramid(maps).view(2, -1)
    assert found.shape == (2, 3 * pyramid.cells)
    expected = []
    for image in maps:
        row = []
        for level in (1, 2, 4):
            h, w = 8 // level, 12 // level
            for channel in image:
                for y in range(level):
                    for x in range(level):
                        cell = channel[y * h : (y + 1) * h, x * w : (x + 1) * w]
                        row.append(float(cell.max() if pooling == "max" else cell.mean()))
        expected.append(row)
    torch.testing.assert_close(found, torch.tensor(expected))


def test_bad_pyramids_are_refused() -> None:
    with pytest.raises(ValueError, match="levels"):
        SpatialPyramidPooling(())
    with pytest.raises(ValueError, match="levels"):
        SpatialPyramidPooling((0, 2))
    with pytest.raises(ValueError, match="pooling"):
        SpatialPyramidPooling((1,), "mean")  # type: ignore[arg-type]
