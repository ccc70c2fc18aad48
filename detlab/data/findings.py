"""The single looks that `check.find_problems` takes at an index; each yields problems in row order."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np

from detlab.data.image import image_size, read_image
from detlab.data.index import AnnotationIndex
from detlab.data.problems import Problem
from detlab.errors import UserError

_ROUNDING = 0.05  # pixels beyond the edge that rounding in the file explains; not worth a warning


def box_problems(index: AnnotationIndex) -> Iterator[Problem]:
    """Errors and warnings of single boxes, at most one (the gravest) each."""
    owners = index.box_images
    size = np.stack([index.widths, index.heights], 1)[owners].astype(np.float64)
    low, high = index.boxes[:, :2].astype(np.float64), index.boxes[:, 2:].astype(np.float64)
    finite = np.isfinite(index.boxes).all(1)
    with np.errstate(invalid="ignore"):
        sides = high - low
        beyond = np.maximum(-low, high - size).max(1)
        checks: list[tuple[str, Literal["error", "warning"], Any, str]] = [
            ("NaN box", "error", ~finite, "its coordinates are not finite"),
            ("inverted box", "error", (sides < 0).any(1), "its corners are swapped"),
            ("zero-area box", "error", (sides == 0).any(1), "it has no area"),
            ("box outside", "error", ((low >= size) | (high <= 0)).any(1), "it lies outside the image"),
            ("box outside", "error", beyond > 1, "it reaches more than a pixel beyond the image"),
            ("box over the edge", "warning", beyond > _ROUNDING, "it reaches beyond the image; training clips it"),
            ("thin box", "warning", (sides <= 1).any(1), "it is at most one pixel wide or high"),
        ]
    told = np.zeros(len(index.boxes), np.bool_)
    for kind, severity, bad, message in checks:
        for box in np.flatnonzero(bad & ~told):
            row = int(owners[box])
            corners = ", ".join(f"{value:g}" for value in index.boxes[box])
            record = f"object {box - index.offsets[row] + 1} ({index.classes[index.labels[box]]})"
            where = f"({corners}) in {index.widths[row]} x {index.heights[row]}"
            yield Problem(kind, severity, str(index.paths[row]), record, f"{message}: {where}.", row, int(box))
        told |= bad  # one box, one complaint: the gravest


def duplicates(index: AnnotationIndex) -> Iterator[Problem]:
    """Images whose path or id an earlier image has."""
    for what, column in (("path", index.paths), ("id", index.ids)):
        _, first, inverse = np.unique(column, return_index=True, return_inverse=True)
        for row in np.flatnonzero(first[inverse] != np.arange(len(index))):
            other = index.paths[first[inverse[row]]]
            message = f"same {what} as an earlier image" + (f" ({other})." if what == "id" else ".")
            file, record = str(index.paths[row]), f"image {index.ids[row]}"
            yield Problem("duplicate image", "error", file, record, message, int(row))


def file_problems(index: AnnotationIndex, *, full: bool) -> Iterator[Problem]:
    """Picture files missing, unreadable or of another size; `full` decodes them and compares their contents."""
    with ThreadPoolExecutor(min(8, (os.cpu_count() or 1) + 1)) as pool:
        looks = pool.map(_look_fully if full else _look, map(str, index.paths))
        seen: dict[bytes, str] = {}
        for row, (size, digest, error) in enumerate(looks):
            path, expected = str(index.paths[row]), (int(index.widths[row]), int(index.heights[row]))
            if error is not None:
                kind = "unreadable image" if os.path.exists(path) else "missing image"
                yield Problem(kind, "error", path, "", error.removeprefix(f"{path}: "), row)
                continue
            if size != expected:
                message = "the file is {} x {} pixels, its annotation says {} x {}.".format(*size, *expected)
                yield Problem("image size", "error", path, "", message, row)
            if digest in seen and seen[digest] != path:
                message = f"same content as {seen[digest]}."
                yield Problem("duplicate image", "warning", path, "", message, row)
            elif digest:
                seen[digest] = path


def _look(path: str) -> tuple[tuple[int, int], bytes, str | None]:
    try:
        return image_size(path), b"", None
    except UserError as error:
        return (0, 0), b"", str(error)


def _look_fully(path: str) -> tuple[tuple[int, int], bytes, str | None]:
    try:
        height, width, _ = read_image(path).shape
        with open(path, "rb") as file:
            return (width, height), hashlib.file_digest(file, "blake2b").digest(), None
    except UserError as error:
        return (0, 0), b"", str(error)


def empty_images(index: AnnotationIndex) -> Iterator[Problem]:
    """Images without boxes."""
    for row in np.flatnonzero(index.counts == 0):
        yield Problem("image without boxes", "warning", str(index.paths[row]), "", "it has no boxes.", int(row))


def class_problems(index: AnnotationIndex) -> Iterator[Problem]:
    """Classes without boxes, and names that differ only in case or spaces."""
    where = ", ".join(index.source_names)
    counts = np.bincount(index.labels, minlength=len(index.classes))
    like: dict[str, str] = {}
    for name, count in zip(index.classes, counts, strict=True):
        if not count:
            yield Problem("class without boxes", "warning", where, f"class {name}", "no box has this class.")
        other = like.setdefault("".join(name.casefold().split()), name)
        if other != name:
            message = f"it differs from class {other} only in case or spaces."
            yield Problem("duplicate class", "warning", where, f"class {name}", message)
