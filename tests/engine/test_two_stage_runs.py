"""A run of Faster R-CNN as a user would type it: trained, gone on with, evaluated, used on pictures."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

METHOD = ["method=faster_rcnn", "logger=csv", "report=false", "postprocess.score_threshold=0.001"]


def losses(run: Path) -> list[str]:
    with (run / "metrics.csv").open() as file:
        return [row["train/loss"] for row in csv.DictReader(file) if row["train/loss"]]


@pytest.mark.slow
def test_trained_evaluated_and_used(detlab, tiny, tmp_path) -> None:
    result = detlab("train", *METHOD, *tiny, "run_dir=run", "callbacks=ema")
    assert result.status == 0, result.err
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["status"] == "finished"
    assert json.loads((tmp_path / "run/predictions.json").read_text())
    views = ["testing=multi_scale", "testing.scales=[1.0,1.5]", "postprocess=voting"]
    result = detlab("eval", "ckpt_path=run", "split=val", "output=found", "pictures=0", *views)
    assert result.status == 0, result.err
    result = detlab("predict", "ckpt_path=run", "source=voc/JPEGImages", "output=seen", "score=0")
    assert result.status == 0, result.err


@pytest.mark.slow
def test_a_run_that_goes_on_draws_what_it_would_have_drawn(detlab, tiny, tmp_path, monkeypatch) -> None:
    """Four regions and anchors of a picture, so that chance decides which."""
    few = ["detector.sampler.number=4", "loss.samples=4", "save_every=3", "schedule.val_every=4"]
    words = ["train", *METHOD, *tiny, *few]
    assert detlab(*words, "run_dir=whole").status == 0

    from detlab.engine.module import LitDetector

    plain = LitDetector.training_step

    def broken(self, batch, batch_idx):
        if self.global_step == 3:
            raise KeyboardInterrupt
        return plain(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(LitDetector, "training_step", broken)
        assert detlab(*words, "run_dir=parts").status != 0
    result = detlab(*words, "run_dir=parts")
    assert result.status == 0, result.err
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
