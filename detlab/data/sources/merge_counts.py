"""What each source contributes to a merge, and how much of it is missing."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detlab.data.index import AnnotationIndex


class SourceCounts(NamedTuple):
    """boxes, images int64 ``[S, C]``: boxes of a class in the images of a source, and images that have one.
    looked_for bool ``[S, C]``. total int64 ``[S]``: images of each source."""

    boxes: NDArray[np.int64]
    images: NDArray[np.int64]
    looked_for: NDArray[np.bool_]
    total: NDArray[np.int64]


class Missing(NamedTuple):
    """complete, missing int64 ``[C]``: objects of each class in the complete labels, and those of them that the
    labels for training lack. rate: the share of missing ones among all, nan where there is none."""

    complete: NDArray[np.int64]
    missing: NDArray[np.int64]

    @property
    def rates(self) -> NDArray[np.float64]:
        """Per class ``[C]``, nan for a class without objects."""
        with np.errstate(invalid="ignore"):
            return self.missing / self.complete

    @property
    def rate(self) -> float:
        return float(self.missing.sum() / self.complete.sum()) if self.complete.sum() else float("nan")


def source_counts(index: AnnotationIndex) -> SourceCounts:
    """Class by source: boxes, images with a box, whether it was looked for; and images per source."""
    shape = (len(index.source_names), len(index.classes))
    owners = index.box_images
    boxes, images = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    np.add.at(boxes, (index.sources[owners], index.labels), 1)
    pairs = np.unique(np.stack([owners, index.labels.astype(np.int64)], 1), axis=0)
    np.add.at(images, (index.sources[pairs[:, 0]], pairs[:, 1]), 1)
    return SourceCounts(boxes, images, index.annotated, np.bincount(index.sources, minlength=shape[0]))


def missing_labels(index: AnnotationIndex, complete: AnnotationIndex) -> Missing:
    """Compare labels with those of a fully labelled version: the same images in the same order, the same classes.

    In each image, as many objects of a class are missing as there are fewer boxes of it than in `complete`; ignored
    (difficult, crowd) ones count in neither. Raises ValueError where images or classes differ.
    """
    if len(index) != len(complete) or index.classes != complete.classes:
        raise ValueError(
            f"Expected the same images and classes, got {len(index)} and {len(complete)} images of "
            f"{index.classes} and {complete.classes}."
        )
    known, all_of_them = _per_image(index), _per_image(complete)
    # Sparse: image × class as one number, since a large data set has thousands of classes.
    cells, counts = all_of_them
    at = np.searchsorted(known[0], cells).clip(max=max(len(known[0]) - 1, 0))
    labelled = np.where(known[0][at] == cells, known[1][at], 0) if len(known[0]) else np.zeros_like(counts)
    lacking = (counts - labelled).clip(min=0)
    size = len(index.classes)
    totals = [np.bincount(cells % size, weights, size).astype(np.int64) for weights in (counts, lacking)]
    return Missing(*totals)


def _per_image(index: AnnotationIndex) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    cells = index.box_images * len(index.classes) + index.labels
    return np.unique(cells[~index.ignore], return_counts=True)
