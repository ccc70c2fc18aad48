"""A believable comparison: six rows of three seeds, of which one run failed, one is unfinished and one is missing."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detlab.reporting.study.table import Run, Table, TableRow, Verdict

METRICS = ("AP", "AP50", "AP75", "AP90")
CLASSES = ("car", "van", "truck", "bus", "<dog> & cat", "star|5")
FAILURE = "The loss is nan at iteration 412 <focal & GIoU>; lower schedule.lr (0.02) or check the boxes."
ROWS = {  # name: title, the paper's AP, level of our AP in points
    "nine_l1": ("9 anchors, max-IoU, focal + smooth-L1", 36.3, 48.0),
    "nine_giou": ("9 anchors, max-IoU, focal + GIoU", 36.9, 49.2),
    "one_l1": ("1 anchor, max-IoU, focal + smooth-L1", 35.1, 45.1),
    "one_giou": ("1 anchor, max-IoU, <focal> & GIoU | [b]", 37.0, 46.0),
    "atss_l1": ("1 anchor, ATSS, focal + smooth-L1", None, 54.0),
    "atss_giou": ("1 anchor, ATSS, focal + GIoU and a title that goes on for longer than a line has room", 39.25, 55.3),
}
LOST = {("one_giou", 2): "failed", ("atss_l1", 1): "unfinished", ("atss_giou", 2): "missing"}


def history(level: float, seed: int, length: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([seed, int(10 * level)])
    step = np.arange(19, length, 20)
    share = (step + 1) / 1800
    loss = 2.6 * np.exp(-3 * share) + 0.5 + rng.normal(0, 0.05, len(step))
    ap = np.where(
        (step + 1) % 200 == 0, level / 100 * (1 - np.exp(-4 * share)) + rng.normal(0, 0.006, len(step)), np.nan
    )
    return {"step": step.astype(float), "train/loss": loss, "val/AP": ap, "val/AP50": ap * 1.5}


def result(name: str, level: float, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng([seed, int(10 * level), 1])
    ap = round(level / 100 + float(rng.normal(0, 0.004)), 6)
    test: dict[str, Any] = {
        "AP": ap,
        "AP50": round(ap * 1.5, 6),
        "AP75": round(ap * 1.15, 6),
        "AP90": round(ap * 0.2, 6),
    }
    for position, label in enumerate(CLASSES):
        test[f"AP/{label}"] = round(ap + 0.08 * np.sin(position) + float(rng.normal(0, 0.01)), 6)
    test["AP/star|5"] = test["AP/star|5"] if name != "one_l1" else None
    return {
        "name": f"baselines/anchors/{name}", "status": "finished", "setting": "mini", "seed": seed, "device": "CPU",
        "command": f"detlab train experiment=baselines/anchors/{name} seed={seed}",
        "commit": "0123456789abcdef" * 2 if seed else "fedcba9876543210" * 2 + "+changes",
        "minutes": 3.1 + seed / 10, "images_per_second": 140.25, "memory_gib": 1.2, "parameters_million": 1.251,
        "iterations": 1800, "skipped_images": {}, "val": {"AP": ap}, "test": test, "classes": list(CLASSES),
        "dataset": {"train": "a1", "test": "b2"}, "pr_curves": {"car": {"recall": [0, 1], "precision": [1, 0]}},
        "config_hash": "12ab34cd",
    }  # fmt: skip


def config(name: str, seed: int) -> dict[str, Any]:
    return {
        "name": f"baselines/anchors/{name}", "setting": "mini", "seed": seed, "run_dir": f"runs/{name}/seed={seed}",
        "assigner": {"_target_": "detlab.assigners.atss.ATSS" if "atss" in name else "detlab.assigners.max_iou.MaxIoU"},
        "detector": {"anchors": {"octaves": 3 if "nine" in name else 1, "ratios": [0.5, 1.0, 2.0]}},
        "loss": {"localization": {"_target_": "GIoU" if "giou" in name else "SmoothL1"}},
        "schedule": {"iterations": 1800, "lr": 0.002},
    }  # fmt: skip


def make_run(root: Path, name: str, level: float, seed: int, picture: bytes) -> Run:
    folder = root / f"baselines/anchors/{name}/mini/seed={seed}"
    state: Any = LOST.get((name, seed), "finished")
    if state == "missing":
        return Run(folder, seed, "missing")
    length = {"finished": 1800, "failed": 412, "unfinished": 900}[state]
    done = result(name, level, seed) if state == "finished" else {}
    if done and seed == 0:
        (folder / "figures").mkdir(parents=True)
        for number in range(6):
            (folder / f"figures/example_{number:02d}.png").write_bytes(picture)
    words = FAILURE if state == "failed" else ""
    return Run(folder, seed, state, done, history(level, seed, length), config(name, seed), words)


VERDICTS = (
    Verdict("AP: one_giou > one_l1", "Table 1", "holds", 0.94, 0.31, 1.62, 2),
    Verdict("AP: nine_giou - nine_l1 >= 2.0 & <more>", "§4.2", "fails", -0.82, -1.4, -0.2, 3, t_low=-1.6, t_high=-0.1),
    Verdict("AP: atss_l1 > nine_l1", "Table 1", "undecided", 5.9, -0.1, 11.2, 2, "the interval holds zero"),
    Verdict("AP: atss_giou > one_giou", "", "holds", 9.3, 8.9, 9.7, 2),
    Verdict("AP90: atss_giou > atss_l1", "", "undecided", reason="no seed that both rows finished"),
)


def make_sample(root: Path, picture: bytes) -> Table:
    rows = [
        TableRow(
            name,
            title,
            {} if paper is None else {"AP": paper, "AP50": 55.0},
            [make_run(root, name, level, seed, picture) for seed in range(3)],
            f"detlab train -m experiment=baselines/anchors/{name} seed=0,1,2",
        )
        for name, (title, paper, level) in ROWS.items()
    ]
    return Table(
        "One anchor or nine, and <how> they are assigned", "baselines/anchors", "mini", METRICS, rows, VERDICTS,
        "Zhang et al. 2020 (ATSS), Table 1", "Scenes & not COCO.",
        "detlab train -m 'experiment=glob(baselines/anchors/*)' seed=0,1,2",
    )  # fmt: skip


def grey_picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (990, 610), (120, 130, 140)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def sample(tmp_path: Path) -> Table:
    return make_sample(tmp_path / "runs", grey_picture())


@pytest.fixture
def complete(sample: Table) -> Table:
    """The rows of the sample that are finished."""
    return replace(sample, rows=[row for row in sample.rows if row.name in ("nine_l1", "nine_giou", "one_l1")])


@pytest.fixture
def empty(sample: Table) -> Table:
    """A study of which nothing has been trained."""
    rows = [replace(row, runs=[Run(run.folder, run.seed, "missing") for run in row.runs]) for row in sample.rows]
    return replace(sample, rows=rows, verdicts=[replace(v, decision="undecided", difference=None) for v in VERDICTS])


@pytest.fixture
def of_folder(complete: Table) -> Table:
    """What any folder of runs gives: no paper, no claims, no command, one row without runs."""
    rows = [replace(row, paper={}, command="") for row in complete.rows]
    return Table("runs/x", "runs/x", "", ("AP", "AP50"), [*rows, TableRow("bare", "bare")])
