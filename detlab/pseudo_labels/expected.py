"""How many objects nobody labelled a picture has, as far as the other pictures' labels tell."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from detlab.data.index import AnnotationIndex
from detlab.data.sources.merge_counts import source_counts

FACTOR, LEAST = 1.5, 3


def object_rates(index: AnnotationIndex) -> np.ndarray:
    """Objects of each class per picture whose annotators looked for it: float64 ``[C]``, 0 where none did."""
    counts = source_counts(index)
    seen = np.where(counts.looked_for, counts.total[:, None], 0).sum(0)  # [C] pictures
    return np.where(counts.looked_for, counts.boxes, 0).sum(0) / np.maximum(seen, 1)


def expected_missing(index: AnnotationIndex) -> float:
    """Objects per picture of the classes that a source's annotators did not look for, of the source that lacks most, if
    a class were as frequent in its pictures as in those where it was looked for."""
    counts = source_counts(index)
    lacking = (~counts.looked_for * object_rates(index)).sum(1)[counts.total > 0]
    return float(lacking.max(initial=0.0))


def automatic_caps(annotated: Tensor, rates: Tensor) -> Tensor:
    """How many regions of each picture may be looked at: int64 ``[B]``. Half as many again as it is expected to lack
    labels, since a detector ranks them badly at first, and no fewer than three.

    annotated bool ``[B, C]``: what the picture's annotators looked for; rates ``[C]``: see `object_rates`.
    """
    lacking = (~annotated * rates).sum(1)
    return (FACTOR * lacking).ceil().clamp(min=LEAST).to(torch.int64)
