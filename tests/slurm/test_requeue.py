"""Sweeps through `hydra/launcher=submitit_slurm` on a Slurm of one node: rows of a table as one array, and what
becomes of runs that are cancelled, put back into the queue or told that their time is up."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from detlab.engine.callbacks.checkpoints import load_checkpoint

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
LOSSES = ("l1", "giou", "diou", "ciou")
PATIENCE = 240  # seconds for anything to happen

DETECTOR = [
    "backbone.channels=[8,8,16,16,32]", "detector.fpn.out_channels=16", "detector.fpn.levels=[3,4]",
    "detector.head.channels=16", "detector.head.convs=1", "loader.batch_size=2", "augment=none", "logger.pictures=0",
    "schedule.iterations=200", "schedule.val_every=100", "schedule.warmup=20", "save_every=10", "report=false",
]  # fmt: skip
SLURM = [
    "hydra/launcher=submitit_slurm", "hydra.launcher.gpus_per_node=0", "hydra.launcher.cpus_per_task=1",
    "hydra.launcher.mem_gb=2", "hydra.launcher.timeout_min=5", "hydra.launcher.signal_delay_s=30",
]  # fmt: skip


class Sweep:
    """`detlab train -m` waiting for its jobs, in a folder of its own."""

    started: ClassVar[list[subprocess.Popen[str]]] = []

    def __init__(self, folder: Path, voc: Path, *arguments: str) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        rows = folder / "conf/experiment/toys/losses"
        rows.mkdir(parents=True, exist_ok=True)
        (rows.parent / "losses.yaml").write_text("title: Toys\nrows: {}\n")
        for loss in LOSSES:
            text = f"# @package _global_\ndefaults: [override /loss: focal_{loss}]\nname: toys/losses/{loss}\n"
            (rows / f"{loss}.yaml").write_text(text)
        broken = "# @package _global_\nname: toys/losses/broken\nschedule: {lr: 1e30, clip_norm: null}\n"
        (rows / "broken.yaml").write_text(broken)
        data = ["data=custom", "data.format=voc", f"data.root={voc}", "data.split=train", "data.val_split=val"]
        detlab = [sys.executable, "-m", "detlab", "train", "-m", "--config-dir", "conf"]
        path = {"PATH": f"{HERE}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "WANDB_MODE": "offline"}
        self.known = set(self.jobs())
        self.running = subprocess.Popen(
            [*detlab, *data, *DETECTOR, *SLURM, *arguments],
            cwd=folder, env=os.environ | path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.started.append(self.running)

    def jobs(self) -> list[str]:
        """The ids of the arrays that were submitted from here."""
        return [path.parent.name for path in self.folder.glob("runs/.submitit/*/*_submission.sh")]

    def job(self) -> str:
        """The id of this sweep's array."""
        wait_until(lambda: set(self.jobs()) > self.known, "the array is submitted")
        (job,) = set(self.jobs()) - self.known
        return job

    def end(self) -> tuple[int, str]:
        """Its exit status and what it printed."""
        try:
            said, _ = self.running.communicate(timeout=2 * PATIENCE)
        except subprocess.TimeoutExpired:
            self.running.kill()
            raise AssertionError(self.running.communicate()[0]) from None
        return self.running.returncode, said


def wait_until(happened: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.2)


def slurm(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def run_of(folder: Path, row: str) -> Path:
    return folder / "runs/toys/losses" / row / "mini/seed=0"


def printed(folder: Path, job: str) -> str:
    """All that an array's job printed, in all its attempts."""
    return "".join(path.read_text() for path in sorted((folder / "runs/.submitit" / job).glob("*_log.*")))


def assert_same_run(one: Path, other: Path) -> None:
    """The same weights, history and metrics to the last digit."""
    weights, others = (load_checkpoint(run / "checkpoints/last.ckpt")["state_dict"] for run in (one, other))
    for key, value in weights.items():
        assert torch.equal(value, others[key]), key
    results = [json.loads((run / "metrics.json").read_text()) for run in (one, other)]
    assert results[0]["status"] == "finished"
    for part in ("val", "test", "pr_curves"):
        assert results[0][part] == results[1][part]
    histories = []
    for run in (one, other):
        with (run / "metrics.csv").open() as file:
            histories.append([(row["step"], row["train/loss"], row["val/AP"]) for row in csv.DictReader(file)])
    assert histories[0] == histories[1]


@pytest.fixture(scope="module", autouse=True)
def nothing_left_waiting() -> Iterator[None]:
    yield
    for running in Sweep.started:
        if running.poll() is None:
            running.kill()


@pytest.fixture(scope="module")
def voc(finished) -> Path:
    return finished / "voc"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, voc) -> tuple[Path, str, int, str]:
    """Four rows of a table and one that breaks, as one sweep: its folder, array, exit status and output."""
    folder = tmp_path_factory.mktemp("undisturbed")
    sweep = Sweep(folder, voc, "experiment=glob(toys/losses/*)", "logger=csv")
    return folder, sweep.job(), *sweep.end()


