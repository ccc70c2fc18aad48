"""The pictures of one index with the labels of another, found by file name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from detlab.data.index import AnnotationIndex
from detlab.data.sources.merge_index import concatenate
from detlab.errors import UserError


def labels_from(index: AnnotationIndex, full: Sequence[AnnotationIndex], key: str) -> AnnotationIndex:
    """The images of `index`, in its order, with the boxes that images of the same file name (without folder and
    suffix) have in one of `full`, which have its classes.

    Ids, paths and sources stay those of `index`. Raises UserError, naming `key`, for a picture that is not there, has
    another size there, or shares its name with a different one.
    """
    everything = concatenate(full)
    there, mine = _rows(everything), _rows(index)
    rows = []
    for path, width, height in zip(map(str, index.paths), index.widths, index.heights, strict=True):
        name = Path(path).stem
        found, here = there.get(name, []), mine[name]
        if not found:
            raise UserError(f"{key}: it has no picture {name}, whose labels it should complete ({path}).")
        if len(found) > 1 or len(here) > 1:
            column, (one, two, *_) = (everything, found) if len(found) > 1 else (index, here)
            raise UserError(
                f"{key}: pictures are told by their file names, but {column.paths[one]} and {column.paths[two]} have "
                "the same; rename one."
            )
        size = (int(everything.widths[found[0]]), int(everything.heights[found[0]]))
        if size != (width, height):
            raise UserError(
                f"{key}: {everything.paths[found[0]]} is {size[0]} x {size[1]} pixels, {path} is {width} x {height}; "
                "complete labels need the same pictures."
            )
        rows.append(found[0])
    return replace(
        everything.select(rows),
        paths=index.paths,
        ids=index.ids,
        sources=index.sources,
        source_names=index.source_names,
        annotated=np.ones_like(index.annotated),
        class_ids=index.class_ids,
    )


def _rows(index: AnnotationIndex) -> dict[str, list[int]]:
    """File name → rows, one of each different path."""
    rows: dict[str, list[int]] = {}
    for row, path in enumerate(map(str, index.paths)):
        known = rows.setdefault(Path(path).stem, [])
        if all(index.paths[other] != path for other in known):
            known.append(row)
    return rows
