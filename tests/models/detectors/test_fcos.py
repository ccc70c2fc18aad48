"""FCOS, and the task-aligned assigner: the parts together, from configs and in training."""

from __future__ import annotations

import csv
import json
from functools import partial
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from detlab.assigners.fcos import FCOSAssigner
from detlab.config.launch import CONFIG_DIR
from detlab.models.backbones.resnet import SmallBackbone
from detlab.models.detectors.fcos import FCOS
from detlab.models.heads.dense import DenseHead
from detlab.models.necks.fpn import FPN
from detlab.models.points import PointGenerator
from detlab.ops.distance_coder import DistanceCoder
from detlab.ops.matching import gather
from detlab.structures import Targets

FEW = [
    "data.train=16", "data.val=4", "data.test=4", "loader.batch_size=4", "loader.num_workers=0", "logger=csv",
    "logger.pictures=0", "report=false", "run_dir=run",
]  # fmt: skip
ALIGNED = ["assigner=task_aligned", "loss=task_aligned"]


def a_detector(levels: tuple[int, ...] = (3, 4)) -> FCOS:
    torch.manual_seed(0)
    return FCOS(
        num_classes=3,
        backbone=SmallBackbone((8, 8, 16, 16, 24)),
        fpn=partial(FPN, out_channels=16, levels=levels, norm="gn"),
        anchors=PointGenerator((3, 4)),
        head=partial(DenseHead, channels=16, convs=1, norm="gn", quality="centerness", level_scales=True),
        coder=DistanceCoder(),
    )


def test_boxes_are_distances_in_strides_from_the_points() -> None:
    predictions, points = a_detector()(torch.randn(2, 3, 64, 96))
    assert points.level_sizes == (96, 24)
    center = (points.boxes[:, :2] + points.boxes[:, 2:]) / 2
    stride = torch.tensor([8.0, 16])[points.level, None]
    distances = predictions.deltas.exp() * stride
    expected = torch.cat([center - distances[..., :2], center + distances[..., 2:]], -1)
    torch.testing.assert_close(predictions.boxes, expected)
    assert predictions.logits.shape == (2, 120, 3)
    assert predictions.quality is not None
    assert predictions.quality.shape == (2, 120)


def test_its_positives_can_be_told_as_distances() -> None:
    """Every positive point is inside its object, so that the coder loses nothing."""
    detector = a_detector()
    predictions, points = detector(torch.randn(1, 3, 64, 64))
    targets = [Targets.of(torch.tensor([[5.0, 7, 50, 40], [30, 30, 44, 50]]), torch.tensor([0, 2]), 3)]
    matched = gather(points, targets, FCOSAssigner()(points, targets), predictions)
    assert len(matched.positive) > 2
    decoded = detector.coder.decode(
        detector.coder.encode(matched.target_boxes, matched.anchor_boxes), matched.anchor_boxes
    )
    torch.testing.assert_close(decoded, matched.target_boxes, rtol=1e-4, atol=1e-3)


def test_points_of_other_levels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"levels \(3, 4, 5\), got \(3, 4\)"):
        a_detector((3, 4, 5))


def test_the_config_builds_and_the_scale_reaches_the_assigner() -> None:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        mini, paper = (compose("train", ["method=fcos", f"scale={scale}"]) for scale in ("mini", "paper"))
    predictions, points = instantiate(mini.detector, num_classes=5)(torch.randn(1, 3, 64, 64))
    assert points.level_sizes == (64, 16, 4)
    assert predictions.logits.shape == (1, 84, 5)
    assert instantiate(mini.assigner).size_range == 4
    assert instantiate(paper.assigner).size_range == 8
    assert paper.detector.fpn.levels == [3, 4, 5, 6, 7]


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ["method=fcos"],
        ["method=retinanet", "detector=single_anchor", *ALIGNED],
        ["method=fcos", *ALIGNED, "detector.head.quality=none"],
    ],
    ids=["fcos", "task_aligned", "both"],
)
def test_trains_and_predicts(detlab, toy: list[str], overrides: list[str]) -> None:
    result = detlab("train", *overrides, *toy, *FEW, "schedule.iterations=8", "schedule.val_every=8")
    assert result.status == 0, result.err
    with Path("run/metrics.csv").open(newline="") as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert len(losses) == 8
    assert all(0 < loss < 100 for loss in losses)
    assert json.loads(Path("run/metrics.json").read_text())["status"] == "finished"
    images = next(Path("data/scenes").rglob("*.png"), None) or next(Path("data/scenes").rglob("*.jpg"))
    result = detlab("predict", "ckpt_path=run", f"source={images}", "output=found")
    assert result.status == 0, result.err
    assert any(Path("found").iterdir())
