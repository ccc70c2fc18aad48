from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torchmetrics.detection import MeanAveragePrecision

from detlab.config.instantiate import build_source
from detlab.data.datamodule import DetectionDataModule
from detlab.data.transforms import Pipeline
from detlab.errors import UserError
from detlab.metrics.coco_ap import IOU_THRESHOLDS
from detlab.reporting.figures.drawing import Runs
from detlab.structures import Detections
from experiments.certainty import figure_teachers
from experiments.certainty.figure_boxes import OURS, PLAIN, figure4
from experiments.certainty.figure_teachers import figure3
from experiments.certainty.figures import figure2


def test_figure2_has_coco_s_ap_at_every_threshold(make_run, predictions, squares, tmp_path):
    make_run(PLAIN, predictions=predictions)
    better = [{**p, "bbox": box, "score": p["score"]} for p, box in zip(predictions, nearer(predictions, squares))]
    make_run(OURS, predictions=better)
    lines, change = figure2(Runs(tmp_path / "runs", "mini")).panels
    for series, records in zip(lines.series, (predictions, better)):
        np.testing.assert_allclose(series.y, [100 * reference(records, squares, t) for t in IOU_THRESHOLDS], atol=1e-3)
    np.testing.assert_allclose(change.series[0].y, lines.series[1].y - lines.series[0].y)
    assert change.series[0].y.max() > 1


def nearer(predictions, squares):
    """Every box half as far from its object."""
    boxes = []
    for record in predictions:
        own = [
            box for image, label, box in squares if (image, label + 1) == (record["image_id"], record["category_id"])
        ]
        x, y, w, h = record["bbox"]
        x1, y1, *_ = min(own, key=lambda box: abs(box[0] - x) + abs(box[1] - y))
        boxes.append([(x + x1) / 2, (y + y1) / 2, w, h])
    return boxes


def reference(records, squares, iou):
    metric = MeanAveragePrecision(iou_thresholds=[float(iou)], backend="faster_coco_eval")
    for image in sorted({image for image, *_ in squares}):
        own = [r for r in records if r["image_id"] == image]
        boxes = torch.tensor([r["bbox"] for r in own], dtype=torch.float64)
        boxes[:, 2:] += boxes[:, :2]
        truth = [(label, box) for number, label, box in squares if number == image]
        metric.update(
            [{"boxes": boxes, "scores": torch.tensor([r["score"] for r in own]),
              "labels": torch.tensor([r["category_id"] - 1 for r in own])}],
            [{"boxes": torch.tensor([box for _, box in truth], dtype=torch.float64),
              "labels": torch.tensor([label for label, _ in truth])}],
        )  # fmt: skip
    return float(metric.compute()["map"])


@pytest.fixture
def teacher(voc, monkeypatch):
    """A finished teacher on half of the pictures: it finds every object of the rest, moved by a tenth of its width and
    sure, and not at all, and is not sure."""
    entry = {"format": "voc", "root": str(voc), "split": "train", "val_split": "val", "test_split": "train"}
    data = {
        "_target_": "detlab.data.sources.semi.SemiSupervisedSource",
        "source": entry,
        "labeled_fraction": 0.5,
        "fold": 0,
    }

    def load(_run: str, _device: Any, chosen: dict[str, Any]) -> Any:
        assert chosen["data"]["only"] is None
        module = DetectionDataModule(build_source(chosen["data"]), Pipeline(), Pipeline())
        complete = module.complete("train")

        def look(index):
            found = {}
            for image in index.ids.tolist():
                at = complete.boxes_of(int(np.flatnonzero(complete.ids == image)[0]))
                boxes = torch.from_numpy(complete.boxes[at])
                moved = boxes + (boxes[:, 2:3] - boxes[:, :1]) * torch.tensor([0.1, 0, 0.1, 0])
                labels, ones = torch.from_numpy(complete.labels[at]).long(), torch.ones(len(boxes))
                found[image] = Detections(
                    torch.cat([moved, boxes + 500]), torch.cat([0.8 * ones, 0.6 * ones]), torch.cat([labels, labels])
                )
            return found

        return SimpleNamespace(data=module, look=look)

    monkeypatch.setattr(figure_teachers, "load_finished", load)
    return {**data, "only": "labelled"}


