"""Trainings of a toy detector in two processes: the results of one, and how the processes end together."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from detlab.engine import module as lit
from detlab.engine.callbacks.checkpoints import load_checkpoint
from detlab.engine.distributed.group import Group

TWO = ["trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu"]
FOLLOW = "from detlab.config.training import follow; follow()"
WAIT = 300  # seconds, on a busy machine


@pytest.fixture
def words(tiny, voc) -> list[str]:
    """A training whose loss reduces twice and whose gradients are clipped; three pictures to evaluate on."""
    (voc / "ImageSets/Main/val.txt").write_text("0003\n0004\n0005\n")
    return [
        *tiny, "method=atss", "augment=scratch", "callbacks=ema", "schedule.clip_norm=0.5", "schedule.iterations=6",
        "schedule.val_every=3", "loader.eval_batch_size=1", "logger=csv", "report=false", "save_every=1",
        "postprocess.score_threshold=0.001",
        "resize=fixed", "resize.size=[64,64]",  # else each process pads its batch to the largest picture of its own
    ]  # fmt: skip


@pytest.fixture
def children(monkeypatch) -> list[subprocess.Popen]:
    """The processes that runs of this test have started; all must have ended with their run."""
    started: list[subprocess.Popen] = []
    original = Group._end_children

    def remember(self) -> None:
        started.extend(self._children)
        original(self)

    monkeypatch.setattr(Group, "_end_children", remember)
    return started


def rows(run: str) -> list[dict[str, str]]:
    with Path(run, "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def assert_same_results(run: str, expected: str) -> None:
    """Weights, averaged weights, histories, metrics and predictions, to float tolerance.

    A run that was killed may lack the losses of the iteration before.
    """
    found, wanted = (load_checkpoint(f"{name}/checkpoints/last.ckpt") for name in (run, expected))
    assert found["global_step"] == wanted["global_step"]
    for key in ("state_dict", "current_model_state"):
        assert found[key].keys() == wanted[key].keys()
        for name, value in wanted[key].items():
            torch.testing.assert_close(found[key][name], value, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
    assert len(rows(run)) == len(rows(expected))
    lacking = set()
    for mine, other in zip(rows(run), rows(expected), strict=True):
        for name, value in other.items():
            if value and not mine[name] and name.startswith("train/"):
                lacking.add(mine["step"])
            else:
                assert float(mine[name] or -1) == pytest.approx(float(value or -1), rel=1e-3, abs=1e-6, nan_ok=True), (
                    name
                )
    assert len(lacking) <= 1
    metrics = [json.loads(Path(name, "metrics.json").read_text()) for name in (run, expected)]
    for stage in ("val", "test"):
        assert metrics[0][stage] == pytest.approx(metrics[1][stage], abs=1e-6)
    predictions = [json.loads(Path(name, "predictions.json").read_text()) for name in (run, expected)]
    assert len(predictions[0]) == len(predictions[1]) > 0
    for mine, other in zip(*predictions, strict=True):
        assert (mine["image_id"], mine["category_id"]) == (other["image_id"], other["category_id"])
        assert mine["score"] == pytest.approx(other["score"], abs=1e-4)
        assert mine["bbox"] == pytest.approx(other["bbox"], abs=0.05)


@pytest.mark.slow
def test_two_processes_train_as_one_also_killed_in_between(detlab, words, children):
    one = detlab("train", *words, "run_dir=one", "loader.batch_size=4")
    assert one.status == 0, one.err

    command = [sys.executable, "-m", "detlab", "train", *words, *TWO, "run_dir=two", "loader.batch_size=2"]
    leader = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    follower = wait_for(lambda: child_of(leader.pid))
    wait_for(lambda: Path("two/checkpoints/last.ckpt").exists() or leader.poll() is not None)
    leader.kill()
    leader.wait()
    wait_for(lambda: gone(follower))
    assert not Path("two/metrics.json").exists()

    two = detlab("train", *words, *TWO, "run_dir=two", "loader.batch_size=2")
    assert two.status == 0, two.err
    assert two.err == ""
    assert "Going on from" in two.out
    assert "on 2 × CPU" in two.out
    assert two.out.count("Finished in") == 1  # one process speaks
    assert len(children) == 1
    assert gone(children[0].pid)
    assert_same_results("two", "one")
    assert json.loads(Path("two/metrics.json").read_text())["device"] == "2 × CPU"

    again = detlab("train", *words, *TWO, "run_dir=two", "loader.batch_size=2")
    assert again.status == 0
    assert "is finished already" in again.out
    assert len(children) == 1


@pytest.mark.slow
def test_two_processes_that_start_from_a_run_train_as_one(detlab, words):
    assert detlab("train", *words, "run_dir=start", "loader.batch_size=4", "seed=1").status == 0
    words = [*words, "start_from=start"]
    assert detlab("train", *words, "run_dir=one", "loader.batch_size=4").status == 0
    two = detlab("train", *words, *TWO, "run_dir=two", "loader.batch_size=2")
    assert two.status == 0, two.err
    assert two.out.count("Begins with the weights of start.") == 1
    assert_same_results("two", "one")


def wait_for(condition):
    deadline = time.monotonic() + WAIT
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def child_of(pid: int) -> int:
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return next((int(child) for child in found if b"follow()" in Path(f"/proc/{child}/cmdline").read_bytes()), 0)
    except FileNotFoundError:
        return 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("instead", "sentence", "trace"),
    [
        ("raise KeyError('a bug')", "Process 2 of 2 failed with KeyError('a bug'), see above.", True),
        ("os.kill(os.getpid(), 9)", "Process 2 of 2 was ended by SIGKILL (out of memory?); start the same", False),
        ("original(total * float('nan'), losses, batch)", "The loss is not finite (classification", False),
    ],
)
def test_a_process_that_fails_ends_all(detlab, words, children, monkeypatch, instead, sentence, trace):
    start = Group.start
    broken = f"""
