from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detlab.data.files import write_atomic
from detlab.errors import UserError
from detlab.reporting.pages.run import write_report
from detlab.visualization import png_bytes

VALUES = {"AP": 0.4312, "AP50": 0.7131, "AP75": float("nan"), "AP/cat": 0.5, "AP50/cat": 0.8, "AP/<dog>": float("nan")}
METRICS: dict[str, Any] = {
    "name": "demo/plain & simple",
    "status": "finished",
    "seed": 3,
    "commit": "abc1234",
    "command": 'detlab train "data=<mine>"',
    "device": "cpu",
    "minutes": 3.21,
    "images_per_second": 88.8,
    "iterations": 1200,
    "test": VALUES,
    "val": {"AP": 0.5},
    "classes": ["cat", "<dog>"],
    "pr_curves": {"cat": {"recall": [0, 0.5, 1], "precision": [1, 0.9, 0]}},
}
HISTORY = "step,train/loss,train/loss_box,lr,val/AP\n0,3.0,2.0,0.1,\n10,2.0,1.0,0.1,\n10,,,,0.25\n"


class Page(HTMLParser):
    """The tags with their attributes, and the visible words, of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "seed=3"
    folder.mkdir()
    (folder / "config.yaml").write_text("seed: 3\nname: <script>\n")
    (folder / "metrics.json").write_text(json.dumps(METRICS))
    (folder / "metrics.csv").write_text(HISTORY)
    for n in range(10):
        write_atomic(folder / "figures" / f"example_{n:02d}.png", png_bytes(np.full((8, 8, 3), n, dtype=np.uint8)))
    write_atomic(folder / "figures" / "other.png", png_bytes(np.zeros((8, 8, 3), dtype=np.uint8)))
    return folder


def test_whole_run(run: Path) -> None:
    path = write_report(run)
    assert path == run / "report.html"
    page = Page(path)
    for words in ("demo/plain & simple", "finished", "abc1234", "3.2 min", "1,200", "88.8", "0.431", "0.713", "0.500",
                  'detlab train "data=<mine>"', "name: <script>", "<dog>"):  # fmt: skip
        assert words in page.words, words
    assert "nan" not in page.words
    assert page.count("img") == 8
    assert page.count("svg") == 3
    assert page.count("details") == 1
    assert page.count("script") == 0


def test_page_needs_nothing_else(run: Path) -> None:
    page = Page(write_report(run))
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href"):
            address = attributes.get(name) or "#"
            assert address.startswith(("#", "data:")), (tag, address)
    assert page.count("link") == 0
    assert "@import" not in page.words
    assert "url(http" not in page.words


@pytest.mark.parametrize("kept", ["config.yaml", "metrics.json", "metrics.csv"])
def test_parts_of_a_run(run: Path, kept: str) -> None:
    for file in ("config.yaml", "metrics.json", "metrics.csv"):
        if file != kept:
            (run / file).unlink()
    page = Page(write_report(run))
    assert page.count("svg") == {"config.yaml": 0, "metrics.json": 1, "metrics.csv": 2}[kept]
    assert ("unfinished" in page.words) == (kept != "metrics.json")
    assert ("Not evaluated yet" in page.words) == (kept != "metrics.json")
    assert ("seed=3" in page.words) == (kept != "metrics.json") or kept == "metrics.json"


@pytest.mark.parametrize(
    "metrics", [{}, {"status": "running", "test": None, "val": {}, "pr_curves": None, "minutes": None}]
)
def test_little_in_metrics(run: Path, metrics: dict) -> None:
    (run / "metrics.json").write_text(json.dumps(metrics))
    (run / "metrics.csv").write_text("step,train/loss\n")
    assert Page(write_report(run)).count("svg") == 0


@pytest.mark.slow
def test_again_replaces_the_page_and_leaves_no_parts(run: Path) -> None:
    write_report(run)
    (run / "metrics.json").write_text(json.dumps({**METRICS, "name": "second"}))
    write_report(str(run))
    assert "second" in (run / "report.html").read_text()
    assert not list(run.glob("*.part"))


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        write_report(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no run"):
        write_report(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("metrics.json", b"{\n broken", r"metrics\.json, line 2: this is no valid JSON"),
        ("metrics.json", b"[1]", r"expected an object with the run's metrics, got a list"),
        (
            "metrics.csv",
            b"step,train/loss\n1,2\n2,x\n",
            r"metrics\.csv, line 3: expected a number for train/loss, got 'x'",
        ),
        ("config.yaml", b"\xff\xfe\x00", r"config\.yaml: cannot be read as text"),
    ],
)
def test_broken_files_are_named(run: Path, file: str, content: bytes, message: str) -> None:
    (run / file).write_bytes(content)
    with pytest.raises(UserError, match=message):
        write_report(run)
