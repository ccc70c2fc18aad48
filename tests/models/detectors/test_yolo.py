from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from detlab.losses.regression import SmoothL1
from detlab.models.backbones.resnet import SmallBackbone
from detlab.models.detectors.yolo import YOLODetector, in_anchors
from detlab.models.heads.yolo import YOLOHead
from detlab.models.necks.fpn import FPN
from detlab.models.yolo_anchors import ShapeAnchors
from detlab.ops.boxes import BoxCoder
from detlab.postprocess import Postprocess
from detlab.postprocess.tta import MultiScale, Single
from detlab.structures import Batch, Targets

CONF = Path(__file__).parents[3] / "conf"
SHAPES = [[(10.0, 20.0), (30.0, 6.0)], [(40.0, 40.0), (64.0, 16.0)]]


def a_detector(**arguments: Any) -> YOLODetector:
    torch.manual_seed(0)
    detector = YOLODetector(
        num_classes=3,
        backbone=SmallBackbone((8, 8, 16, 16, 24)),
        fpn=partial(FPN, out_channels=16, levels=(3, 4), norm="gn"),
        anchors=ShapeAnchors((3, 4), SHAPES),
        head=partial(YOLOHead, channels=16, convs=1),
        **{"coder": BoxCoder(), **arguments},
    )
    for output in detector.head.boxes:  # type: ignore[union-attr]
        torch.nn.init.normal_(output.weight, std=0.08)  # type: ignore[arg-type]
    return detector


@pytest.mark.parametrize(("offsets", "scale"), [("linear", 1.0), ("sigmoid", 1.0), ("sigmoid", 2.0)])
def test_boxes_follow_the_equations(offsets: Any, scale: float) -> None:
    """Eqs. 3-6 in float64, cell by cell."""
    detector = a_detector(offsets=offsets, offset_scale=scale).eval()
    images = torch.randn(2, 3, 40, 64)
    raw = detector.head(detector.fpn(detector.backbone(images))).deltas.double()
    predictions, anchors = detector(images)
    assert anchors.level_sizes == (8 * 5 * 2, 4 * 3 * 2)
    number = 0
    for level, (stride, rows, columns) in enumerate([(8, 5, 8), (16, 3, 4)]):
        for row in range(rows):
            for column in range(columns):
                for w, h in SHAPES[level]:
                    for image in range(2):
                        x, y, log_w, log_h = raw[image, number].tolist()
                        if offsets == "linear":
                            x, y = x + 0.5, y + 0.5
                        else:
                            x, y = (scale / (1 + math.exp(-v)) - (scale - 1) / 2 for v in (x, y))
                        center = (column + x) * stride, (row + y) * stride
                        half = w * math.exp(log_w) / 2, h * math.exp(log_h) / 2
                        box = [*(c - s for c, s in zip(center, half)), *(c + s for c, s in zip(center, half))]
                        assert predictions.boxes[image, number].tolist() == pytest.approx(box, abs=1e-3)
                    number += 1
    assert number == len(anchors.boxes)


def test_shapes_and_types_of_what_comes_out() -> None:
    predictions, anchors = a_detector()(torch.randn(2, 3, 64, 32))
    count = len(anchors.boxes)
    assert predictions.logits.shape == (2, count, 3)
    assert predictions.boxes.shape == predictions.deltas.shape == (2, count, 4)
    assert predictions.objectness is not None
    assert predictions.objectness.shape == (2, count)
    assert predictions.quality is None


def test_deltas_are_those_of_the_coder() -> None:
    """So that every localisation loss of the lab takes them."""
    detector = a_detector(offsets="sigmoid")
    predictions, anchors = detector(torch.randn(1, 3, 64, 64))
    coder = SmoothL1(detector.coder).coder
    torch.testing.assert_close(coder.encode(predictions.boxes, anchors.boxes), predictions.deltas, atol=1e-4, rtol=1e-4)


