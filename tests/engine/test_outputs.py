"""What a finished run says of itself."""

from __future__ import annotations

import numpy as np

from detlab.data.index import AnnotationIndex
from detlab.engine.outputs import annotated_classes, rare_classes


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
