"""How many objects nobody labelled a picture has, as far as the other pictures' labels tell."""

from __future__ import annotations

import math

import numpy as np

from detlab.data.index import AnnotationIndex
from detlab.data.merge_counts import source_counts

LEAST = 5


def expected_missing(index: AnnotationIndex) -> float:
    """Objects per picture of the classes that a source's annotators did not look for, of the source that lacks most, if
    a class were as frequent in its pictures as in those where it was looked for."""
    counts = source_counts(index)
    seen = np.where(counts.looked_for, counts.total[:, None], 0).sum(0)  # [C] pictures
    rates = np.where(counts.looked_for, counts.boxes, 0).sum(0) / np.maximum(seen, 1)
    lacking = (~counts.looked_for * rates).sum(1)[counts.total > 0]
    return float(lacking.max(initial=0.0))


def automatic_cap(index: AnnotationIndex) -> int:
    """Twice as many regions as a picture is expected to lack labels, since a detector ranks them badly at first, and no
    fewer than five."""
    return max(LEAST, math.ceil(2 * expected_missing(index)))
