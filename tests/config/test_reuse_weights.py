"""Runs that differ after training alone take over the weights of a finished one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from detlab.engine.callbacks.checkpoints import load_checkpoint

QUIET = ["logger=csv", "logger.pictures=0", "report=false"]


def run(detlab, tiny, name, *more):
    return detlab("train", *tiny, *QUIET, f"name={name}", f"run_dir=runs/{name}/mini/seed=0", "setting=mini", *more)


def folder(name):
    return Path("runs") / name / "mini" / "seed=0"


def metrics(name):
    return json.loads((folder(name) / "metrics.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("extra", [[], ["callbacks=ema"]])
def test_the_weights_are_those_of_the_other_run(detlab, tiny, extra):
    assert run(detlab, tiny, "t/a", *extra).status == 0
    same = run(detlab, tiny, "t/b", "trained_as=t/a", *extra)
    assert same.status == 0, same.err
    assert "has the weights that this run would train" in same.out
    first, second = (load_checkpoint(folder(name) / "checkpoints/last.ckpt") for name in ("t/a", "t/b"))
    assert all(torch.equal(value, second["state_dict"][key]) for key, value in first["state_dict"].items())
    assert second["detlab"]["config"]["name"] == "t/b"
    a, b = metrics("t/a"), metrics("t/b")
    assert (a["test"], a["val"]) == (b["test"], b["val"])
    assert b["trained_as"] == {"run": "runs/t/a/mini/seed=0", "commit": a["commit"]}
    assert "trained_as" not in a
    history = (folder("t/b") / "metrics.csv").read_text()
    assert "train/loss" in history
    assert "is finished already" in run(detlab, tiny, "t/b", "trained_as=t/a", *extra).out


@pytest.mark.slow
def test_what_happens_after_training_may_differ(detlab, tiny):
    any_score = "postprocess.score_threshold=0.0"
    assert run(detlab, tiny, "t/a", any_score).status == 0
    assert run(detlab, tiny, "t/b", any_score, "trained_as=t/a", "postprocess.max_detections=1").status == 0
    found = [row["image_id"] for row in json.loads((folder("t/b") / "predictions.json").read_text())]
    assert len(found) == len(set(found))  # one box per picture, where the other run has more
    assert len(json.loads((folder("t/a") / "predictions.json").read_text())) > len(found)


@pytest.mark.slow
def test_another_training_is_refused_before_anything_is_written(detlab, tiny):
    assert run(detlab, tiny, "t/a").status == 0
    refused = run(detlab, tiny, "t/b", "trained_as=t/a", "schedule.lr=0.5")
    assert refused.status == 1
    assert "trained_as=t/a: runs/t/a/mini/seed=0 was trained otherwise (schedule.lr: " in refused.err
    assert not folder("t/b").exists()


@pytest.mark.slow
def test_what_has_begun_by_itself_goes_on_by_itself(detlab, tiny, power_cut):
    with power_cut(2), pytest.raises(RuntimeError, match="power cut"):
        run(detlab, tiny, "t/b", "trained_as=t/a", "save_every=1")
    assert run(detlab, tiny, "t/a", "save_every=1").status == 0
    again = run(detlab, tiny, "t/b", "trained_as=t/a", "save_every=1")
    assert again.status == 0, again.err
    assert "Going on from runs/t/b/mini/seed=0/checkpoints/last.ckpt at iteration 2." in again.out
    assert "trained_as" not in metrics("t/b")
    assert metrics("t/a")["test"] == metrics("t/b")["test"]


@pytest.mark.slow
def test_a_run_that_names_itself_is_refused(detlab, tiny):
    assert run(detlab, tiny, "t/a").status == 0
    refused = run(detlab, tiny, "t/a", "trained_as=t/a", "overwrite=true")
    assert refused.status == 1
    assert "trained_as=t/a is this run itself; name another one, or take trained_as=null." in refused.err
    assert metrics("t/a")["status"] == "finished"


@pytest.mark.slow
def test_without_a_finished_run_it_trains_by_itself(detlab, tiny):
    found = run(detlab, tiny, "t/b", "trained_as=t/a")
    assert found.status == 0, found.err
    assert "trained_as=t/a: there is no such run (runs/t/a/mini/seed=0), so this one trains by itself." in found.out
    assert "trained_as" not in metrics("t/b")
    assert run(detlab, tiny, "t/a").status == 0
    assert metrics("t/a")["test"] == metrics("t/b")["test"]