def test_sigmoid_offsets_stay_in_their_cell() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(500, 4, generator=generator) * 30
    anchors = ShapeAnchors((3,), [[(10, 20)]])([(20, 25)], torch.device("cpu")).boxes
    strides = torch.full((500,), 8.0)
    for scale, reach in ((1.0, 4.0), (2.0, 8.0)):
        deltas = in_anchors(outputs, anchors, strides, "sigmoid", scale)
        offset = deltas[:, :2] * torch.tensor([10.0, 20.0])
        assert offset.abs().max() == pytest.approx(reach, abs=1e-4)
    assert torch.equal(in_anchors(outputs, anchors, strides)[:, 2:], outputs[:, 2:])


def test_a_wild_size_cannot_overflow() -> None:
    outputs = torch.full((1, 4), 1e4)
    anchors = torch.tensor([[0.0, 0, 8, 8]])
    boxes = BoxCoder().decode(in_anchors(outputs, anchors, torch.tensor([8.0]), "sigmoid"), anchors)
    assert boxes.isfinite().all()


def test_mixed_precision_keeps_coordinates_in_float32() -> None:
    detector = a_detector()
    images = torch.randn(2, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        predictions, _ = detector(images)
        assert predictions.objectness is not None
        assert predictions.boxes.dtype == predictions.deltas.dtype == predictions.objectness.dtype == torch.float32
        (predictions.boxes.mean() + predictions.logits.float().mean() + predictions.objectness.mean()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in detector.parameters() if p.requires_grad)


def test_a_batch_equals_its_images_one_by_one_and_none_is_fine() -> None:
    detector = a_detector().eval()
    images = torch.randn(3, 3, 64, 96)
    together, _ = detector(images)
    for index in range(3):
        alone, _ = detector(images[index : index + 1])
        for a, b in zip(alone, together, strict=True):
            if a is not None:
                torch.testing.assert_close(a[0], b[index], rtol=1e-3, atol=1e-3)
    predictions, anchors = detector(images[:0])
    assert predictions.boxes.shape == (0, len(anchors.boxes), 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"offsets": "cubic"}, "linear or sigmoid"),
        ({"offset_scale": 0.5}, "offset_scale"),
    ],
)
def test_bad_options_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        a_detector(**arguments)


def test_a_weighted_coder_is_refused() -> None:
    with pytest.raises(ValueError, match="coder weights of 1"):
        YOLODetector(
            3,
            SmallBackbone(),
            partial(FPN, levels=(3, 4)),
            ShapeAnchors((3, 4), SHAPES),
            YOLOHead,
            BoxCoder((2, 2, 1, 1)),
        )


@pytest.mark.slow
@pytest.mark.parametrize("scale", ["mini", "mini_2x", "small", "paper"])
def test_the_config_builds_at_every_scale(scale: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        words = [
            "method=yolo",
            f"scale={scale}",
            "backbone=small",
            "detector.head.channels=16",
            "detector.head.convs=1",
        ]
        cfg = compose("train", words)
    detector = instantiate(cfg.detector, num_classes=5)
    predictions, _ = detector(torch.randn(1, 3, 64, 64))
    assert predictions.logits.shape == (1, (64 + 16 + 4) * 3, 5)
    shapes = [shape for level in detector.anchors.shapes for shape in level]
    assert (max(max(shape) for shape in shapes) < 64) == scale.startswith("mini")  # sizes in the pictures' pixels


def test_multi_scale_testing_takes_it() -> None:
    """One view at the usual size is a single look; mirrored and larger ones find something, too."""
    detector = a_detector().eval()
    images = torch.randn(2, 3, 64, 64)
    sizes = torch.full((2, 2), 64)
    nothing = Targets.of(torch.zeros(0, 4), torch.zeros(0), 3)
    batch = Batch(images, [nothing] * 2, sizes, torch.ones(2, 2), sizes, torch.arange(2))
    postprocess = Postprocess(score_threshold=0.001)
    with torch.no_grad():
        single = Single()(detector, batch, postprocess)
        one_view = MultiScale((1.0,), flip=False)(detector, batch, postprocess)
        several = MultiScale((1.0, 1.5))(detector, batch, postprocess)
    for a, b, c in zip(single, one_view, several, strict=True):
        assert len(a.scores) > 0
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
        assert c.scores.isfinite().all()
        assert c.scores[0] >= a.scores[0]
