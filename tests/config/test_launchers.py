"""What carries out a sweep: presets that compose and say to Slurm what they should; several runs at once, of which
one fails."""

from __future__ import annotations

import json
import os
import shlex
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import submitit
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor
from omegaconf import OmegaConf
from torch.utils.data import DataLoader

from detlab.config.launch import CONFIG_DIR, launchers
from detlab.data.cores import cores
from detlab.data.workers import worker_context

PLAIN = ["logger.pictures=0", "report=false", "schedule.iterations=20", "schedule.val_every=20"]
ONE_FAILS = ["schedule.clip_norm=null", "schedule.lr=1e30,0.01", "name=s-${schedule.lr}"]


@pytest.fixture
def no_workers_left() -> Iterator[None]:
    yield
    get_reusable_executor().shutdown(wait=True)


def launcher_config(*overrides: str) -> Any:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"), warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/\w+' is validated against")
        return compose("train", list(overrides), return_hydra_config=True)


@pytest.mark.parametrize("name", [name for name in launchers() if name != "basic"])  # Hydra keeps that to itself
def test_every_launcher_composes_and_is_built(name):
    cfg = launcher_config(f"hydra/launcher={name}")
    launcher = instantiate(OmegaConf.create(OmegaConf.to_container(cfg, resolve=False)).hydra.launcher)
    assert type(launcher).__name__ == {"joblib": "JoblibLauncher", "submitit_local": "LocalLauncher"}.get(
        name, "SlurmLauncher"
    )


@pytest.fixture
def script(monkeypatch, tmp_path):
    """`script(*overrides)`: what submitit would hand to sbatch, and how often it would requeue after a time-out."""
    monkeypatch.chdir(tmp_path)
    Path("bin").mkdir()
    Path("bin/srun").touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}")

    def write(*overrides: str) -> tuple[str, int]:
        executors = []

        def keep(executor: Any, *_: Any) -> list[Any]:
            executors.append(executor._executor)
            return []

        monkeypatch.setattr(submitit.AutoExecutor, "map_array", keep)
        cfg = launcher_config(*overrides)
        launcher = instantiate(cfg.hydra.launcher)
        launcher.setup(hydra_context=None, task_function=None, config=cfg)
        launcher.launch([["seed=0"], ["seed=1"]], 0)
        (executor,) = executors
        return executor._make_submission_file_text("python run.py", "0"), executor.max_num_timeout

    return write


def test_slurm_is_told_what_a_run_needs_and_to_requeue_it(script):
    text, timeouts = script("hydra/launcher=submitit_slurm", "hydra.launcher.partition=gpu", "hydra.launcher.mem_gb=48")
    assert timeouts > 0
    lines = text.splitlines()
    for flag in ("requeue", "signal=USR2@120", "time=1440", "partition=gpu", "mem=48GB", "gpus-per-node=1",
                 "cpus-per-task=8", "ntasks-per-node=1", "nodes=1", "open-mode=append"):  # fmt: skip
        assert f"#SBATCH --{flag}" in lines
    assert not any(name in text for name in ("--gres", "--account", "--qos"))
    (exported,) = [i for i, line in enumerate(lines) if "SRUN_CPUS_PER_TASK" in line]
    (started,) = [i for i, line in enumerate(lines) if line.startswith("srun")]
    assert exported < started
    assert f"{Path.cwd()}/runs/.submitit/%j" in text


def test_other_words_of_slurm_and_submitit(script):
    text, _ = script(
        "hydra/launcher=submitit_slurm", "hydra.launcher.gpus_per_node=null", "hydra.launcher.gres=gpu:a100:1",
        "+hydra.launcher.additional_parameters.reservation=mine", "+hydra.launcher.use_srun=false",
    )  # fmt: skip
    assert "#SBATCH --gres=gpu:a100:1" in text
    assert "--gpus-per-node" not in text
    assert "#SBATCH --reservation=mine" in text
    assert "#SBATCH --requeue" in text
    assert "\npython run.py\n" in text


