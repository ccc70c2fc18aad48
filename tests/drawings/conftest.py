"""Folders of finished runs, as training leaves them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import yaml

MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path) -> MakeRun:
    """`make_run("paper/table/row", seed, history)`: a run below ``tmp_path / "runs"``; nan: nothing was logged."""

    def make(
        row: str,
        seed: int = 0,
        history: Mapping[str, np.ndarray] | None = None,
        *,
        setting: str = "mini",
        status: str = "finished",
    ) -> Path:
        folder = tmp_path / "runs" / row / setting / f"seed={seed}"
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(yaml.safe_dump({"name": row, "seed": seed}))
        (folder / "metrics.json").write_text(json.dumps({"status": status, "val": {}, "test": {}}))
        columns = dict(history or {})
        lines = [",".join(columns)]
        for values in zip(*columns.values()):
            lines.append(",".join("" if np.isnan(v) else repr(float(v)) for v in values))
        (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
        return folder

    return make
