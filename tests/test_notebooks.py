"""The notebooks run from top to bottom, on a few iterations of a toy detector."""

from __future__ import annotations

import base64
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_a_notebook_runs_and_shows_its_pictures(path: Path, tmp_path: Path, monkeypatch, toy) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "notebooks are kept without outputs"
    settings = {
        "ITERATIONS": "6",
        "RUN": str(tmp_path / "run"),
        "OVERRIDES": " ".join(
            [f"data.cache_dir={tmp_path / 'scenes'}", "data.train=16", "data.val=4", "data.test=4"]
            + [o for o in toy if not o.startswith(("schedule.", "logger.pictures"))]
            + ["schedule.warmup=1"]
        ),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(ROOT)}}).execute()
    pictures = [
        output["data"]["image/png"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) >= 4  # losses, metrics, PR curves and at least one example
    assert all(base64.b64decode(picture).startswith(b"\x89PNG") for picture in pictures)