def test_a_process_and_a_gpu_for_each_device(script):
    text, _ = script("hydra/launcher=submitit_slurm_ddp", "trainer.devices=4")
    for flag in ("ntasks-per-node=4", "gpus-per-node=4", "nodes=1", "requeue"):
        assert f"#SBATCH --{flag}\n" in text
    assert "#SBATCH --nodes=2\n" in script("hydra/launcher=submitit_slurm_ddp", "+trainer.num_nodes=2")[0]


def assert_one_failed_and_the_other_did_not(result: Any, extra: list[str]) -> str:
    """Returns the command that the other one recorded."""
    assert result.status == 1
    last = result.err.strip().splitlines()[-1]
    assert "the first to fail, runs/s-1e+30/mini/seed=0: The loss is not finite" in last
    failure = json.loads(Path("runs/s-1e+30/mini/seed=0/failure.json").read_text())
    metrics = json.loads(Path("runs/s-0.01/mini/seed=0/metrics.json").read_text())
    assert metrics["status"] == "finished"
    assert "The loss is not finite" in failure["error"]
    for record, lr in ((failure, "1e+30"), (metrics, "0.01")):
        words = shlex.split(record["command"])
        assert words[:2] == ["detlab", "train"]
        assert {f"schedule.lr={lr}", "seed=0", *extra} <= set(words)
        assert not {"-m", "schedule.lr=1e30,0.01"} & set(words)
        assert not [word for word in words if "launcher" in word]
        assert len(record["commit"]) >= 40
    return metrics["command"]


@pytest.mark.slow
@pytest.mark.usefixtures("no_workers_left")
def test_several_runs_at_once(detlab, tiny, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    loading = "loader.num_workers=1"  # a run may start processes of its own
    result = detlab(
        "train", "-m", *tiny, *PLAIN, *ONE_FAILS, loading, "hydra/launcher=joblib", "seed=0", "logger=wandb"
    )
    assert_one_failed_and_the_other_did_not(result, ["logger=wandb"])
    assert "#1 Finished in" in result.out
    assert "deprecated" not in result.err
    identities = [(run / "wandb/run_id").read_text() for run in Path("runs").glob("s-*/mini/seed=0")]
    assert len(set(identities)) == 2
    for run in Path("runs").glob("s-*/mini/seed=0"):
        (part,) = (run / "wandb").glob("offline-run-*")
        assert part.name.endswith((run / "wandb/run_id").read_text())


def loaded() -> int:
    return len(list(DataLoader(range(4), num_workers=1, multiprocessing_context=worker_context(1))))  # type: ignore


@pytest.mark.slow
@pytest.mark.usefixtures("no_workers_left")
def test_what_joblib_started_may_load_with_processes():
    assert Parallel(n_jobs=2, backend="loky")(delayed(loaded)() for _ in range(2)) == [4, 4]
    assert worker_context(1) is None  # here nothing is unusual


@pytest.mark.slow
@pytest.mark.usefixtures("no_workers_left")
def test_runs_side_by_side_have_a_thread_and_a_core_each(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    options = OmegaConf.to_container(launcher_config("hydra/launcher=joblib").hydra.launcher)
    assert options["n_jobs"] == -1
    shares = Parallel(n_jobs=max(os.cpu_count() or 1, 2), backend="loky")(
        delayed(call)() for call in (cores, torch.get_num_threads)
    )
    assert shares == [1, 1]


@pytest.mark.slow
def test_processes_of_submitit(detlab, tiny):
    result = detlab("train", "-m", *tiny, *PLAIN, *ONE_FAILS, "hydra/launcher=submitit_local", "seed=0", "logger=csv")
    command = assert_one_failed_and_the_other_did_not(result, ["logger=csv"])
    printed = "".join(path.read_text() for path in Path("runs/.submitit").glob("*/*_log.*"))
    assert "Finished in" in printed
    assert "runs/s-1e+30/mini/seed=0 failed: The loss is not finite" in printed
    again = detlab(*shlex.split(command)[1:])
    assert again.status == 0
    assert again.out == "runs/s-0.01/mini/seed=0 is finished already (overwrite=true runs it again).\n"


def test_a_launcher_without_a_sweep_is_refused_instead_of_ignored(detlab):
    result = detlab("train", "hydra/launcher=joblib")
    assert result.status == 1
    assert result.err == "detlab: hydra/launcher=joblib carries out sweeps: add -m, with one run or several.\n"