import os
from detlab.engine import module as lit
original = lit.refuse_non_finite
def broken(total, losses, batch):
    {instead}
lit.refuse_non_finite = broken
"""
    monkeypatch.setattr(Group, "start", lambda self, size, follow: start(self, size, broken + follow))
    result = detlab("train", *words, *TWO, "run_dir=run")
    assert result.status == 1
    last = result.err.strip().splitlines()[-1]
    assert last.startswith(f"detlab: {sentence}")
    assert ("Traceback" in result.err) == trace
    assert json.loads(Path("run/failure.json").read_text())["error"] == last.removeprefix("detlab: ")
    assert gone(children[0].pid)


@pytest.mark.slow
def test_an_interrupted_leader_ends_all(detlab, words, children, monkeypatch):
    def terminate(*args):  # noqa: ARG001
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(lit, "refuse_non_finite", terminate)
    try:
        result = detlab("train", *words, "trainer.devices=2", "run_dir=run")
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.status == 130
    assert result.err.strip() == "detlab: Interrupted; start the same command again to go on from the last checkpoint."
    assert gone(children[0].pid)
    assert not Path("run/failure.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("starter", ["torchrun", "srun"])
def test_processes_that_were_there_already_agree(detlab, words, monkeypatch, starter):
    """The leader here and the follower beside it, told apart by the variables of their starter; first they are refused,
    then they train."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    names = {
        "torchrun": {"RANK": "{0}", "WORLD_SIZE": "2", "LOCAL_RANK": "{0}", "GROUP_RANK": "0",
                     "TORCHELASTIC_RUN_ID": "x", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
        "srun": {"SLURM_PROCID": "{0}", "SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2", "SLURM_LOCALID": "{0}",
                 "SLURM_NODEID": "0", "SLURM_JOB_ID": str(port), "SLURM_STEP_ID": "0",
                 "SLURM_STEP_NODELIST": "127.0.0.1"},
    }[starter]  # fmt: skip
    for name, value in names.items():
        monkeypatch.setenv(name, value.format(0))
    outcomes = {(): (0, ""), ("trainer.devices=1",): (1, f"detlab: {starter} started 2 processes")}
    for extra in [("trainer.devices=1",), ()] if starter == "torchrun" else [()]:
        command = [sys.executable, "-m", "detlab", "train", *words, *TWO, *extra, "run_dir=run"]
        follower = subprocess.Popen(
            command,
            env={**os.environ, **{name: value.format(1) for name, value in names.items()}},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            leader = detlab("train", *words, *TWO, *extra, "run_dir=run")
            out, err = follower.communicate(timeout=WAIT)
        finally:
            follower.kill()
        status, message = outcomes[extra]
        assert leader.status == status, leader.err
        assert leader.err.startswith(message)
        assert (follower.returncode, out, err) == (status, "", "")
    assert json.loads(Path("run/metrics.json").read_text())["status"] == "finished"


@pytest.mark.slow
def test_a_sweep_in_this_process_is_refused_before_anything_is_read(detlab, words):
    result = detlab("train", "-m", *words, "data.root=nowhere", "trainer.devices=1,2", "trainer.accelerator=cpu")
    assert result.status == 1
    assert "trainer.devices=2 in a sweep whose runs share a process: add hydra/launcher=submitit" in result.err


def test_a_refused_run_leaves_no_process(detlab, words, children):
    Path("run").mkdir()
    Path("run/config.yaml").write_text("seed: 1\n")
    result = detlab("train", *words, *TWO, "run_dir=run")
    assert result.status == 1
    assert "holds a run of another config" in result.err
    assert gone(children[0].pid)
