from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from detlab.config.groups import options_of
from detlab.config.launch import CONFIG_DIR
from detlab.models.anchors import AnchorGenerator
from detlab.models.backbones.resnet import ResNet, SmallBackbone
from detlab.models.detectors.dense import DenseDetector
from detlab.models.heads.dense import DenseHead
from detlab.models.necks.fpn import FPN
from detlab.ops.boxes import BoxCoder

CONF = CONFIG_DIR


def a_detector(**head: Any) -> DenseDetector:
    torch.manual_seed(0)
    return DenseDetector(
        num_classes=3,
        backbone=SmallBackbone((8, 8, 16, 16, 24)),
        fpn=partial(FPN, out_channels=16, levels=(3, 4, 5, 6), norm="gn"),
        anchors=AnchorGenerator((3, 4, 5, 6)),
        head=partial(DenseHead, channels=16, convs=1, norm="gn", **head),
        coder=BoxCoder((10, 10, 5, 5)),
    )


@pytest.mark.parametrize("size", [(64, 64), (65, 97), (32, 100)])
@pytest.mark.parametrize("quality", ["none", "centerness", "iou"])
def test_predictions_and_anchors_agree(size: tuple[int, int], quality: Any) -> None:
    predictions, anchors = a_detector(quality=quality)(torch.randn(2, 3, *size))
    count = len(anchors.boxes)
    assert sum(anchors.level_sizes) == count
    assert predictions.logits.shape == (2, count, 3)
    assert predictions.boxes.shape == predictions.deltas.shape == (2, count, 4)
    if quality == "none":
        assert predictions.quality is None
    else:
        assert predictions.quality is not None
        assert predictions.quality.shape == (2, count)


def test_boxes_are_the_decoded_offsets() -> None:
    detector = a_detector(level_scales=True)
    predictions, anchors = detector(torch.randn(2, 3, 64, 96))
    torch.testing.assert_close(predictions.boxes, detector.coder.decode(predictions.deltas, anchors.boxes))
    assert (predictions.boxes[..., 2:] > predictions.boxes[..., :2]).all()


def test_a_batch_equals_its_images_one_by_one() -> None:
    detector = a_detector(quality="iou").eval()
    images = torch.randn(3, 3, 64, 96)
    together, _ = detector(images)
    for index in range(3):
        alone, _ = detector(images[index : index + 1])
        for a, b in zip(alone[:4], together[:4], strict=True):  # logits, boxes, deltas, quality
            torch.testing.assert_close(a[0], b[index], rtol=1e-3, atol=1e-4)
        assert alone.objectness is None


def test_gradients_reach_everything_trainable_and_only_that() -> None:
    detector = DenseDetector(
        3,
        ResNet("resnet18", frozen_stages=1),
        partial(FPN, out_channels=16),
        AnchorGenerator(),
        partial(DenseHead, channels=16, convs=1, quality="iou", level_scales=True),
        BoxCoder(),
    )
    predictions, _ = detector(torch.randn(2, 3, 64, 64))
    assert predictions.quality is not None
    outputs = (predictions.logits, predictions.boxes, predictions.quality)
    torch.stack([x.square().sum() for x in outputs]).sum().backward()
    for name, parameter in detector.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        assert parameter.grad is None or parameter.grad.abs().sum() > 0, name
    assert sum(p.requires_grad for p in detector.parameters()) > 30


def test_both_memory_formats_agree() -> None:
    detector = a_detector()
    other = copy.deepcopy(detector)
    other.memory_format = torch.contiguous_format
    other.to(memory_format=torch.contiguous_format)
    images = torch.randn(2, 3, 64, 64)
    for a, b in zip(detector(images)[0][:3], other(images)[0][:3], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    assert detector.head.logits.weight.is_contiguous(memory_format=torch.channels_last)


def test_mixed_precision_keeps_coordinates_in_float32() -> None:
    detector = a_detector(quality="iou")
    images = torch.randn(2, 3, 64, 64)
    exact, _ = detector(images)
    with torch.autocast("cpu", torch.bfloat16):
        predictions, anchors = detector(images)
        assert predictions.quality is not None
        assert predictions.boxes.dtype == predictions.deltas.dtype == predictions.quality.dtype == torch.float32
        (predictions.boxes.mean() + predictions.logits.float().mean()).backward()
    assert anchors.boxes.dtype == torch.float32
    torch.testing.assert_close(predictions.logits.float(), exact.logits, rtol=0.05, atol=0.05)
    assert all(p.grad is None or p.grad.isfinite().all() for p in detector.parameters())


def test_no_images() -> None:
    predictions, anchors = a_detector(quality="iou")(torch.zeros(0, 3, 64, 64))
    assert predictions.boxes.shape == (0, len(anchors.boxes), 4)


def test_validation_under_inference_mode_before_training() -> None:
    detector = a_detector()
    images = torch.randn(1, 3, 96, 32)
    with torch.inference_mode():
        detector(images)
    detector(images)[0].boxes.sum().backward()


def test_anchors_of_other_levels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"levels \(3, 4, 5, 6, 7\), got \(3, 4\)"):
        DenseDetector(3, SmallBackbone(), partial(FPN, out_channels=16), AnchorGenerator((3, 4)), DenseHead, BoxCoder())


@pytest.mark.parametrize(("name", "per_location"), [("retinanet", 9), ("single_anchor", 1)])
def test_the_configs_build(name: str, per_location: int) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(
            overrides=[
                "+backbone=small", f"+detector={name}", "detector.head.channels=32", "detector.head.convs=1",
                "detector.fpn.out_channels=32", "detector.fpn.levels=[3,4,5]",
            ]
        )  # fmt: skip
    detector = instantiate(cfg.detector, num_classes=5)
    predictions, anchors = detector(torch.randn(1, 3, 64, 64))
    assert predictions.logits.shape == (1, (64 + 16 + 4) * per_location, 5)
    assert anchors.level_sizes == (64 * per_location, 16 * per_location, 4 * per_location)


def test_every_backbone_config_names_a_network() -> None:
    names = options_of("backbone")
    assert len(names) == 13
    for name in names:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = compose(overrides=[f"+backbone={name}"]).backbone
        assert cfg.get("name", "small").startswith(name) or cfg.name in name
        stages = [4, 5] if name.startswith("resnext") else [3, 4, 5]
        assert list(cfg.get("deformable_stages", [])) == (stages if name.endswith("dcn") else [])
