"""`detlab train` with several scales: in the final test alone, and again when the run is evaluated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_run_tests_at_several_scales_and_evaluating_it_says_the_same(detlab, tiny):
    several = ["testing=multi_scale", "testing.scales=[1,1.5]", "postprocess=voting"]
    shared = ["postprocess.score_threshold=0.001", "logger=csv", "report=false", "schedule.iterations=20"]
    assert detlab("train", *tiny, *shared, *several, "run_dir=several").status == 0
    assert detlab("train", *tiny, *shared, "postprocess=voting", "run_dir=once").status == 0
    a, b = (json.loads(Path(f"{name}/metrics.json").read_text()) for name in ("several", "once"))
    assert a["val"] == b["val"]  # validation looks once
    predictions = [json.loads(Path(f"{name}/predictions.json").read_text()) for name in ("several", "once")]
    assert predictions[0] != predictions[1]
    assert detlab("eval", "accelerator=cpu", "ckpt_path=several", "pictures=0", "output=again").status == 0
    assert json.loads(Path("again/predictions.json").read_text()) == predictions[0] != []
