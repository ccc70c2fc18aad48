"""Finished runs of the code at the time of recording, which later code must evaluate to the same numbers."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from tests.golden.command import RUNS, detlab, scenes

# Few, large objects on plain ground, so that a tiny detector finds some of them within a minute.
EASY = scenes(
    train=200, val=8, test=40, objects="[1,2]", object_size="[0.4,0.7]", rotation=0, occlusion=0, distractors="[0,0]",
    clutter=0, lighting=0, noise=0,
)  # fmt: skip
USUAL = [
    *EASY, "loader.batch_size=8", "loader.num_workers=0", "loader.cache_images=true", "schedule.lr=0.005",
    "schedule.base_batch=8", "schedule.warmup=20", "schedule.iterations=400", "postprocess.score_threshold=0.02",
    "schedule.val_every=400", "logger=csv", "logger.every=100", "logger.pictures=0", "report=false", "save_every=1000",
    "run_dir=run", "backbone.channels=[8,8,16,16,16]", "detector.fpn.out_channels=16",
]  # fmt: skip
DETECTORS: dict[str, list[str]] = {
    "retinanet": [
        "method=retinanet", "detector.fpn.levels=[3,4]", "detector.head.channels=16", "detector.head.convs=1",
    ],
    "intervals": [
        "method=faster_rcnn", "localization=intervals", "detector.fpn.levels=[2,3,4]", "detector.head.channels=24",
        "detector.head.convs=0", "detector.head.resolution=4", "detector.rpn.train_proposals=100",
        "detector.rpn.test_proposals=50", "detector.sampler.number=32",
    ],
}  # fmt: skip
CLASSIFIER = [
    "task=proxy_scenes", *scenes(train=60), "task.width=0.125", "task.schedule.iterations=60",
    "task.schedule.warmup=5", "logger=csv", "report=false", "run_dir=run",
]  # fmt: skip
KEPT = ["config.yaml", "metrics.json", "checkpoints/last.ckpt"]
SPARED = ["optimizer_states", "lr_schedulers"]  # of a checkpoint: two thirds of it, and no evaluation reads them


def record() -> None:
    """Train all anew and keep of each what makes it a finished run."""
    for name, words in {**{name: [*w, *USUAL] for name, w in DETECTORS.items()}, "proxy": CLASSIFIER}.items():
        with tempfile.TemporaryDirectory() as folder:
            detlab(Path(folder), "train", *words)
            shutil.rmtree(RUNS / name, ignore_errors=True)
            for file in KEPT:
                (RUNS / name / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(Path(folder, "run", file), RUNS / name / file)
        slim(RUNS / name / "checkpoints/last.ckpt")


def slim(path: Path) -> None:
    checkpoint = torch.load(path, weights_only=True)
    torch.save(checkpoint | {key: [] for key in SPARED if key in checkpoint}, path)


def recorded(name: str) -> dict[str, Any]:
    """Metrics of the run's test as its training ended."""
    return json.loads((RUNS / name / "metrics.json").read_text())["test"]


def evaluate(name: str, folder: Path, checkpoint: str = "") -> dict[str, Any]:
    """The same metrics, by `detlab eval` in `folder` of a copy of the run, or of a checkpoint in it."""
    shutil.copytree(RUNS / name, folder / "run")
    place = Path("run", checkpoint)
    detlab(folder, "eval", f"ckpt_path={place}", "output=evaluated", "accelerator=cpu", "pictures=0")
    return json.loads((folder / "evaluated/metrics.json").read_text())["test"]
