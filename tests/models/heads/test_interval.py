"""Interval localisation in both kinds of detectors: shapes, decoding, certainty, and that it learns."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from detlab.losses.interval import IntervalLoss
from detlab.models.anchors import AnchorGenerator
from detlab.models.backbones.resnet import SmallBackbone
from detlab.models.detectors.dense import DenseDetector
from detlab.models.heads.box import BoxOutput
from detlab.models.heads.dense import DenseHead
from detlab.models.heads.interval import IntervalHead
from detlab.models.necks.fpn import FPN
from detlab.ops.boxes import BoxCoder
from detlab.ops.interval_coder import IntervalCoder
from detlab.postprocess import Postprocess
from detlab.structures import Anchors, Predictions


def dense(intervals) -> DenseDetector:
    torch.manual_seed(0)
    return DenseDetector(
        3,
        SmallBackbone(channels=(8, 8, 16, 16, 32)),
        partial(FPN, out_channels=16, levels=(3, 4), norm="gn"),
        AnchorGenerator(levels=(3, 4), octaves=1),
        partial(DenseHead, channels=16, convs=1, norm="gn"),
        BoxCoder(),
        intervals=intervals,
    )


def test_a_dense_detector_tells_sides_by_intervals() -> None:
    coder = IntervalCoder(6)
    detector = dense(coder).eval()
    images = torch.randn(2, 3, 64, 64)
    predictions, anchors = detector(images)
    assert predictions.deltas.shape == (2, len(anchors.boxes), 48)
    assert predictions.boxes.shape == (2, len(anchors.boxes), 4)
    assert torch.equal(predictions.boxes, coder.decode(predictions.deltas, anchors.boxes))
    assert predictions.quality is not None
    assert torch.allclose(predictions.quality.sigmoid(), coder.quality(predictions.deltas), atol=1e-5)
    assert predictions.quality.sigmoid().mean().item() == pytest.approx(1 / 6, abs=0.05)  # as probable as one of six
    assert detector.train()(images)[0].quality is None
    assert dense(None).eval()(images)[0].quality is None


def head(**settings) -> IntervalHead:
    torch.manual_seed(0)
    return IntervalHead(
        8, 3, (2, 3), BoxCoder(), IntervalCoder(6), channels=16, resolution=3, canonical=32.0, **settings
    )


def test_a_second_stage_tells_sides_by_intervals() -> None:
    model = head()
    maps = [torch.randn(2, 8, 16, 16), torch.randn(2, 8, 8, 8)]
    regions = [torch.tensor([[2.0, 3, 30, 40], [0, 0, 9, 9]]), torch.tensor([[5.0, 5, 50, 20]])]
    output = model(maps, regions)
    assert output.logits.shape == (3, 4)
    assert output.places.shape == (3, 48)
    decoded = model.decode(output, torch.cat(regions))
    assert decoded.boxes.shape == (3, 3, 4)
    assert torch.equal(decoded.boxes[:, 0], model.intervals.decode(output.places, torch.cat(regions)))
    assert torch.equal(decoded.boxes[:, 0], decoded.boxes[:, 2])
    assert torch.allclose(decoded.quality.sigmoid(), model.intervals.quality(output.places), atol=1e-5)
    targets = torch.cat(regions) + 2
    labels = torch.tensor([0, 2, 1])
    loss = model.localization(output, torch.cat(regions), labels, targets)
    assert torch.equal(loss, IntervalLoss(model.intervals).of(output.places, targets, torch.cat(regions)))
    none = BoxOutput(output.logits[:0], output.places[:0])
    assert model.localization(none, torch.zeros(0, 4), labels[:0], torch.zeros(0, 4)).shape == (0,)


@pytest.mark.parametrize("objectness", [False, True])
@pytest.mark.parametrize("how", ["auto", "product", "ignore"])
def test_scores_are_ranked_by_class_and_certainty(objectness: bool, how) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, quality = torch.randn(1, 5, 2, generator=generator), torch.randn(1, 5, generator=generator)
    extra = torch.randn(1, 5, generator=generator) if objectness else None
    boxes = torch.tensor([[10.0 * k, 0, 10 * k + 9, 9] for k in range(5)])
    anchors = Anchors(boxes, torch.zeros(5, dtype=torch.int64), (5,))
    found = Postprocess(score_threshold=0.0, quality=how)(
        Predictions(logits, boxes[None], boxes[None], quality, extra), anchors, torch.tensor([[64, 64]])
    )[0]
    p = logits[0].sigmoid() if extra is None else extra[0, :, None].sigmoid() * logits[0].softmax(-1)
    v = quality[0, :, None].sigmoid()
    score = p if how == "ignore" else p * v if objectness or how == "product" else (p * v).sqrt()
    expected = {(k, c): float(score[k, c]) for k in range(5) for c in range(2)}
    assert len(found.scores) == 10
    for box, value, label in zip(found.boxes, found.scores, found.labels, strict=True):
        assert float(value) == pytest.approx(expected[int(box[0]) // 10, int(label)], abs=1e-6)
