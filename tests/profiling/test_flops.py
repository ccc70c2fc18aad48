"""FLOPs by hand: a multiply-add counts as two, and a backward pass as the gradients it computes."""

from __future__ import annotations

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn
from torchvision.ops import deform_conv2d

from detlab.config.instantiate import build_detector
from detlab.config.launch import CONFIG_DIR
from detlab.models.deformable import DeformableConv2d
from detlab.profiling.flops import count_flops
from detlab.profiling.gpu_hours import REFERENCE_FLOPS_PER_PIXEL


def counted(work) -> int:
    with count_flops() as counter:
        work()
    return counter.get_total_flops()


@pytest.mark.parametrize("groups", [1, 4])
def test_a_convolution_by_hand(groups):
    conv = nn.Conv2d(8, 12, 3, stride=2, padding=1, groups=groups)
    image = torch.randn(2, 8, 10, 14)  # → 5 × 7 positions
    forward = 2 * 2 * (5 * 7) * 12 * (8 // groups) * 3 * 3
    assert counted(lambda: conv(image)) == forward
    assert counted(lambda: conv(image).sum().backward()) == 2 * forward  # pictures need no gradient
    image.requires_grad_()
    assert counted(lambda: conv(image).sum().backward()) == 3 * forward
    conv.weight.requires_grad_(False)
    assert counted(lambda: conv(image).sum().backward()) == 2 * forward
    with torch.no_grad():
        assert counted(lambda: conv(image)) == forward


def test_a_transposed_convolution_by_hand():
    conv = nn.ConvTranspose2d(8, 12, 2, stride=2)
    image = torch.randn(2, 8, 5, 7, requires_grad=True)
    forward = 2 * 2 * (5 * 7) * 8 * 12 * 2 * 2
    assert counted(lambda: conv(image).sum().backward()) == 3 * forward


def test_a_deformable_convolution_by_hand():
    image, weight = torch.randn(2, 8, 6, 6, requires_grad=True), torch.randn(12, 8, 3, 3, requires_grad=True)
    offset = torch.zeros(2, 18, 4, 4, requires_grad=True)
    forward = 2 * 2 * (4 * 4) * 12 * 8 * 3 * 3
    assert counted(lambda: deform_conv2d(image, offset, weight)) == forward
    assert counted(lambda: deform_conv2d(image, offset, weight).sum().backward()) == 3 * forward


def test_a_deformable_layer_costs_its_offsets_too():
    plain = nn.Conv2d(8, 12, 3, padding=1, bias=False)
    layer = DeformableConv2d(plain)
    image = torch.randn(1, 8, 6, 6)
    positions = 6 * 6 * 8 * 9
    assert counted(lambda: layer(image)) == 2 * positions * (12 + 27)


def detector_flops(height: int, width: int, *overrides: str, backward: bool = True) -> int:
    """Of a detector at paper scale, for one picture, without memory."""
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("train", ["scale=paper", "backbone.weights=null", *overrides])
    with torch.device("meta"):
        detector = build_detector(cfg, 80).train()

        def step() -> None:
            predictions, _ = detector(torch.empty(1, 3, height, width))
            if backward:
                (predictions.logits.sum() + predictions.boxes.sum()).backward()

        return counted(step)


def test_the_forward_pass_is_as_large_as_detectron2s():
    # Its tests/test_model_analysis.py counts 146 billion multiply-adds in RetinaNet R50 at 800 × 800. There the first
    # 1 × 1 convolution of stages 3, 4 and 5 has the stride, here the 3 × 3 one after it.
    strides = sum(
        (800 // stride) ** 2 * channels * channels // 2 * 3 / 4 for stride, channels in ((4, 256), (8, 512), (16, 1024))
    )
    assert int((detector_flops(800, 800, backward=False) / 2 - strides) / 1e9) == 146


@pytest.mark.slow
def test_the_reference_is_retinanet_as_it_stands_here():
    for height, width in ((800, 1344), (736, 960)):
        assert detector_flops(height, width) / (height * width) == pytest.approx(REFERENCE_FLOPS_PER_PIXEL, rel=0.001)


@pytest.mark.slow
def test_flops_foretell_the_published_time_of_another_backbone():
    # Detectron2's model zoo: RetinaNet trains at 0.291 s per iteration with ResNet-101, at 0.205 s with ResNet-50.
    ratio = detector_flops(736, 960, "backbone=resnet101", "backbone.weights=null") / detector_flops(736, 960)
    assert ratio == pytest.approx(0.291 / 0.205, rel=0.1)
