"""`detlab train task=proxy` as a user types it, on red and blue squares."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from detlab.engine.classifier_task import ProxyTask
from detlab.engine.classifier_training import ignored_settings
from detlab.engine.optim import Schedule
from detlab.proxy_classifier import load_classifier
from detlab.proxy_classifier.crops import CropRecipe

TOY = [
    "task=proxy", "task.width=0.25", "task.clusters=2", "task.batch_size=8", "task.schedule.iterations=4",
    "task.schedule.warmup=1", "loader.batch_size=2", "logger=csv", "logger.every=1", "run_dir=run",
]  # fmt: skip


@pytest.fixture
def squares(voc: Path) -> list[str]:
    return ["data=custom", "data.format=voc", f"data.root={voc}", "data.split=train", "data.val_split=val"]


@pytest.mark.slow
def test_a_run_from_end_to_end(detlab, squares: list[str], tmp_path: Path) -> None:
    result = detlab("train", *squares, *TOY, "task.classes=[red]")
    assert result.status == 0, result.err
    assert "Finished in" in result.out
    assert "reject AUROC" in result.out
    run = tmp_path / "run"
    metrics = json.loads((run / "metrics.json").read_text())
    assert (metrics["status"], metrics["task"], metrics["classes"]) == ("finished", "proxy", ["red"])
    for name in ("accuracy", "accuracy_K", "reject_AUROC", "ECE", "kept_recall", "rejected_others"):
        for suffix in ("", "_patch_drop"):
            value = metrics["test"][name + suffix]
            assert value is not None, name
            assert 0 <= value <= 1
    assert "detector" not in yaml.safe_load((run / "config.yaml").read_text())
    rows = (run / "metrics.csv").read_text().splitlines()
    assert "train/loss" in rows[0]
    assert len(rows) >= 5
    for name in ("reliability", "confusion"):
        assert (run / f"figures/example_{name}.png").read_bytes().startswith(b"\x89PNG")
    classifier = load_classifier(run)
    probs = classifier.classify(torch.zeros(1, 3, 64, 64), torch.zeros(1, dtype=torch.int64), torch.ones(1, 4) * 9)
    assert probs.tolist() == [[0, 1]]

    # A finished run is skipped; the report shows its figures; another config is refused.
    before = (run / "metrics.json").stat().st_mtime_ns
    assert "finished already" in detlab("train", *squares, *TOY, "task.classes=[red]").out
    assert (run / "metrics.json").stat().st_mtime_ns == before
    assert detlab("report", "run").status == 0
    assert "example_reliability" in (run / "report.html").read_text()
    refused = detlab("train", *squares, *TOY, "task.classes=[blue]")
    assert refused.status == 1
    assert "another config" in refused.err

    # An unfinished one begins anew, and gives the same: all follows from the seed.
    weights = load_classifier(run).state_dict()
    (run / "metrics.json").unlink()
    assert detlab("train", *squares, *TOY, "task.classes=[red]").status == 0
    again = json.loads((run / "metrics.json").read_text())
    assert again["test"] == metrics["test"]
    assert all(torch.equal(v, weights[k]) for k, v in load_classifier(run).state_dict().items())


@pytest.mark.slow
def test_all_classes_of_interest_learn_to_reject_from_background(detlab, squares: list[str]) -> None:
    more = ["task.crops.background=4", "task.crops.partial=0", "task.sampling=balanced"]
    assert detlab("train", *squares, *TOY, *more).status == 0
    test = json.loads(Path("run/metrics.json").read_text())["test"]
    assert test["reject_AUROC"] is not None
    assert test["rejected_others"] is None
    assert test["rejected_background"] is not None


def test_without_any_reject_a_warning_says_so(voc: Path, caplog: pytest.LogCaptureFixture) -> None:
    from detlab.data.datamodule import DetectionDataModule
    from detlab.data.sources.custom import CustomSource
    from detlab.data.transforms import Pipeline

    source = CustomSource(name="squares", format="voc", root=str(voc), split="train", val_split="val")
    data = DetectionDataModule(source, Pipeline(), Pipeline())
    task(crops=CropRecipe(background=1.0)).build(data, seed=0)
    assert not caplog.text
    classifier, _ = task().build(data, seed=0)
    assert "nothing teaches the classifier to reject" in caplog.text
    assert classifier.classes == ["blue", "red"]


def task(**changes: Any) -> ProxyTask:
    return ProxyTask(**{"schedule": Schedule(6, 0.1), "crops": CropRecipe(), "width": 0.25, **changes})


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"width": 0.0}, "width"),
        ({"levels": [0]}, "levels"),
        ({"pooling": "mean"}, "pooling"),
        ({"batch_size": 1}, "batch_size"),
        ({"largest": 4}, "largest"),
        ({"sampling": "even"}, "sampling"),
        ({"threshold": 1.5}, "threshold"),
        ({"patches": 0}, "patches"),
        ({"clusters": 0}, "clusters"),
    ],
)
def test_values_out_of_range_are_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        task(**wrong)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("task.classes=[rad]", "no class 'rad' (did you mean 'red'?)"),
        ("task.crops.jitter=2", "task: Expected jitter in 0..1, got 2"),
        ("trainer.devices=2", "one device"),
    ],
)
def test_mistakes_get_one_sentence(detlab, squares: list[str], wrong: str, words: str, tmp_path: Path) -> None:
    result = detlab("train", *squares, *TOY, wrong)
    assert result.status == 1
    assert words in result.err
    assert "Traceback" not in result.err
    assert not (tmp_path / "run").exists()


def test_settings_of_a_detectors_schedule_are_said_not_to_count() -> None:
    (words,) = ignored_settings(["schedule.iterations=400", "task.schedule.lr=0.1", "seed=1"], iterations=5000)
    assert "schedule.iterations is a detector's" in words
    assert "task.schedule.iterations" in words
    assert "5000" in words


def entry(voc: Path, split: str, *more: str) -> str:
    """A source of a merge, as typed."""
    return "{" + ", ".join([f"format: voc, root: {voc}, split: {split}", *more]) + "}"


@pytest.mark.slow
def test_a_merge_lends_the_classifier_its_auxiliary_images_and_nothing_else(detlab, voc: Path, tmp_path: Path) -> None:
    merge = [
        "data=merge",
        f"+data.sources.one={entry(voc, 'train', 'classes: [red]')}",
        f"+data.sources.two={entry(voc, 'val', 'classes: [blue]')}",
        f"data.val={entry(voc, 'val')}",
    ]
    partly = detlab("train", *merge, *TOY)
    assert partly.status == 0, partly.err
    assert "objects, which the classifier learns to reject" in partly.out + partly.err
    train, val = (len((voc / f"ImageSets/Main/{split}.txt").read_text().split()) for split in ("train", "val"))
    assert f"crops of {train + val} images" in partly.out

    whole = detlab("train", *merge, f"data.auxiliary={entry(voc, 'val')}", *TOY, "overwrite=true")
    assert whole.status == 0, whole.err
    assert "learns to reject" not in whole.out + whole.err
    assert f"crops of {val} images" in whole.out
    assert json.loads((tmp_path / "run/metrics.json").read_text())["classes"] == ["red", "blue"]


@pytest.mark.slow
def test_what_the_auxiliary_images_have_of_other_classes_is_to_be_rejected(detlab, voc: Path, tmp_path: Path) -> None:
    merge = [
        "data=merge",
        f"+data.sources.one={entry(voc, 'train', 'classes: [red]')}",
        f"data.val={entry(voc, 'val', 'classes: [red]')}",
        f"data.auxiliary={entry(voc, 'val')}",
        "task.crops.background=0",
        "task.crops.partial=0",
    ]
    result = detlab("train", *merge, *TOY)
    assert result.status == 0, result.err
    assert "nothing teaches the classifier to reject" not in result.out + result.err
    assert json.loads((tmp_path / "run/metrics.json").read_text())["classes"] == ["red"]
    alone = detlab("train", *merge, "task.classes=[blue]", *TOY, "overwrite=true")
    assert alone.status == 0, alone.err
    assert json.loads((tmp_path / "run/metrics.json").read_text())["classes"] == ["blue"]
