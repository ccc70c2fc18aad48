"""What a finished run says of itself."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from detlab.data.datamodule import DetectionDataModule
from detlab.data.index import AnnotationIndex
from detlab.data.sources.semi import SemiSupervisedSource
from detlab.data.transforms import Pipeline
from detlab.engine.outputs import annotated_classes, rare_classes, save_results
from detlab.engine.run_folder import RunFolder


def test_classes_that_only_absent_sources_know_were_not_looked_for():
    index = AnnotationIndex.build(
        ("a", "b", "c"), paths=["x", "y", "z"], widths=[9] * 3, heights=[9] * 3, box_images=[], boxes=[], labels=[],
        sources=[0, 1, 2], source_names=("one", "two", "three"), annotated=np.eye(3, dtype=bool),
    )  # fmt: skip
    assert annotated_classes(index) == ["a", "b", "c"]
    assert annotated_classes(index.select([2, 0])) == ["a", "c"]


def test_rare_classes_are_the_third_with_the_fewest_training_labels():
    counts = [5, 1, 0, 9, 2, 2, 0]
    labels = [k for k, count in enumerate(counts) for _ in range(count)]
    index = AnnotationIndex.build(
        tuple("abcdefg"), paths=["x"], widths=[9], heights=[9], box_images=[0] * len(labels),
        boxes=[[1, 1, 5, 5]] * len(labels), labels=labels, ignore=[False] * (len(labels) - 1) + [True],
        annotated=[[True] * 6 + [False]],
    )  # fmt: skip
    assert rare_classes(index) == ["c", "f"]  # f has one that counts, as b has; nobody looked for g
    assert rare_classes(index.select([])) == []


def test_rare_classes_are_counted_in_the_labels_that_are_known():
    def labelled(*labels):
        return AnnotationIndex.build(
            tuple("abc"), paths=["x"], widths=[9], heights=[9], box_images=[0] * len(labels),
            boxes=[[1, 1, 5, 5]] * len(labels), labels=list(labels), annotated=[[True, True, True]],
        )  # fmt: skip

    few, all_of_them = labelled(0, 2, 2), labelled(0, 0, 1, 2, 2, 2, 1, 2, 0, 0)
    assert rare_classes(few) == ["b"]
    assert rare_classes(few, labelled(0, 1, 1, 2, 2)) == ["a"]
    assert rare_classes(few, all_of_them) == ["b"]


@pytest.mark.parametrize("fold", [0, 2])
def test_ap_of_rare_classes_is_of_the_same_classes_on_every_fold(tmp_path, fold):
    """c is the rarest by the labels of fold 0 alone and by all labels, b by those of fold 2 alone."""
    index = AnnotationIndex.build(
        tuple("abc"), paths=[str(tmp_path / f"{row}.png") for row in range(8)], widths=[9] * 8, heights=[9] * 8,
        box_images=range(8), boxes=[[1, 1, 5, 5]] * 8, labels=[0, 0, 0, 1, 1, 1, 2, 2],
    )  # fmt: skip
    for path in index.paths.tolist():
        Image.new("RGB", (9, 9)).save(path)
    scenes = SimpleNamespace(name="made", on_error="raise", load=lambda _: (index, []))
    source = SemiSupervisedSource(scenes, labeled_fraction=0.5, fold=fold, only="labelled")
    data = DetectionDataModule(source, Pipeline(), Pipeline())
    folder = RunFolder(tmp_path / "run")
    folder.open({"name": "made"})
    module = SimpleNamespace(evaluation=SimpleNamespace(detections={}, pr_curves={}))
    values = {"test/AP/a": 0.1, "test/AP/b": 0.2, "test/AP/c": 0.3}
    assert save_results(folder, module, data, {}, values, pictures=0)["test"]["AP_rare"] == 0.3
