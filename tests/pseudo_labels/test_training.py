"""Training with pseudo-labels, as a user would type it."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
import torch

from detlab.data.scenes.shapes import CLASSES
from detlab.proxy_classifier import ProxyClassifier, save

SPLIT = [
    "data=scenes_split", "data.source.train=24", "data.source.val=4", "data.source.test=4", "data.source.size=64",
    "data.source.cache_dir=scenes", "pseudo=proxy", "pseudo.classifier=h.ckpt", "pseudo.start=2", "pseudo.min_score=0",
    "pseudo.cap=20",
    "logger=csv",
]  # fmt: skip


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    """Untrained, and so sure of nothing."""
    torch.manual_seed(0)
    path = tmp_path / "h.ckpt"
    save(ProxyClassifier(CLASSES, torch.tensor([[16, 16], [32, 24]]), width=0.25), path)
    return path


def columns(folder: Path) -> dict[str, list[float]]:
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows if row[name]] for name in rows[0]}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["retinanet", "yolo"])
def test_labels_are_made_and_watched(detlab, toy, tmp_path, classifier, method):  # noqa: ARG001
    small = [word for word in toy if "logger.pictures" not in word]
    small += ["detector.fpn.levels=[3,4,5]"] if method == "yolo" else []
    result = detlab("train", f"method={method}", *SPLIT, *small, "pseudo.confidence=0", "run_dir=run")
    assert result.status == 0, result.err
    assert "pseudo-labels per picture" in result.out  # far more than objects
    history = columns(tmp_path / "run")
    assert history["train/pseudo_labels_per_image"][:2] == [0, 0]
    assert history["train/pseudo_labels_per_image"][-1] > 0
    assert history["train/pseudo_regions_per_image"][-1] <= 20
    assert len(history["pseudo/precision"]) == 2  # two validations
    assert 0 <= history["pseudo/recall"][-1] <= 1
    assert history["pseudo/labels_per_image"][-1] > 0
    assert (tmp_path / "run/figures/pseudo_00.png").is_file()
    assert "Pseudo-labels on training pictures" in (tmp_path / "run/report.html").read_text()


@pytest.mark.slow
def test_a_classifier_that_is_sure_of_nothing_is_said_to_be(detlab, toy, tmp_path, classifier):
    result = detlab("train", *SPLIT, *toy, "pseudo.confidence=0.99", "pseudo.cap=auto", "run_dir=run")
    assert result.status == 0, result.err
    assert result.out.count("There are no pseudo-labels") == 1
    assert re.search(
        r"sure of none of the [\d,]+ regions that it was asked about; lower pseudo.confidence=0.99", result.out
    )
    assert re.search(r"at most \d+ regions of a picture \(pseudo.cap=auto\): as far as labels tell, up to", result.out)
    assert columns(tmp_path / "run")["pseudo/labels_per_image"] == [0, 0]

    again = ["train", *SPLIT, *toy, "pseudo.confidence=0.99", "pseudo.cap=auto", "run_dir=run"]
    assert "another model" not in detlab(*again).out
    torch.manual_seed(1)
    save(ProxyClassifier(CLASSES, torch.tensor([[16, 16], [32, 24]]), width=0.25), classifier)
    skipped = detlab(*again)
    assert "is finished already" in skipped.out
    assert "h.ckpt holds another model than the one that run was made with." in skipped.out

    (tmp_path / "run/metrics.json").unlink()  # as if it had been cut off
    resumed = detlab(*again)
    assert resumed.status == 1
    assert "h.ckpt holds another model than the one that this run began with: bring that back" in resumed.err


@pytest.mark.slow
def test_a_detector_that_finds_nothing_is_said_to_be(detlab, toy, tmp_path, classifier):  # noqa: ARG001
    result = detlab("train", *SPLIT, *toy, "pseudo.min_score=1", "run_dir=run")
    assert "the detector finds nothing there but what is labelled" in result.out
    assert "pseudo.min_score=1" in result.out


def test_a_missing_classifier_is_said_before_any_data_is_read(detlab, toy, tmp_path):
    result = detlab("train", *SPLIT, *toy, "run_dir=run")
    assert result.status == 1
    assert "h.ckpt" in result.err
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "scenes").exists()
