"""The losses of the first steps of a tiny training per method, and how they are compared with the recorded ones."""

from __future__ import annotations

import csv
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import torch

from tests.golden.command import HERE, RUNS, detlab, scenes
from tests.golden.renames import rename_key

FILE = HERE / "training.json"
STEPS = 20

USUAL = [
    "loader.batch_size=3", "loader.num_workers=0", f"schedule.iterations={STEPS}", f"schedule.val_every={STEPS}",
    "schedule.warmup=4", "logger=csv", "logger.every=1", "logger.pictures=0", "report=false", "run_dir=run",
    "save_every=1000", "backbone.channels=[8,8,16,16,32]", "detector.fpn.out_channels=16",
]  # fmt: skip
DENSE = ["detector.fpn.levels=[3,4]", "detector.head.channels=16", "detector.head.convs=1"]
YOLO = ["method=yolo", "detector.head.channels=16", "detector.head.convs=1"]
TWO = [
    "method=faster_rcnn", "detector.fpn.levels=[2,3,4]", "detector.head.channels=32", "detector.head.convs=0",
    "detector.rpn.train_proposals=100", "detector.rpn.test_proposals=50", "detector.sampler.number=32",
]  # fmt: skip
WHOLE = scenes()
MERGED = ["data=scenes_split", *scenes("data.source")]
SEMI = [
    "data=scenes_semi", *scenes("data.source"), "data.labeled_fraction=0.5", "loader.batch_size=4",
]  # fmt: skip
# Of a detector that has hardly learned anything, all boxes count, so that there are pseudo-labels at every step.
TEACHER = ["pseudo=teacher", "pseudo.tau=0.001", "pseudo.gamma1=0", "pseudo.foreground=0"]
PROXY = ["pseudo=proxy", f"pseudo.classifier={RUNS / 'proxy'}", "pseudo.start=0", "pseudo.confidence=0.1"]
OFFLINE = ["pseudo=offline", f"pseudo.detectors=[{{run: '{RUNS / 'retinanet'}'}}]", "pseudo.score=0.2"]

CASES: dict[str, list[str]] = {
    **{
        name: [f"method={name}", *DENSE, *WHOLE]
        for name in ("retinanet", "atss", "iou_balanced", "ap_loss", "alrp", "rank_sort", "paa")
    },
    "yolo": [*YOLO, *WHOLE],
    "faster_rcnn": [*TWO, *WHOLE],
    "intervals": [*TWO, "localization=intervals", *WHOLE],
    "dense_intervals": ["method=retinanet", "localization=dense_intervals", *DENSE, *WHOLE],
    "ndcg": ["method=ap_loss", "loss=ndcg_l1", *DENSE, *WHOLE],
    "mask": ["method=retinanet", *DENSE, *MERGED, "pseudo=mask"],
    "background": ["method=retinanet", *DENSE, *MERGED, "pseudo=none"],
    "ignore": ["method=retinanet", *DENSE, *MERGED, "pseudo=ignore"],
    "offline": ["method=retinanet", *DENSE, *MERGED, *OFFLINE],
    "proxy": [*YOLO, *MERGED, *PROXY],
    "teacher": [*TWO, "localization=intervals", *SEMI, *TEACHER],
}
LOSSES = "train/loss"

Losses = dict[str, list[float]]


def train(name: str) -> Losses:
    """The losses of the case's first `STEPS` steps, by name; ``teacher/…``: those of a teacher trained first."""
    with tempfile.TemporaryDirectory() as folder:
        detlab(Path(folder), "train", *USUAL, *CASES[name])
        losses = read_losses(Path(folder, "run"))
        if Path(folder, "run/teacher").exists():
            losses |= {f"teacher/{term}": values for term, values in read_losses(Path(folder, "run/teacher")).items()}
    return losses


def read_losses(run: Path) -> Losses:
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name.startswith(LOSSES)]
    return {name.removeprefix("train/"): [float(row[name]) for row in rows if row[name]] for name in names}


def machine() -> dict[str, str]:
    """What the last bits of a float depend on."""
    models = {line.partition(":")[2].strip() for line in _cpu_info() if line.startswith(("model name", "model\t"))}
    return {
        "torch": torch.__version__.partition("+")[0],
        "cpu": " ".join(sorted(models)),
        "kernels": torch.backends.cpu.get_cpu_capability(),
    }


def _cpu_info() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def record(names: list[str] | None = None) -> None:
    """Write `training.json`; names: of the cases to record anew, the others stay as they are; None: all."""
    known = json.loads(FILE.read_text())["losses"] if names and FILE.exists() else {}
    for name in names or CASES:
        known[name] = {term: [value.hex() for value in values] for term, values in train(name).items()}
    content = {"machine": machine(), "steps": STEPS, "losses": {name: known[name] for name in CASES}}
    FILE.write_text(json.dumps(content, indent=1) + "\n")


def read() -> tuple[dict[str, str], dict[str, Losses]]:
    """On what machine was recorded, and the losses of each case, under today's names."""
    content: Any = json.loads(FILE.read_text())
    losses = {
        name: {rename_key(term): [float.fromhex(value) for value in values] for term, values in terms.items()}
        for name, terms in content["losses"].items()
    }
    return content["machine"], losses


def deviation(old: Losses, new: Losses) -> list[float]:
    """By how much each step's losses are off, relative to the step's total, the largest over the terms.

    Raises AssertionError where the terms or the number of steps differ.
    """
    assert old.keys() == new.keys(), f"The losses were {sorted(old)} and are {sorted(new)}."
    assert {len(values) for values in new.values()} == {STEPS}
    worst = [0.0] * STEPS
    for term, values in new.items():
        for step, (value, before) in enumerate(zip(values, old[term], strict=True)):
            total = abs(old[term.rpartition("/")[0] + "/loss" if "/" in term else "loss"][step])
            off = abs(value - before) / max(total, 1e-12)
            worst[step] = max(worst[step], off if math.isfinite(off) else math.inf)
    return worst
