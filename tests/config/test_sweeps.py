"""A sweep is looked through before its first job; a job that fails speaks up, is kept, and stops nobody."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLAIN = ["logger=csv", "logger.pictures=0", "report=false", "save_every=1"]


def metrics(run: str | Path) -> dict:
    return json.loads((Path(run) / "metrics.json").read_text())


@pytest.mark.slow
def test_a_run_that_fails_is_kept_and_the_others_run(detlab, tiny):
    sweep = ["train", "-m", *tiny, *PLAIN, "schedule.clip_norm=null", "schedule.iterations=40", "name=s-${schedule.lr}"]
    result = detlab(*sweep, "schedule.lr=1e30,0.01", "seed=0")
    assert result.status == 1
    assert "detlab: runs/s-1e+30/mini/seed=0 failed: The loss is not finite" in result.err
    assert result.err.strip().splitlines()[-1].startswith("detlab: Not every run of the sweep ended well; the first")
    failure = json.loads(Path("runs/s-1e+30/mini/seed=0/failure.json").read_text())
    assert failure["kind"] == "UserError"
    assert failure["error"].startswith("The loss is not finite")
    assert "Traceback" in failure["traceback"]
    assert metrics("runs/s-0.01/mini/seed=0")["status"] == "finished"
    written = Path("runs/s-0.01/mini/seed=0/metrics.json").stat().st_mtime_ns
    again = detlab(*sweep, "schedule.lr=1e30,0.01", "seed=0")
    assert again.status == 1
    assert "s-0.01/mini/seed=0 is finished already" in again.out
    assert Path("runs/s-0.01/mini/seed=0/metrics.json").stat().st_mtime_ns == written


@pytest.mark.slow
def test_a_bug_in_one_row_is_printed_kept_and_stops_nobody(detlab, tiny, monkeypatch):
    from detlab.engine import module as lit

    original = lit.refuse_non_finite

    def first_seed_breaks(total, losses, batch):
        if Path("runs/s/mini/seed=0/config.yaml").exists() and not Path("runs/s/mini/seed=1").exists():
            raise RuntimeError("a bug")
        original(total, losses, batch)

    monkeypatch.setattr(lit, "refuse_non_finite", first_seed_breaks)
    result = detlab("train", "-m", *tiny, *PLAIN, "name=s", "seed=0,1")
    assert result.status == 1
    assert "RuntimeError: a bug" in result.err
    assert result.err.strip().splitlines()[-1].endswith("the first to fail, runs/s/mini/seed=0: a bug.")
    assert json.loads(Path("runs/s/mini/seed=0/failure.json").read_text())["error"] == "a bug"
    assert metrics("runs/s/mini/seed=1")["status"] == "finished"
    monkeypatch.setattr(lit, "refuse_non_finite", original)
    mended = detlab("train", "-m", *tiny, *PLAIN, "name=s", "seed=0,1")
    assert mended.status == 0, mended.err
    assert not Path("runs/s/mini/seed=0/failure.json").exists()


@pytest.mark.slow
def test_a_row_that_cannot_be_is_said_at_the_start_and_fails_alone(detlab, tiny):
    pairs = "loss=focal_giou,focal_giou_centerness"
    result = detlab("train", "-m", *tiny, *PLAIN, pairs, "detector=single_anchor", "name=s-${loss.box_weighting}")
    assert result.status == 1
    assert "detlab: a row of this sweep cannot run: loss=focal_giou_centerness: loss.quality (Centerness)" in result.err
    assert metrics("runs/s-none/mini/seed=0")["status"] == "finished"
    assert (
        "detector.head.quality=iou" in json.loads(Path("runs/s-quality/mini/seed=0/failure.json").read_text())["error"]
    )


def test_a_sweep_of_which_nothing_can_run_or_be_composed_does_not_begin(detlab, tiny):
    nothing = detlab("train", "-m", *tiny, *PLAIN, "seed=0,1", "loss=focal_giou_centerness")
    assert nothing.status == 1
    assert "No row of this sweep can run: loss.quality (Centerness) needs quality" in nothing.err
    broken = detlab("train", "-m", *tiny, *PLAIN, "seed=0,1", "schedule.lrr=1,2")
    assert broken.status == 1
    assert "There is no key 'schedule.lrr' in the config (did you mean 'schedule.lr'?)." in broken.err
    assert not Path("runs").exists()


@pytest.mark.slow
def test_a_changed_config_is_refused_with_the_difference_and_leaves_the_old_run(detlab, tiny):
    assert detlab("train", "-m", *tiny, *PLAIN, "name=s", "seed=0,1").status == 0
    before = Path("runs/s/mini/seed=0/metrics.json").read_text()
    result = detlab("train", "-m", *tiny, *PLAIN, "name=s", "seed=0,1", "schedule.lr=0.5")
    assert result.status == 1
    assert result.err.count("schedule.lr: 0.002 → 0.5") >= 2
    assert Path("runs/s/mini/seed=0/metrics.json").read_text() == before
    assert not Path("runs/s/mini/seed=0/failure.json").exists()


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "detlab.commands.train", *arguments]
    return subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
                            text=True, start_new_session=True)  # fmt: skip


@pytest.mark.slow
def test_two_processes_do_not_train_in_one_folder(tmp_path, tiny, detlab):
    running = start(tmp_path, *tiny, *PLAIN, "run_dir=run", "schedule.iterations=4000", "schedule.val_every=4000")
    last = tmp_path / "run/checkpoints/last.ckpt"
    deadline = time.monotonic() + 120
    while not last.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    second = detlab("train", *tiny, *PLAIN, "run_dir=run", "schedule.iterations=4000", "schedule.val_every=4000")
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    assert second.status == 1
    assert "run: another process is training in this folder" in second.err
    assert not (tmp_path / "run/failure.json").exists()


@pytest.mark.slow
def test_a_sweep_killed_three_times_ends_as_one_left_alone(tmp_path, tiny):
    """SIGKILL at random moments; the same command again each time."""
    rows = ["-m", *tiny, *PLAIN, "augment=scratch", "save_every=7", "schedule.iterations=60", "schedule.val_every=20",
            "name=s-${loss.localization_weight}", "loss.localization_weight=1,2", "seed=0,1"]  # fmt: skip
    whole = start(tmp_path, *rows, "run_dir=whole/${name}/${seed}")
    _, err = whole.communicate(timeout=300)
    assert whole.returncode == 0, err
    began = {path: path.stat().st_mtime for path in tmp_path.glob("whole/*/*/config.yaml")}
    ends = {path: path.stat().st_mtime for path in tmp_path.glob("whole/*/*/metrics.json")}
    length = max(ends.values()) - min(began.values())
    rng = random.Random(0)
    finished: dict[Path, int] = {}
    kills = 0
    while kills < 3:
        running = start(tmp_path, *rows, "run_dir=parts/${name}/${seed}")
        first = time.monotonic() + 120
        while not list(tmp_path.glob("parts/*/*/config.yaml")) and time.monotonic() < first:
            time.sleep(0.05)
        try:
            running.communicate(timeout=rng.uniform(0.2, 0.5) * length + 4)  # 4 s of it go into starting
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            running.communicate()
        kills += 1
        for path, written in finished.items():
            assert path.stat().st_mtime_ns == written, "a finished run ran twice"
        for path in tmp_path.glob("parts/*/*/metrics.json"):
            assert json.loads(path.read_text())["status"] == "finished"
            finished.setdefault(path, path.stat().st_mtime_ns)
    last = start(tmp_path, *rows, "run_dir=parts/${name}/${seed}")
    _, err = last.communicate(timeout=300)
    assert last.returncode == 0, err
    for path in tmp_path.glob("whole/*/*"):
        other = tmp_path / "parts" / path.relative_to(tmp_path / "whole")
        assert metrics(other)["test"] == metrics(path)["test"]
        assert metrics(other)["val"] == metrics(path)["val"]
        assert (other / "predictions.json").read_bytes() == (path / "predictions.json").read_bytes()
    assert not list(tmp_path.rglob("*.part"))
