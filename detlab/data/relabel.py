"""Bring an index to another list of classes, by name; and tell one index from another."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from detlab.data.index import AnnotationIndex
from detlab.errors import UserError, nearest


def relabel(index: AnnotationIndex, classes: Sequence[str]) -> AnnotationIndex:
    """The same images and boxes with labels in the order of `classes`.

    `classes` may hold names that the index lacks (nobody looked for them); a class of the index that has boxes
    but stands not among `classes` raises UserError. Each class keeps its id in the annotation file.
    """
    if tuple(classes) == index.classes:
        return index
    position = {name: i for i, name in enumerate(classes)}
    used = set(np.unique(index.labels).tolist())
    for label, name in enumerate(index.classes):
        if label in used and name not in position:
            raise UserError(
                f"The data has boxes of class '{name}', which the detector does not know{nearest(name, classes)}: "
                "evaluate on data with the detector's classes."
            )
    to = np.array([position.get(name, -1) for name in index.classes], dtype=np.int64)
    known = to >= 0
    class_ids = index.class_ids.max(initial=0) + 1 + np.arange(len(classes))
    class_ids[to[known]] = index.class_ids[known]
    annotated = np.zeros((len(index.source_names), len(classes)), dtype=bool)
    annotated[:, to[known]] = index.annotated[:, known]
    return replace(
        index,
        classes=tuple(classes),
        labels=to[index.labels].astype(np.int32),
        annotated=annotated,
        class_ids=class_ids,
    )


def fingerprint(index: AnnotationIndex) -> str:
    """Twelve hexadecimal digits that change with any image size, id, box or class."""
    digest = hashlib.sha256(repr(index.classes).encode())
    for column in (index.widths, index.heights, index.ids, index.offsets, index.boxes, index.labels, index.ignore):
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()[:12]