def students(make_run, plain: float, intervals: float) -> None:
    for row, tau in ((PLAIN, plain), (OURS, intervals)):
        (make_run(row) / "config.yaml").write_text(yaml.safe_dump({"name": row, "seed": 0, "pseudo": {"tau": tau}}))


def teachers(make_run, data: dict[str, Any]) -> None:
    for row in (figure_teachers.PLAIN, figure_teachers.INTERVALS):
        (make_run(row) / "config.yaml").write_text(yaml.safe_dump({"name": row, "seed": 0, "data": data}))


def test_figure3_shows_how_well_sure_boxes_of_unlabelled_pictures_sit(make_run, teacher, tmp_path):
    teachers(make_run, teacher)
    students(make_run, 0.7, 0.7)
    drawing = figure3(Runs(tmp_path / "runs", "mini"))
    lines, change = drawing.panels
    # 0.9 of the width in common of 1.1: an IoU of 0.818 for all that count.
    expected = np.where(IOU_THRESHOLDS <= 0.9 / 1.1, 100.0, 0.0)
    for series in lines.series:
        np.testing.assert_allclose(series.y, expected)
    assert not change.series[0].y.any()
    # Of two boxes of each of an image's objects one is sure.
    counts = "2.0 by class score of at least 0.7 and 2.0 by class score and certainty of at least 0.7."
    assert f"one seed: of an image {counts}" in drawing.caption


def test_figure3_goes_by_the_thresholds_of_the_students(make_run, teacher, tmp_path):
    """The second box of each object, which overlaps none, has a score of 0.6."""
    teachers(make_run, teacher)
    students(make_run, 0.7, 0.5)
    drawing = figure3(Runs(tmp_path / "runs", "mini"))
    plain, intervals = drawing.panels[0].series
    np.testing.assert_allclose(intervals.y, np.asarray(plain.y) / 2)
    assert "4.0 by class score and certainty of at least 0.5." in drawing.caption


def test_figure4_draws_both_students_on_pictures_spread_over_the_set(make_run, predictions, tmp_path):
    for row in (PLAIN, OURS):
        make_run(row, predictions=predictions)
    drawn = figure4(Runs(tmp_path / "runs", "mini"))
    lines = [line.split(",") for line in drawn.csv().splitlines()]
    assert {line[1] for line in lines[1:]} == {"plain", "ca_re_dt"}
    assert len({line[0] for line in lines[1:]}) > 1
    assert all(float(line[3]) >= 0.5 for line in lines[1:])
    assert drawn.picture().shape[2] == 3
    assert drawn.picture().shape[1] > 900  # three in a row, or two


def test_figure4_compares_one_seed(make_run, predictions, tmp_path):
    for row, seeds in ((PLAIN, (0, 1)), (OURS, (1, 2))):
        for seed in seeds:
            make_run(row, seed, predictions=predictions)
    assert "Seed 1." in figure4(Runs(tmp_path / "runs", "mini")).caption


def test_figure4_without_a_shared_seed(make_run, predictions, tmp_path):
    make_run(PLAIN, 0, predictions=predictions)
    make_run(OURS, 1, predictions=predictions)
    with pytest.raises(UserError, match="not trained with the same seed"):
        figure4(Runs(tmp_path / "runs", "mini"))


@pytest.mark.parametrize("figure", [figure2, figure3, figure4])
def test_without_runs(figure, tmp_path):
    with pytest.raises(UserError, match="no finished run of certainty/"):
        figure(Runs(tmp_path, "mini"))
