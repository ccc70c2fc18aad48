import numpy as np
import pytest
import torch

from detlab.data.index import AnnotationIndex
from detlab.pseudo_labels.expected import automatic_caps, expected_missing, object_rates


def an_index(boxes_of: list[list[int]], sources: list[int], annotated: list[list[int]]) -> AnnotationIndex:
    """An image for each list of labels."""
    owners = [image for image, labels in enumerate(boxes_of) for _ in labels]
    count, names = len(boxes_of), [str(source) for source in range(len(annotated))]
    return AnnotationIndex.build(
        paths=[f"{k}.png" for k in range(count)],
        widths=np.full(count, 64),
        heights=np.full(count, 64),
        boxes=np.tile([1.0, 1, 9, 9], (len(owners), 1)),
        labels=[label for labels in boxes_of for label in labels],
        box_images=owners,
        classes=("a", "b", "c"),
        sources=sources,
        source_names=names,
        annotated=np.array(annotated, bool),
    )


def test_what_a_source_lacks_is_as_frequent_as_where_it_was_looked_for() -> None:
    # a: 8 in the two pictures of source 0; b: 1 in those of 1; nobody looked for c in either, 2 in the one of source 2.
    labels = [[0] * 6, [0, 0], [1], [], [2, 2]]
    index = an_index(labels, [0, 0, 1, 1, 2], [[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    lacking = [0.5 + 2, 4 + 2, 4 + 0.5]
    assert expected_missing(index) == pytest.approx(max(lacking))
    assert caps(index) == [4, 9, 7]  # 1.5 times, rounded up


def caps(index: AnnotationIndex) -> list[int]:
    return automatic_caps(torch.from_numpy(index.annotated), torch.from_numpy(object_rates(index))).tolist()


def test_edges() -> None:
    assert expected_missing(an_index([[0, 1], [2]], [0, 0], [[1, 1, 1]])) == 0
    assert caps(an_index([[0, 1], [2]], [0, 0], [[1, 1, 1]])) == [3]
    # A class that nobody looked for, and a source without pictures that lacks everything.
    assert expected_missing(an_index([[0], [0]], [0, 0], [[1, 0, 0], [0, 0, 0]])) == 0
