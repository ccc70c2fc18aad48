from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from detlab.engine.callbacks.bounds import COLUMNS, ENDS, CorrelationBounds
from detlab.metrics.mean_ap import DetectionMetrics
from detlab.structures import Detections, Targets


def test_bounds_of_two_objects_of_which_the_better_scored_lies_worse():
    """IoU 1 scored 0.5 and IoU 0.6 scored 0.9. At an IoU of 0.65 and more one of two is right, of recall 0.5: first in
    the list (precision 1) with the upper bound, second (precision 0.5) as it is and with the lower one. Of COCO's 101
    recalls 51 are up to 0.5."""
    metrics = DetectionMetrics(["car"])
    truth = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10]])
    found = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 6]])
    labels = torch.zeros(2, dtype=torch.int64)
    metrics.update([Detections(found, torch.tensor([0.5, 0.9]), labels)], [Targets.of(truth, labels, 1)])
    said: dict[str, float] = {}
    evaluation = SimpleNamespace(metrics={"test_metrics": metrics})
    module = SimpleNamespace(evaluation=evaluation, log_dict=lambda values, **_: said.update(values))
    CorrelationBounds().on_test_epoch_end(None, module)
    assert said.keys() == {f"test/{column}_{end}" for column in COLUMNS for end in ENDS}
    for column in ("AP75", "AP90"):
        assert said[f"test/{column}_upper"] == pytest.approx(51 / 101)
        assert said[f"test/{column}_lower"] == pytest.approx(51 / 101 / 2)
    for end, precision in (("upper", 1.0), ("lower", 0.5)):  # right at 0.5, 0.55 and 0.6 are both
        assert said[f"test/AP_{end}"] == pytest.approx((3 + 7 * precision * 51 / 101) / 10)
    assert metrics.compute()["AP75"] == pytest.approx(said["test/AP75_lower"])


@pytest.mark.slow
def test_a_run_writes_them_among_what_it_tested(detlab, tiny):
    done = detlab("train", *tiny, "callbacks=bounds", "run_dir=run", "logger=csv", "report=false")
    assert done.status == 0, done.err
    test = json.loads(Path("run/metrics.json").read_text())["test"]
    assert all(test[f"{column}_lower"] <= test[f"{column}_upper"] for column in COLUMNS)
