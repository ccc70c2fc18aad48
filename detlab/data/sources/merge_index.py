"""Indexes of several sources as one: the same label space, then one after the other."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from detlab.data.checks.problems import Problem
from detlab.data.index import AnnotationIndex


def in_label_space(
    index: AnnotationIndex,
    classes: Sequence[str],
    rename: Mapping[str, str] | None = None,
    looked_for: Collection[str] | None = None,
) -> AnnotationIndex:
    """The images of `index` with labels in the order of `classes`.

    rename: from names of the index to names of the label space; several may go to one. looked_for: which of
    `classes` (None: all) its annotators looked for; boxes of other classes are dropped, and so are those that have no
    place in `classes`. A class is annotated where every name that became it was; one that the index has not is not.
    A class keeps the category id of the first name that became it.
    """
    rename = rename or {}
    wanted = set(classes if looked_for is None else looked_for)
    position = {name: label for label, name in enumerate(classes) if name in wanted}
    to = np.array([position.get(rename.get(name, name), -1) for name in index.classes], np.int64)
    index = index.select_boxes(to[index.labels] >= 0)
    known = np.flatnonzero(to >= 0)
    annotated = np.zeros((len(index.source_names), len(classes)), np.bool_)
    annotated[:, to[known]] = True
    class_ids = index.class_ids.max(initial=0) + 1 + np.arange(len(classes))
    for label in known[::-1]:
        annotated[:, to[label]] &= index.annotated[:, label]
        class_ids[to[label]] = index.class_ids[label]
    return replace(
        index,
        classes=tuple(classes),
        labels=to[index.labels].astype(np.int32),
        annotated=annotated,
        class_ids=class_ids,
    )


def concatenate(indexes: Sequence[AnnotationIndex]) -> AnnotationIndex:
    """All images in the order given, sources and their names likewise. Image ids become row numbers, 0…N−1, and
    category ids 1…C.

    Raises ValueError where the indexes have different classes, or where there is none.
    """
    if not indexes or any(index.classes != indexes[0].classes for index in indexes):
        raise ValueError(f"Expected indexes of the same classes, got {[index.classes for index in indexes]}.")
    images, boxes, sources = (np.cumsum([0, *counts]) for counts in zip(*map(_sizes, indexes), strict=True))
    names = ("paths", "widths", "heights", "boxes", "labels", "ignore", "areas", "annotated")
    columns: dict[str, Any] = {name: np.concatenate([getattr(index, name) for index in indexes]) for name in names}
    return replace(
        indexes[0],
        **columns,
        ids=np.arange(images[-1]),
        sources=np.concatenate([index.sources + first for index, first in zip(indexes, sources)]).astype(np.int16),
        source_names=tuple(name for index in indexes for name in index.source_names),
        class_ids=np.arange(1, len(indexes[0].classes) + 1),
        offsets=np.concatenate([[0], *(index.offsets[1:] + first for index, first in zip(indexes, boxes))]),
    )


def moved(problems: Iterable[Problem], rows: int) -> list[Problem]:
    """Problems of readers (which name no box rows) as those of an index that has `rows` images more in front."""
    return [p if p.image is None else replace(p, image=p.image + rows) for p in problems]


def _sizes(index: AnnotationIndex) -> tuple[int, int, int]:
    return len(index), len(index.boxes), len(index.source_names)


def named(index: AnnotationIndex, name: str) -> AnnotationIndex:
    """As a part of a merge under `name`; of several sources, each under ``<name>/<its own>``."""
    single = len(index.source_names) == 1
    return replace(index, source_names=(name,) if single else tuple(f"{name}/{inner}" for inner in index.source_names))


def one_source(index: AnnotationIndex, name: str) -> AnnotationIndex:
    """All images from one source `name`, whose annotators looked for what all of theirs looked for."""
    return replace(
        index,
        sources=np.zeros(len(index), np.int16),
        source_names=(name,),
        annotated=np.atleast_2d(index.annotated.all(0)),
    )
