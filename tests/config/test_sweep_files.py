"""conf/sweeps: what W&B's agent would start is a command that detlab takes, with a run folder per trial; and a search
through Hydra's sweeper, where it is installed."""

from __future__ import annotations

import importlib.util
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import wandb
import yaml
from omegaconf import OmegaConf
from wandb.sdk.launch.sweeps import utils as agent

ROOT = Path(__file__).resolve().parents[2]
SWEEPS = sorted((ROOT / "conf" / "sweeps").glob("*.yaml"))

needs_optuna = pytest.mark.skipif(
    importlib.util.find_spec("optuna") is None, reason="the extra `search` is not installed"
)


@pytest.fixture
def fresh_wandb(monkeypatch):
    """Sets variables that W&B reads once in a process, as if in a process of their own."""

    def set_variables(**variables: str) -> None:
        wandb.teardown()
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    yield set_variables
    monkeypatch.undo()
    wandb.teardown()


def values(parameter: dict[str, Any]) -> list[Any]:
    """The first and the last value that the sweep's server can choose for a parameter."""
    if "values" in parameter:
        return parameter["values"]
    return [parameter["value"]] if "value" in parameter else [parameter["min"], parameter["max"]]


def command(sweep: dict[str, Any], choice: dict[str, Any]) -> list[str]:
    """The words that the agent starts for a choice of the server's, put together by its own functions."""
    words = agent.create_sweep_command_args({"args": {key: {"value": value} for key, value in choice.items()}})
    words |= {"env": ["/usr/bin/env"], "interpreter": ["python"], "program": [sweep["program"]]}
    started: list[str] = []
    for word in agent.create_sweep_command(list(sweep["command"])):
        started += words[word[2:-1]] if word.startswith("${") and word.endswith("}") else [word]
    return started


def choices(sweep: dict[str, Any]) -> list[dict[str, Any]]:
    names = sweep["parameters"]
    return [dict(zip(names, chosen)) for chosen in itertools.product(*map(values, names.values()))]


@pytest.mark.parametrize("file", SWEEPS, ids=lambda path: path.stem)
def test_every_trial_of_a_sweep_file_is_a_run_of_its_own(detlab, file):
    sweep = agent.load_sweep_config(str(file))
    assert sweep["method"] in ("grid", "random", "bayes")
    assert sweep["metric"] == {"name": "val/AP", "goal": "maximize"}
    assert "${args_no_hyphens}" in sweep["command"]
    folders, tried = set(), choices(sweep)
    for choice in (tried[0], tried[-1]):
        env, program, *words = command(sweep, choice)
        assert (env, program) == ("/usr/bin/env", "detlab")
        result = detlab(*words, "--cfg", "job", "--resolve")
        assert result.status == 0, result.err
        cfg = OmegaConf.create(result.out)
        folders.add(cfg.run_dir)
        for key, value in choice.items():
            found = cfg.method_name if key == "method" else OmegaConf.select(cfg, key)
            assert found == value or OmegaConf.is_config(found), key  # a group's option stands for its content
    assert len(folders) == 2


def test_words_that_the_agent_writes_mean_what_the_sweep_said(detlab):
    """Python's spelling of the values is read as Hydra's; None alone is not, and has to be written "null"."""
    choice = {"schedule.milestones": [2, 3], "schedule.lr": 1e-5, "compile": True, "schedule.clip_norm": "null",
              "name": "with words, and=signs"}  # fmt: skip
    words = agent.create_sweep_command_args({"args": {key: {"value": value} for key, value in choice.items()}})
    result = detlab("train", *words["args_no_hyphens"], "--cfg", "job")
    assert result.status == 0, result.err
    cfg = OmegaConf.create(result.out)
    assert cfg.schedule.milestones == [2, 3]
    assert cfg.schedule.lr == 1e-5
    assert cfg.compile is True
    assert cfg.schedule.clip_norm is None
    assert cfg.name == "with words, and=signs"


@pytest.mark.slow
def test_a_trial_trains_as_the_run_that_the_sweep_expects(detlab, tiny, tmp_path, fresh_wandb):
    """One trial of conf/sweeps/recipe.yaml as the agent starts it, in an environment as the agent sets it."""
    sweep = agent.load_sweep_config(str(ROOT / "conf" / "sweeps" / "recipe.yaml"))
    choice = choices(sweep)[0]
    parameters = tmp_path / "config-trial1.yaml"
    parameters.write_text(yaml.safe_dump({"wandb_version": 1, **{k: {"value": v} for k, v in choice.items()}}))
    given = {"WANDB_SWEEP_ID": "sweep1", "WANDB_RUN_ID": "trial1", "WANDB_SWEEP_PARAM_PATH": str(parameters)}
    fresh_wandb(**given, WANDB_DIR=str(tmp_path))
    _, _, *words = command(sweep, choice)
    result = detlab(*words, *tiny, "report=false", "logger.pictures=0", "schedule.iterations=2")
    assert result.status == 0, result.err
    (folder,) = tmp_path.glob("runs/recipe/*/mini/seed=0")
    assert folder.parts[-3] == "lr=0.0005,wd=0.0001,focal_l1"
    assert (folder / "wandb" / "run_id").read_text() == "trial1"
    (offline,) = (folder / "wandb").glob("offline-run-*-trial1")
    inspect = [Path(sys.executable).parent / "wandb", "leet", "inspect", "--json", offline]
    printed = subprocess.run(inspect, capture_output=True, text=True, check=True).stdout
    run = next(record["run"] for record in map(json.loads, printed.splitlines()) if record["type"] == "run")
    assert (run["run_id"], run["sweep_id"]) == ("trial1", "sweep1")
    assert run["config"]["update"]["schedule.lr"] == 0.0005  # the key that the sweep's own plots read
    assert run["config"]["update"]["schedule"]["lr"] == 0.0005


def test_sweep_files_are_no_choice_of_a_config(detlab):
    result = detlab("train", "sweeps=methods")
    assert result.status == 1
    assert "There is no key 'sweeps'" in result.err


@pytest.mark.skipif(importlib.util.find_spec("optuna") is not None, reason="the extra `search` is installed")
def test_a_search_without_optuna_says_how_to_get_it(detlab):
    result = detlab("train", "-m", "hydra/sweeper=search", "schedule.lr=interval(0.001,0.01)")
    assert result.status == 1
    assert "uv sync --extra search" in result.err


@needs_optuna
def test_a_search_goes_on_where_it_stopped_and_survives_a_failing_trial(detlab, tiny):
    search = ["train", "-m", *tiny, "logger=csv", "logger.pictures=0", "report=false", "hydra/sweeper=search",
              "name=search/lr=${schedule.lr},${schedule.optimizer}", "schedule.optimizer=adamw,sgdd",
              "schedule.lr=interval(0.001,0.01)"]  # fmt: skip
    first = detlab(*search, "hydra.sweeper.n_trials=3")
    second = detlab(*search, "hydra.sweeper.n_trials=5")
    assert (first.status, second.status) == (0, 0), first.err + second.err
    assert "sgdd" in first.err + second.err  # the trials that cannot run
    metrics = list(Path("runs/search").glob("*/mini/seed=0/metrics.json"))
    assert second.out.count("is finished already") == first.out.count("Finished in") >= 1
    best = max(json.loads(file.read_text())["val"]["AP"] for file in metrics)
    (found,) = (yaml.safe_load(file.read_text()) for file in sorted(Path("runs/.sweeps").glob("*/*.yaml"))[-1:])
    assert found["best_value"] == best
