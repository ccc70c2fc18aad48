from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from detlab.errors import UserError
from detlab.reporting.pages.sources import Source, find_source

STUDY = "title: t\nrows: {a: {}}\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: Any) -> Path:
    """experiments/paper with two tables and what else lies there, and runs of one of them."""
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "experiments/paper/one.yaml": STUDY,
        "experiments/paper/two.yaml": STUDY,
        "experiments/paper/settings.yaml": "no: table\n",
        "experiments/paper/one/a.yaml": "name: paper/one/a\n",
        "experiments/paper/results/one-mini.json": "{}",
        "experiments/empty/README.md": "",
        "runs/paper/one/a/mini/seed=0/config.yaml": "seed: 0\n",
        "runs/paper/one/a/mini/seed=0/metrics.json": "{}",
        "runs/broken/seed=0/failure.json": "{}",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


ONE, TWO = Path("experiments/paper/one.yaml"), Path("experiments/paper/two.yaml")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("experiments/paper/one.yaml", Source("studies", [ONE])),
        ("paper/one", Source("studies", [ONE])),
        ("paper", Source("studies", [ONE, TWO])),
        ("experiments/paper", Source("studies", [ONE, TWO])),
        ("experiments/paper/", Source("studies", [ONE, TWO])),
        ("experiments/paper/one", Source("studies", [ONE])),
        (
            "experiments/paper/results/one-mini.json",
            Source("record", [Path("experiments/paper/results/one-mini.json")]),
        ),
        ("runs/paper/one/a/mini/seed=0", Source("run", [Path("runs/paper/one/a/mini/seed=0")])),
        ("runs/broken/seed=0", Source("run", [Path("runs/broken/seed=0")])),
        ("runs/paper/one", Source("folder", [Path("runs/paper/one")])),
        ("runs", Source("folder", [Path("runs")])),
    ],
)
def test_found(source: str, found: Source) -> None:
    assert find_source(source, [Path("experiments"), Path("nowhere")]) == found


@pytest.mark.usefixtures("here")
def test_from_inside_a_folder(monkeypatch: Any) -> None:
    monkeypatch.chdir("runs/paper/one/a/mini/seed=0")
    assert find_source(".", []).kind == "run"
    monkeypatch.chdir("..")
    assert find_source(".", []) == Source("folder", [Path(".")])
    assert find_source("seed=0", []).kind == "run"


MEND = "; give a table's file or name, a run's folder, or a folder that holds runs."
NO_TABLE = "this is no table (.yaml) and no recorded comparison (.json)"


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "paper/on",
            "there is no such file, folder or table (did you mean 'paper/one' or 'paper/two' or 'paper'?)" + MEND,
        ),
        ("papre", "there is no such file, folder or table (did you mean 'paper'" + "…"),
        ("runs/x/mini/seed=0", "there is no such file, folder or table" + MEND),
        ("runs/broken/seed=0/failure.json", NO_TABLE + "; give its folder, runs/broken/seed=0."),
        ("experiments/empty/README.md", NO_TABLE + "."),
    ],
)
def test_not_found(source: str, message: str) -> None:
    with pytest.raises(UserError) as refused:
        find_source(source, [Path("experiments")])
    begin, cut, _ = f"{source}: {message}".partition("…")
    assert str(refused.value).startswith(begin) if cut else str(refused.value) == begin
