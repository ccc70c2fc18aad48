from __future__ import annotations

import json
from pathlib import Path

import pytest

from detlab.engine.callbacks.bounds import COLUMNS


def test_a_tested_run_has_the_bounds_that_its_predictions_have(detlab, tiny):
    """As `detlab bounds` tells them afterwards of predictions.json, whose scores and corners are rounded."""
    longer = ["schedule.iterations=60", "schedule.val_every=60", "loader.batch_size=4", "augment=none"]
    done = detlab("train", *tiny, *longer, "callbacks=bounds", "run_dir=run", "logger=csv", "report=false",
                  "postprocess.score_threshold=0.01")  # fmt: skip
    assert done.status == 0, done.err
    test = json.loads(Path("run/metrics.json").read_text())["test"]
    assert test["AP50"] > 0
    assert test["AP_lower"] < test["AP_upper"] < test["AP50"]
    done = detlab("bounds", "run=run", "output=bounds.json")
    assert done.status == 0, done.err
    rows = json.loads(Path("bounds.json").read_text())["rows"]
    for end in ("lower", "upper"):
        expected = {column: rows[f"{end} bound"][column] for column in COLUMNS}
        assert {column: test[f"{column}_{end}"] for column in COLUMNS} == pytest.approx(expected, abs=2e-3)
