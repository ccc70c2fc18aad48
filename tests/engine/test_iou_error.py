"""The error of predicted IoU in whole runs: measured where the head predicts it, of the positive anchors, in the
forward pass that finds the boxes."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

from detlab.config.instantiate import build_datamodule, build_module, evaluation_loader, load_run, load_weights
from detlab.engine.module import LitDetector
from detlab.models.detectors.dense import DenseDetector
from detlab.postprocess.tta import MultiScale
from detlab.structures import Batch

SHORT = ["run_dir=run", "logger=csv", "logger.pictures=0", "report=false"]
ONE_STEP = ["schedule.iterations=1", "schedule.val_every=1"]
PREDICTS_IOU = ["detector=single_anchor", "assigner=atss", "loss=focal_giou_iou", "detector.head.quality=iou"]
# Boxes come back from batches of twice the size of the files, so that pixels of the one are not those of the other.
ENLARGED = ["resize=longest", "resize.size=128"]


def read_metrics(folder: str = "run") -> dict:
    return json.loads(Path(folder, "metrics.json").read_text())


def overlap(a: list[float], b: list[float]) -> float:
    width, height = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
    inside = max(width, 0.0) * max(height, 0.0)
    return inside / (sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)) - inside)


def detector_and_pictures(folder: str) -> tuple[LitDetector, Iterable[Batch]]:
    cfg, classes, state, _ = load_run(folder)
    module = build_module(cfg, classes, training=False).eval()
    load_weights(module, state, folder)
    data = build_datamodule(cfg)
    data.eval_batch_size = 1
    return module, evaluation_loader(data, data.index("val"))


@torch.no_grad()
def measured_in_views(folder: str, scales: tuple[float, ...]) -> float:
    """What a test at several scales measures: of the view that is the picture as it is, if there is one."""
    module, pictures = detector_and_pictures(folder)
    module.testing = MultiScale(scales)
    error = module.evaluation.metrics["test_iou_error"]
    error.update(torch.empty(0), torch.empty(0))
    for batch in pictures:
        module.detect(batch, "test")
    return float(error.compute())


@torch.no_grad()
def measured_one_by_one(folder: str) -> float:
    """The same from the checkpoint, picture by picture and anchor by anchor."""
    module, pictures = detector_and_pictures(folder)
    errors = []
    for batch in pictures:
        predictions, anchors = module(batch.images)
        assert predictions.quality is not None
        index = module.assigner(anchors, batch.targets, predictions).gt_index[0]
        for anchor in (index >= 0).nonzero()[:, 0].tolist():
            box = predictions.boxes[0, anchor].tolist()
            true = overlap(box, batch.targets[0].boxes[index[anchor]].tolist())
            errors.append(abs(float(predictions.quality[0, anchor].sigmoid()) - true))
    assert len(errors) > 4
    return sum(errors) / len(errors)


@pytest.mark.slow
def test_a_head_that_predicts_iou_is_judged_by_it(detlab, tiny, monkeypatch):
    seen = {True: 0, False: 0}
    forward = DenseDetector.forward

    def counted(self, images):
        seen[self.training] += len(images)
        return forward(self, images)

    monkeypatch.setattr(DenseDetector, "forward", counted)
    result = detlab("train", *tiny, *SHORT, *PREDICTS_IOU, *ENLARGED)
    assert result.status == 0, result.err
    assert result.err == ""
    assert seen == {True: 4 * 2, False: 3 * 2}  # iterations of two pictures; two validations and a test of two
    metrics = read_metrics()
    assert metrics["test"]["IoU_error"] == pytest.approx(measured_one_by_one("run"), abs=2e-6)
    assert metrics["val"]["IoU_error"] == metrics["test"]["IoU_error"]  # the same pictures here
    with Path("run/metrics.csv").open() as file:
        values = [float(row["val/IoU_error"]) for row in csv.DictReader(file) if row["val/AP"]]
    assert len(values) == 2
    assert values[-1] == pytest.approx(metrics["val"]["IoU_error"], abs=1e-6)
    assert 0 < values[-1] < 1

    evaluated = detlab("eval", "accelerator=cpu", "ckpt_path=run", "output=again")
    assert evaluated.status == 0, evaluated.err
    assert read_metrics("again")["test"]["IoU_error"] == metrics["test"]["IoU_error"]
    assert "IoU_error" in evaluated.out
    assert measured_in_views("run", (0.5, 1.0)) == pytest.approx(metrics["test"]["IoU_error"], abs=2e-6)
    assert math.isnan(measured_in_views("run", (0.5,)))
    assert detlab("report", "run").status == 0
    assert "IoU_error" in Path("run/report.html").read_text()


@pytest.mark.slow
def test_other_heads_are_not(detlab, tiny):
    centerness = ["detector=single_anchor", "loss=focal_giou_centerness", "detector.head.quality=centerness"]
    assert detlab("train", *tiny, *SHORT, *ONE_STEP, *centerness).status == 0
    metrics = read_metrics()
    assert "AP" in metrics["test"]
    assert not [name for stage in ("val", "test") for name in metrics[stage] if "IoU" in name]


@pytest.mark.slow
def test_pictures_without_objects_say_nothing(detlab, tiny):
    for path in Path("voc/Annotations").glob("*.xml"):
        text = path.read_text()
        if path.stem in Path("voc/ImageSets/Main/val.txt").read_text().split():
            path.write_text(text[: text.index("<object>")] + "</annotation>\n")
    result = detlab("train", *tiny, *SHORT, *ONE_STEP, *PREDICTS_IOU)
    assert result.status == 0, result.err
    assert read_metrics()["test"]["IoU_error"] is None
