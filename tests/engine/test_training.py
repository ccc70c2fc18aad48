"""Fitting and evaluating a model that is no detector: what is kept, what ends it, what is recorded."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningDataModule, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from detlab.engine.distributed.group import Group
from detlab.engine.distributed.place import Place
from detlab.engine.optim import Schedule
from detlab.engine.run_folder import RunFolder
from detlab.engine.training import Fitted, Job, RunRecord, finished_metrics, fit_and_evaluate, recorded
from detlab.errors import UserError


class Line(LightningModule):
    """y = w · x, with a loss and a metric."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self.schedule = schedule
        self.weight = torch.nn.Linear(1, 1)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:  # noqa: ARG002
        loss = (self.weight(batch) - 2 * batch).square().mean()
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:  # noqa: ARG002
        self.log("val/error", self.weight(batch).mean())

    def test_step(self, batch: Tensor, batch_idx: int) -> None:  # noqa: ARG002
        self.log("test/error", self.weight(batch).mean())

    def configure_optimizers(self) -> Any:
        return self.schedule.build(self, self.schedule.base_batch)


class Numbers(LightningDataModule):
    """The same four numbers for each stage."""

    def train_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader(torch.ones(4, 1), 2)  # type: ignore[arg-type]

    val_dataloader = test_dataloader = train_dataloader


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(
        RunRecord("line", None, "mini", 0, "detlab train"),
        RunFolder(tmp_path / "run"),
        {"name": "line"},
        Schedule(4, 0.1, val_every=2),
        partial(Trainer, accelerator="cpu", devices=1),
        log_every=1,
    )


def save(fitted: Fitted) -> dict[str, Any]:
    return {**fitted.result, "values": fitted.values}


def test_any_module_is_fitted_and_tested(job: Job) -> None:
    saved = fit_and_evaluate(job, Line(job.schedule), Numbers(), save, group=Group(Place()))
    assert (saved["name"], saved["command"], saved["iterations"]) == ("line", "detlab train", 4)
    assert {"commit", "device", "minutes", "images_per_second", "memory_gib"} <= saved.keys()
    assert saved["values"].keys() == {"val/error", "test/error"}
    rows = job.folder.history.read_text().splitlines()
    assert "train/loss" in rows[0]
    assert not job.folder.last.exists()  # no checkpoint callback was given


class _Stopped(Line):
    error: BaseException

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        if self.global_step == 2:
            raise self.error
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), UserError("no"), SystemExit(3)], ids=repr)
def test_what_ends_a_training_comes_through_and_the_history_is_kept(job: Job, error: BaseException) -> None:
    module = _Stopped(job.schedule)
    module.error = error
    with pytest.raises(type(error)):
        fit_and_evaluate(job, module, Numbers(), save, group=Group(Place()))
    assert len(job.folder.history.read_text().splitlines()) == 3


def test_a_failure_is_recorded_where_the_run_had_begun(tmp_path: Path) -> None:
    folder, group = RunFolder(tmp_path / "run"), Group(Place())
    with pytest.raises(UserError), recorded(folder, group, "detlab train"):
        raise UserError("before it began")
    assert not folder.path.exists()
    with pytest.raises(UserError), recorded(folder, group, "detlab train", unclaimed=True):
        raise UserError("a job of a sweep")
    assert json.loads(folder.failure.read_text())["error"] == "a job of a sweep"
    folder.open({"name": "x"})
    with pytest.raises(ZeroDivisionError), recorded(folder, group, "detlab train"):
        raise ZeroDivisionError("later")
    failure = json.loads(folder.failure.read_text())
    assert (failure["kind"], failure["command"]) == ("ZeroDivisionError", "detlab train")
    RunFolder(folder.path).open({"name": "x"})  # others may have it now


def test_only_a_finished_run_of_the_same_config_is_skipped(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    assert finished_metrics(folder, {"seed": 0}, overwrite=False) is None
    folder.open({"seed": 0})
    folder.metrics.write_text(json.dumps({"status": "finished"}))
    assert finished_metrics(folder, {"seed": 0}, overwrite=False) == {"status": "finished"}
    assert finished_metrics(folder, {"seed": 1}, overwrite=False) is None
    assert finished_metrics(folder, {"seed": 0}, overwrite=True) is None
    folder.release()