def test_a_table_is_one_array_and_a_row_that_breaks_leaves_the_others_alone(undisturbed, voc):
    folder, array, status, said = undisturbed
    rows = sorted([*LOSSES, "broken"])
    assert {path.name for path in folder.glob(f"runs/.submitit/{array}_*")} == {
        f"{array}_{i}" for i in range(len(rows))
    }
    for loss in LOSSES:
        result = json.loads((run_of(folder, loss) / "metrics.json").read_text())
        assert result["status"] == "finished"
        assert result["experiment"] == f"toys/losses/{loss}"
        assert result["command"].startswith("detlab train --config-dir ")
        assert f"data.root={voc}" in result["command"]
        assert f"experiment=toys/losses/{loss}" in result["command"]
        assert " -m" not in result["command"]
    assert result["test"]["AP50"] > 0.1
    assert status == 1, said
    assert "The loss is not finite" in said.splitlines()[-1]
    assert "toys/losses/broken" in said.splitlines()[-1]
    failure = json.loads((run_of(folder, "broken") / "failure.json").read_text())
    assert "The loss is not finite" in failure["error"]
    assert "experiment=toys/losses/broken" in failure["command"]
    assert "The loss is not finite" in printed(folder, f"{array}_{rows.index('broken')}")


def test_a_job_put_back_into_the_queue_goes_on_from_its_last_checkpoint(undisturbed, tmp_path, voc):
    """By Slurm, as after pre-emption or a failed node (l1), and by the signal that time is up (giou)."""
    experiment = "experiment=toys/losses/l1,toys/losses/giou"
    sweep = Sweep(tmp_path / "requeued", voc, experiment, "logger=wandb", "loader.num_workers=1")
    array = sweep.job()
    runs = {row: run_of(sweep.folder, row) for row in ("l1", "giou")}
    for run in runs.values():
        wait_until((run / "checkpoints/last.ckpt").exists, f"{run} saves a checkpoint")
    slurm("scontrol", "requeue", f"{array}_0")
    slurm("scancel", "--signal=USR2", f"{array}_1")
    status, said = sweep.end()
    logs = [printed(sweep.folder, f"{array}_{task}") for task in (0, 1)]
    assert status == 0, "\n".join([said, *logs])
    for (row, run), task, log in zip(runs.items(), (0, 1), logs):
        assert "Restarts=1 " in slurm("scontrol", "--oneliner", "show", "job", f"{array}_{task}"), log
        assert log.count("Going on from") == 1, log
        assert "DataLoader worker" not in log
        assert_same_run(run, run_of(undisturbed[0], row))
        identity = (run / "wandb/run_id").read_text()
        parts = list((run / "wandb").glob("offline-run-*"))
        assert len(parts) == 2
        assert all(part.name.endswith(identity) for part in parts)
    # The loader's process was signalled, too, and left the answer to the training process.
    assert "Caught signal SIGUSR2" in logs[1]
    assert len(re.findall(r"submitit INFO .* Requeued job", logs[1])) == 1, logs[1]
    assert "this job is timed-out" in logs[1]
    assert "SIGUSR2" not in logs[0]


def test_the_same_command_goes_on_after_scancel(undisturbed, tmp_path, voc):
    folder, arguments = tmp_path / "cancelled", ("experiment=toys/losses/diou", "name=mine", "logger=csv")
    sweep = Sweep(folder, voc, *arguments)
    run = folder / "runs/mine/mini/seed=0"
    wait_until((run / "checkpoints/last.ckpt").exists, "a checkpoint is saved")
    slurm("scancel", sweep.job())
    status, said = sweep.end()
    assert status == 1, said
    assert "ended without a result (CANCELLED" in said.splitlines()[-1], said
    assert not (run / "failure.json").exists()
    assert not (run / "metrics.json").exists()
    status, said = Sweep(folder, voc, *arguments).end()
    assert status == 0, said
    assert "Going on from" in (run / "train.log").read_text()
    assert_same_run(run, run_of(undisturbed[0], "diou"))


def test_two_processes_train_one_detector_and_go_back_into_the_queue_together(tmp_path, voc):
    two = [
        "hydra/launcher=submitit_slurm_ddp", "trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu",
        "schedule.iterations=80", "schedule.val_every=40", "save_every=5",
    ]  # fmt: skip
    sweep = Sweep(tmp_path / "two", voc, "experiment=toys/losses/l1", "logger=csv", *two)
    array, run = sweep.job(), run_of(sweep.folder, "l1")
    wait_until((run / "checkpoints/last.ckpt").exists, "a checkpoint is saved")
    slurm("scancel", "--signal=USR2", array)
    status, said = sweep.end()
    log = printed(sweep.folder, array)
    assert status == 0, "\n".join([said, log])
    assert "Restarts=1 " in slurm("scontrol", "--oneliner", "show", "job", array), log
    assert log.count("Going on from") == 1, log
    assert "iterations of 4 images" in log
    assert json.loads((run / "metrics.json").read_text())["status"] == "finished"
