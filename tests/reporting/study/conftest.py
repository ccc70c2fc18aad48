"""Rows and run folders made by hand."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml

from detlab.reporting.study.table import Run, TableRow


@pytest.fixture
def row() -> Callable[..., TableRow]:
    """`row("a", AP=[50, 51], AP75=[40, None])`: a row with a finished run per value, from seed 0, in points; where
    every metric has None, the run of that seed is not finished."""

    def make(name: str, first_seed: int = 0, **metrics: Sequence[float | None]) -> TableRow:
        runs = []
        for position, values in enumerate(zip(*metrics.values())):
            seed = first_seed + position
            test = {metric: value / 100 for metric, value in zip(metrics, values) if value is not None}
            state = "finished" if test else "unfinished"
            runs.append(Run(Path(f"{name}/seed={seed}"), seed, state, {"test": test} if test else {}))
        return TableRow(name, name, {}, runs)

    return make


@pytest.fixture
def make_run() -> Callable[..., Path]:
    """`make_run(folder, AP=0.5)`: a finished run as training leaves it; without metrics, an unfinished one; `failed`
    gives the sentence that it ended with, `command` what trained it."""

    def make(
        folder: Path,
        config: dict | None = None,
        failed: str = "",
        command: str = "detlab train experiment=made",
        **metrics: float | None,
    ) -> Path:
        seed = int(folder.name.partition("=")[2] or 0)
        folder.mkdir(parents=True)
        whole = {"name": "made", "seed": seed, "setting": "mini", "schedule": {"lr": 0.1}, **(config or {})}
        (folder / "config.yaml").write_text(yaml.safe_dump(whole))
        (folder / "metrics.csv").write_text("step,train/loss\n1,0.5\n2,0.25\n")
        if failed:
            (folder / "failure.json").write_text(json.dumps({"error": failed, "kind": "ValueError"}))
        if metrics:
            result = {"status": "finished", "seed": whole["seed"], "command": command, "commit": "abc"}
            (folder / "metrics.json").write_text(json.dumps({**result, "val": {}, "test": metrics}))
        return folder

    return make
