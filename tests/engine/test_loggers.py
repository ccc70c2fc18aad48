"""W&B runs: what they are found by, that they stay apart, and that a resumed one is the same one. All offline."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import wandb
from wandb.sdk.wandb_settings import Settings

from detlab.engine.loggers import WandbTracker, _tags, labels, last_step, run_id
from detlab.engine.run_folder import RunFolder


def config(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "seed": 2, "scale_name": "mini", "data": {"name": "scenes"}, **more}


def records(folder: Path) -> list[dict[str, Any]]:
    """Every record of an offline run's folder, read by W&B's own reader."""
    command = [Path(sys.executable).parent / "wandb", "leet", "inspect", "--json", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def the(kind: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    return next(record[kind] for record in found if record["type"] == kind)


def logged(found: list[dict[str, Any]], name: str) -> list[float]:
    rows = [record["history"]["item"] for record in found if record["type"] == "history"]
    return [row[name] for row in rows if name in row]


def offline_runs(run: str) -> list[Path]:
    return sorted(Path(run, "wandb").glob("offline-run-*"))


@pytest.fixture
def no_run_open():
    """No W&B run open before or after, whatever the test leaves."""
    assert wandb.run is None
    yield
    if wandb.run is not None:
        wandb.finish()


def test_rows_of_a_table_share_its_group_at_a_setting():
    found = labels(config("baselines/anchors/atss_giou", setting="mini"))
    assert found.group == "baselines/anchors · mini"
    assert found.name == "atss_giou seed=2"
    assert (found.table, found.row) == ("baselines/anchors", "atss_giou")
    assert _tags(found.tags) == ["baselines", "baselines/anchors", "atss_giou", "mini", "scenes"]
    other = labels(config("baselines/anchors/maxiou", setting="mini", seed=0))
    assert other.group == found.group
    assert labels(config("baselines/anchors/atss_giou", setting="cells")).group == "baselines/anchors · cells"


def test_a_run_that_is_no_row_is_grouped_with_its_other_seeds():
    found = labels(config("mine", setting="cells"))
    assert found == ("mine · cells", "mine seed=2", ["mine", "mini", "cells", "scenes"], "mine", "mine")
    assert labels(config("mine")).group == "mine · mini"  # a config from before there were settings


def test_labels_of_any_length_are_ones_that_wandb_takes():
    found = labels(config("p" * 80 + "/" + "t" * 80 + "/" + "r" * 200))
    tags = _tags(found.tags)
    Settings(run_tags=tags, run_group=found.group, run_name=found.name)  # refuses longer tags
    assert len(found.group) <= 128
    assert len(found.name) <= 128
    assert len(tags) == len(set(tags))


def test_an_id_is_kept_and_a_sweep_gives_its_own(tmp_path, monkeypatch):
    first, second = tmp_path / "a" / "run_id", tmp_path / "b" / "run_id"
    assert run_id(first) == run_id(first)
    assert run_id(first) != run_id(second)
    monkeypatch.setenv("WANDB_RUN_ID", "fromsweep")
    assert run_id(first) != "fromsweep"  # set without a sweep, it would make one run of all jobs of a multirun
    monkeypatch.setenv("WANDB_SWEEP_ID", "s1")
    assert run_id(first) == "fromsweep"
    monkeypatch.delenv("WANDB_SWEEP_ID")
    assert run_id(first) == "fromsweep"  # resumed by hand, it goes on as the sweep's run


def test_processes_that_start_together_agree_on_the_id(tmp_path):
    for attempt in range(50):
        path = tmp_path / str(attempt) / "run_id"
        with ThreadPoolExecutor(4) as pool:
            assert len(set(pool.map(run_id, [path] * 4))) == 1
        assert [entry.name for entry in path.parent.iterdir()] == ["run_id"]


@pytest.mark.slow
def test_an_offline_run_without_records_has_no_last_step(tmp_path):
    assert last_step(tmp_path) == -1
    (tmp_path / "offline-run-20260101_000000-ab").mkdir()
    (tmp_path / "offline-run-20260101_000000-ab" / "run-ab.wandb").write_bytes(b":W&B")
    assert last_step(tmp_path) == -1


@pytest.mark.slow
@pytest.mark.usefixtures("no_run_open")
def test_a_run_left_open_is_closed_and_not_written_into(tmp_path):
    left = wandb.init(mode="offline", dir=str(tmp_path), id="leftopen")
    logger = WandbTracker().logger(RunFolder(tmp_path / "run"), config("p/t/r"))
    assert wandb.run is None
    tracked = logger.experiment
    assert tracked.id == run_id(tmp_path / "run" / "wandb" / "run_id") != left.id
    assert (tracked.group, tracked.job_type, tracked.name) == ("p/t · mini", "train", "r seed=2")
    tracked.finish()
    assert the("exit", records(next((tmp_path / "wandb").glob("offline-run-*"))))["exit_code"] == 1


@pytest.mark.slow
@pytest.mark.usefixtures("no_run_open")
def test_a_job_that_crashes_keeps_out_of_the_next_and_resumes_as_the_same_run(detlab, tiny, power_cut):
    """Two jobs of one sweep in one process; the first raises in mid-training and is then resumed."""
    command = ["train", "-m", *tiny, "logger=wandb", "report=false", "save_every=1", "logger.pictures=0",
               "logger.tracker.tags=[try]", "name=p/t/r", "seed=0,1"]  # fmt: skip
    with power_cut(3):
        assert detlab(*command).status == 1
    assert wandb.run is None
    (crashed,), (whole,) = (offline_runs(f"runs/p/t/r/mini/seed={seed}") for seed in (0, 1))
    crashed, whole = records(crashed), records(whole)
    assert the("exit", crashed)["exit_code"] == 1
    assert the("exit", whole).get("exit_code", 0) == 0
    assert the("run", crashed)["run_id"] != the("run", whole)["run_id"]
    assert len(logged(crashed, "train/loss")) == 3
    assert len(logged(whole, "train/loss")) == 4
    run = the("run", whole)
    assert run["run_group"] == "p/t · mini"
    assert run["job_type"] == "train"
    assert run["display_name"] == "r seed=1"
    assert run["tags"] == ["p", "p/t", "r", "mini", "custom", "try"]
    assert (run["config"]["update"]["table"], run["config"]["update"]["row"]) == ("p/t", "r")

    assert detlab(*command).status == 0
    first, second = map(records, offline_runs("runs/p/t/r/mini/seed=0"))
    assert len(offline_runs("runs/p/t/r/mini/seed=1")) == 1
    assert the("run", second)["run_id"] == the("run", first)["run_id"]
    steps = [logged(part, "trainer/global_step") for part in (first, second)]
    assert max(steps[0]) < max(steps[1])
    assert max(logged(first, "_step")) + 1 == min(logged(second, "_step"))  # one history when the two are synced
    assert len(logged(second, "train/loss")) == 1
