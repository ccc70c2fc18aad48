"""What a finished run says of itself."""

from __future__ import annotations

import numpy as np

from detlab.data.index import AnnotationIndex
from detlab.outputs import annotated_classes


def test_classes_that_only_absent_sources_know_were_not_looked_for():
    index = AnnotationIndex.build(
        ("a", "b", "c"), paths=["x", "y", "z"], widths=[9] * 3, heights=[9] * 3, box_images=[], boxes=[], labels=[],
        sources=[0, 1, 2], source_names=("one", "two", "three"), annotated=np.eye(3, dtype=bool),
    )  # fmt: skip
    assert annotated_classes(index) == ["a", "b", "c"]
    assert annotated_classes(index.select([2, 0])) == ["a", "c"]
