"""Whole trainings of a toy detector: what a run leaves, resuming, refusing, and what W&B kept."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from detlab.engine.callbacks.checkpoints import load_checkpoint
from detlab.losses.self_balance import SelfBalance

ROOT = Path(__file__).resolve().parents[2]


def read_rows(path) -> list[dict[str, str]]:
    with Path(path).open() as file:
        return list(csv.DictReader(file))


@pytest.fixture
def offline_run(detlab, tiny):
    result = detlab("train", *tiny, "run_dir=run", "logger=wandb")
    assert result.status == 0, result.err
    return Path("run"), result


@pytest.mark.slow
def test_a_run_leaves_its_files_and_its_names(offline_run):
    run, result = offline_run
    assert "iteration 4/4  val AP" in result.out
    assert result.err == ""
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["status"] == "finished"
    assert metrics["iterations"] == 4
    assert metrics["classes"] == ["blue", "red"]
    for stage in ("val", "test"):
        assert {"AP", "AP50", "AP75", "AP60", "AP70", "AP80", "AP90", "APs", "mAP_voc"} <= metrics[stage].keys()
        assert {"AP/red", "AP50/blue"} <= metrics[stage].keys()
    rows = read_rows(run / "metrics.csv")
    assert {"train/loss", "train/loss_classification", "train/loss_localization", "val/AP"} <= rows[0].keys()
    assert [r["step"] for r in rows if r["val/AP"]] == ["1", "3"]
    assert sum(bool(r["train/loss"]) for r in rows) == 4
    for name in ("config.yaml", "predictions.json", "report.html", "train.log", "figures/example_00.png"):
        assert (run / name).stat().st_size > 0, name
    for name in ("best", "last"):
        assert load_checkpoint(run / "checkpoints" / f"{name}.ckpt")["detlab"]["classes"] == ["blue", "red"]


@pytest.mark.slow
def test_wandb_kept_history_config_and_a_picture(offline_run):
    run, _ = offline_run
    folder = next((run / "wandb").glob("offline-run-*"))
    wandb = Path(sys.executable).parent / "wandb"
    done = subprocess.run([wandb, "leet", "inspect", "--json", folder], capture_output=True, text=True, check=True)
    text = done.stdout
    assert "val/AP" in text
    assert "image-file" in text or "images/separated" in text
    assert "schedule" in text
    assert list(folder.rglob("media/images/**/*.png"))


@pytest.mark.slow
def test_a_finished_run_is_skipped_and_a_changed_one_refused(detlab, tiny):
    tiny = [*tiny, "run_dir=run", "logger=csv", "report=false"]
    assert detlab("train", *tiny).status == 0
    written = Path("run/metrics.json").stat().st_mtime_ns
    again = detlab("train", *tiny)
    assert again.status == 0
    assert "is finished already" in again.out
    assert Path("run/metrics.json").stat().st_mtime_ns == written
    changed = detlab("train", *tiny, "schedule.lr=0.5")
    assert changed.status == 1
    assert re.search(r"schedule\.lr: \S+ → 0\.5\)", changed.err)
    assert Path("run/metrics.json").stat().st_mtime_ns == written


@pytest.mark.slow
@pytest.mark.parametrize(
    ("extra", "stop"),
    [
        ([], 4),
        (["callbacks=ema"], 4),
        (["callbacks=ema"], 3),
        (["method=alrp"], 2),  # 1 % of the training is one iteration, at least
        (["method=alrp", "loss.period=2"], 1),
        (["method=alrp", "loss.period=2", "callbacks=ema"], 3),
        (["method=alrp", "loss.period=2"], 4),
    ],
)
def test_a_stopped_run_goes_on_bit_for_bit(detlab, tiny, power_cut, extra, stop):
    """Stopped after 4 of 6 iterations, or after 3, where a validation has just been; aLRP has a state of its own."""
    tiny = [*tiny, "logger=csv", "logger.pictures=0", "report=false", "save_every=1", "augment=scratch",
            "schedule.iterations=6", "schedule.val_every=3", *extra]  # fmt: skip
    assert detlab("train", *tiny, "run_dir=whole").status == 0
    with power_cut(stop), pytest.raises(RuntimeError, match="power cut"):
        detlab("train", *tiny, "run_dir=parts")
    assert load_checkpoint("parts/checkpoints/last.ckpt")["global_step"] == stop
    resumed = detlab("train", *tiny, "run_dir=parts")
    assert resumed.status == 0
    assert "Going on from" in resumed.out
    whole, parts = (load_checkpoint(f"{name}/checkpoints/last.ckpt") for name in ("whole", "parts"))
    for key, value in whole["state_dict"].items():
        assert torch.equal(value, parts["state_dict"][key]), key
    assert Path("whole/predictions.json").read_text() == Path("parts/predictions.json").read_text()
    histories = [read_rows(f"{name}/metrics.csv") for name in ("whole", "parts")]
    for name in ("train/loss", "val/AP", *(["train/box_factor"] if "method=alrp" in extra else [])):
        assert [row[name] for row in histories[0]] == [row[name] for row in histories[1]]


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
def test_self_balancing_goes_by_periods_of_optimizer_steps(detlab, tiny, accumulate):
    """The factor of the boxes is 50 until the last iteration of the first period, from there on the ratio of means."""
    assert detlab("train", *tiny, "run_dir=run", "logger=csv", "method=alrp", "report=false", "loss.period=2",
                  f"trainer.accumulate_grad_batches={accumulate}",
                  "schedule.iterations=7", "schedule.val_every=7").status == 0  # fmt: skip
    rows = [row for row in read_rows("run/metrics.csv") if row["train/loss"]]
    factors, total, boxes = (
        [float(row[f"train/{n}"]) for row in rows] for n in ("box_factor", "loss", "loss_localization")
    )
    assert len(rows) == 7
    assert factors[0] == 50
    assert len(set(factors)) == 4
    for last in (1, 3, 5):
        assert factors[last] == factors[last + 1] != factors[last - 1]
        if accumulate == 1:  # else the history has only one of an iteration's batches
            both = slice(last - 1, last + 1)
            assert factors[last] == pytest.approx(sum(total[both]) / sum(boxes[both]), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 3])
def test_self_balancing_is_told_how_long_an_epoch_and_the_training_are(detlab, tiny, monkeypatch, accumulate):
    told = []
    monkeypatch.setattr(SelfBalance, "begin", lambda _, *lengths: told.append(lengths))
    assert detlab("train", *tiny, "run_dir=run", "logger=csv", "method=alrp", "report=false", "schedule.iterations=3",
                  f"trainer.accumulate_grad_batches={accumulate}", "schedule.val_every=3").status == 0  # fmt: skip
    assert told == [({1: 2, 3: 1}[accumulate], 3)]


def test_a_loss_that_is_not_finite_names_the_images_and_keeps_what_was_saved(detlab, tiny):
    tiny = [*tiny, "logger=csv", "logger.pictures=0", "report=false", "save_every=1", "schedule.iterations=40"]
    result = detlab("train", *tiny, "run_dir=run", "schedule.lr=1e30", "schedule.clip_norm=null")
    assert result.status == 1
    assert "The loss is not finite" in result.err
    assert "image ids [" in result.err
    assert load_checkpoint("run/checkpoints/last.ckpt")["global_step"] >= 1


@pytest.mark.slow
def test_a_picture_that_goes_bad_costs_itself_alone_and_is_counted(detlab, tiny, voc):
    picture = voc / "JPEGImages" / "0000.jpg"
    content = picture.read_bytes()
    picture.write_bytes(content[: len(content) // 2])
    tiny = [*tiny, "logger=csv", "logger.pictures=0", "report=false", "loader.cache_images=false"]
    refused = detlab("train", *tiny, "run_dir=refused")
    assert refused.status == 1
    assert "0000.jpg" in refused.err
    skipped = detlab("train", *tiny, "run_dir=skipped", "data.on_error=skip_box")
    assert skipped.status == 0
    rows = read_rows("skipped/metrics.csv")
    assert sum(float(row["train/skipped_images"] or 0) for row in rows) >= 1
    assert picture.read_bytes() == content[: len(content) // 2]


@pytest.mark.slow
def test_a_sweep_runs_apart_and_a_failing_job_does_not_stop_the_others(detlab, tiny):
    tiny = [*tiny, "logger=csv", "logger.pictures=0", "report=false", "run_dir=sweep/${seed}-${schedule.lr}"]
    result = detlab("train", "-m", *tiny, "seed=0,1", "schedule.lr=0.01")
    assert result.status == 0, result.err
    assert {p.name for p in Path("sweep").iterdir()} == {"0-0.01", "1-0.01"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "extra",
    [
        ["trainer.precision=bf16-mixed"],
        ["trainer.accumulate_grad_batches=2"],
        ["method=atss"],
        ["loader.num_workers=1"],
    ],
    ids=["bf16-mixed", "accumulated", "atss", "worker"],
)
def test_other_ways_to_train_reach_the_end(detlab, tiny, extra):
    tiny = [*tiny, "logger=csv", "logger.pictures=0", "report=false", "run_dir=run", *extra]
    result = detlab("train", *tiny)
    assert result.status == 0, result.err
    rows = read_rows("run/metrics.csv")
    losses = [float(row["train/loss"]) for row in rows if row["train/loss"]]
    assert len(losses) == 4
    assert all(0 < loss < 100 for loss in losses)
    assert sum(bool(row["val/AP"]) for row in rows) == 2


@pytest.mark.slow
def test_a_toy_detector_learns_red_and_blue_squares(detlab, tiny):
    """Loss falls and AP50 rises far above chance: the parts fit together the right way round."""
    wider = ["backbone.channels=[16,16,32,32,64]", "detector.fpn.out_channels=32", "detector.head.channels=32"]
    longer = ["schedule.iterations=150", "schedule.val_every=150", "schedule.warmup=20", "loader.batch_size=4"]
    tiny = [*tiny, *wider, *longer, "logger=csv", "logger.pictures=0", "report=false", "run_dir=run", "logger.every=5"]
    assert detlab("train", *tiny, "data.val_split=train").status == 0
    losses = [float(row["train/loss"]) for row in read_rows("run/metrics.csv") if row["train/loss"]]
    assert losses[-1] < 0.4 * losses[0]
    assert json.loads(Path("run/metrics.json").read_text())["test"]["AP50"] > 0.5


@pytest.mark.slow
def test_the_last_iteration_is_validated_whatever_the_interval(detlab, tiny):
    tiny = [*tiny, "logger=csv", "logger.pictures=0", "report=false", "run_dir=run"]
    assert detlab("train", *tiny, "schedule.iterations=5", "schedule.val_every=2").status == 0
    assert [row["step"] for row in read_rows("run/metrics.csv") if row["val/AP"]] == ["1", "3", "4"]


@pytest.mark.slow
def test_a_run_stopped_in_its_final_test_keeps_its_validation(detlab, tiny):
    tiny = [*tiny, "logger=csv", "logger.pictures=0", "report=false", "run_dir=run"]
    assert detlab("train", *tiny).status == 0
    before = json.loads(Path("run/metrics.json").read_text())
    Path("run/metrics.json").unlink()
    assert detlab("train", *tiny).status == 0
    after = json.loads(Path("run/metrics.json").read_text())
    assert after["val"].keys() == before["val"].keys()
    assert after["test"] == before["test"]


def hear_ctrl_c():
    """A job in a shell's background is started with SIGINT ignored, and hands that down."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on_and_the_run_goes_on(tmp_path, tiny):
    command = [sys.executable, "-m", "detlab.commands.train", *tiny, "logger=csv", "logger.pictures=0", "report=false",
               "run_dir=run", "schedule.iterations=3000", "schedule.val_every=1500", "save_every=1"]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    running = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=hear_ctrl_c
    )
    last = tmp_path / "run/checkpoints/last.ckpt"
    deadline = time.monotonic() + 120
    while not last.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=120)
    assert running.returncode == 130, err
    assert "start the same command again" in err
    assert load_checkpoint(last)["global_step"] >= 1
