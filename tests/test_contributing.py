"""The examples of CONTRIBUTING.md: each is written into a copy of the repository and its commands are run there."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SECTIONS = re.split(r"^## ", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
EXAMPLES = {text.splitlines()[0]: BLOCK.findall(text) for text in SECTIONS if "detlab train" in text}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the repository's code, configs and experiments."""
    for name in ("detlab", "conf", "experiments"):
        ignored = shutil.ignore_patterns("__pycache__", "results", "ground")
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True, ignore=ignored)
    return tmp_path


def test_every_kind_of_part_has_an_example() -> None:
    words = " ".join(EXAMPLES)
    assert all(kind in words for kind in ("loss", "assigner", "backbone", "strategy", "table"))


@pytest.mark.slow
@pytest.mark.parametrize("title", EXAMPLES)
def test_an_example_trains(title: str, checkout: Path) -> None:
    for language, text in EXAMPLES[title]:
        if language != "sh":
            path = checkout / text.splitlines()[0].removeprefix("# ")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.partition("\n")[2], encoding="utf-8")  # without the line that names the file
    small = ["data.train=16", "data.val=4", "data.test=4", "loader.batch_size=4", "loader.num_workers=0"]
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    for line in (line for language, text in EXAMPLES[title] if language == "sh" for line in text.splitlines()):
        _, *words = shlex.split(line)
        if words[0] == "train":
            words += [*small, "logger=csv"] if "data=" not in line else ["loader.num_workers=0", "logger=csv"]
        done = subprocess.run(
            [sys.executable, "-m", "detlab", *words], cwd=checkout, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


@pytest.mark.parametrize("title", EXAMPLES)
def test_an_example_is_short(title: str) -> None:
    assert all(len(text.splitlines()) < 45 for _, text in EXAMPLES[title])
