"""Indexes brought to another list of classes."""

from __future__ import annotations

import numpy as np
import pytest

from detlab.data.index import AnnotationIndex
from detlab.data.relabel import fingerprint, relabel
from detlab.errors import UserError


def make(classes=("ant", "bee", "cow"), labels=(0, 2, 0)) -> AnnotationIndex:
    boxes = [[0, 0, 5 + i, 5] for i in range(len(labels))]
    sizes = {"widths": [20, 20], "heights": [10, 10]}
    owners = [0] * (len(labels) - 1) + [1]
    return AnnotationIndex.build(
        classes, paths=["a", "b"], **sizes, box_images=owners, boxes=boxes, labels=list(labels), class_ids=[4, 9, 2]
    )


def names(index: AnnotationIndex) -> list[str]:
    return [index.classes[label] for label in index.labels]


def test_boxes_keep_their_class_and_classes_their_id():
    index = make()
    moved = relabel(index, ["dog", "cow", "ant"])
    assert names(moved) == names(index) == ["ant", "cow", "ant"]
    assert dict(zip(moved.classes, moved.class_ids.tolist(), strict=True)) == {"dog": 10, "cow": 2, "ant": 4}
    np.testing.assert_array_equal(moved.boxes, index.boxes)


def test_only_classes_that_were_looked_for_are_annotated():
    assert relabel(make(), ["dog", "cow", "ant"]).annotated.tolist() == [[False, True, True]]


def test_the_same_list_changes_nothing():
    index = make()
    assert relabel(index, ["ant", "bee", "cow"]) is index


def test_a_class_without_boxes_may_be_unknown_but_not_one_with_boxes():
    assert relabel(make(), ["cow", "ant"]).classes == ("cow", "ant")  # no bee was drawn
    with pytest.raises(UserError, match="class 'cow', which the detector does not know"):
        relabel(make(), ["ant", "bee"])


def test_an_index_without_boxes():
    empty = AnnotationIndex.build(["x"], paths=[], widths=[], heights=[], box_images=[], boxes=[], labels=[])
    assert relabel(empty, ["y", "x"]).classes == ("y", "x")


def test_the_fingerprint_tells_indexes_apart():
    prints = [fingerprint(index) for index in (make(), make(labels=(0, 1, 0)), make(classes=("ant", "bee", "dog")))]
    assert len(set(prints)) == 3
    assert fingerprint(make()) == prints[0]
    assert all(len(value) == 12 for value in prints)
