"""The single looks that `check.find_problems` takes at an index; each yields problems in row order."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np

from detlab.data.checks.problems import Problem
from detlab.data.class_names import near_misses
from detlab.data.image import image_size, read_image
from detlab.data.index import AnnotationIndex
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
            earlier = int(first[inverse[row]])
            message = f"same {what} as an earlier image" + (f" ({index.paths[earlier]})" if what == "id" else "")
            message += f"{_across_sources(index, earlier, int(row))}."
            file, record = str(index.paths[row]), f"image {index.ids[row]}"
            yield Problem("duplicate image", "error", file, record, message, int(row))


def file_problems(index: AnnotationIndex, *, full: bool) -> Iterator[Problem]:
    """Picture files missing, unreadable or of another size; `full` decodes them and compares their contents."""
    with ThreadPoolExecutor(min(8, (os.cpu_count() or 1) + 1)) as pool:
        looks = pool.map(_look_fully if full else _look, map(str, index.paths))
        seen: dict[bytes, int] = {}
        for row, (size, digest, error) in enumerate(looks):
            path, expected = str(index.paths[row]), (int(index.widths[row]), int(index.heights[row]))
            if error is not None:
                kind = "unreadable image" if os.path.exists(path) else "missing image"
                yield Problem(kind, "error", path, "", error.removeprefix(f"{path}: "), row)
                continue
            if size != expected:
                message = "the file is {} x {} pixels, its annotation says {} x {}.".format(*size, *expected)
                yield Problem("image size", "error", path, "", message, row)
            earlier = seen.setdefault(digest, row) if digest else row
            if index.paths[earlier] != path:
                message = f"same content as {index.paths[earlier]}{_across_sources(index, earlier, row)}."
                yield Problem("duplicate image", "warning", path, "", message, row)


def _across_sources(index: AnnotationIndex, earlier: int, row: int) -> str:
    one, other = (index.source_names[index.sources[at]] for at in (earlier, row))
    if one == other:
        return ""
    # Each copy is background where only the other is labelled.
    return f", once in source '{one}' and once in '{other}': join their labels in one source, or leave one copy out"


def seen_in_training(index: AnnotationIndex, train: AnnotationIndex) -> Iterator[Problem]:
    """Images to evaluate on that are among those of training, by content."""
    with ThreadPoolExecutor(min(8, (os.cpu_count() or 1) + 1)) as pool:
        known = dict(zip(pool.map(_digest, map(str, train.paths)), map(str, train.paths)))
        for row, digest in enumerate(pool.map(_digest, map(str, index.paths))):
            if digest and digest in known:
                message = f"same content as {known[digest]}, which is for training; leave one of them out."
                yield Problem("image of training", "warning", str(index.paths[row]), "", message, row)


def _digest(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "blake2b").digest()
    except OSError:
        return b""


def _look(path: str) -> tuple[tuple[int, int], bytes, str | None]:
    try:
        return image_size(path), b"", None
    except UserError as error:
        return (0, 0), b"", str(error)


def _look_fully(path: str) -> tuple[tuple[int, int], bytes, str | None]:
    try:
        height, width, _ = read_image(path).shape
        return (width, height), _digest(path), None
    except UserError as error:
        return (0, 0), b"", str(error)


def empty_images(index: AnnotationIndex) -> Iterator[Problem]:
    """Images without boxes, where somebody looked for any."""
    searched = np.asarray(index.annotated.any(1))
    for row in np.flatnonzero((index.counts == 0) & searched[index.sources]):
        yield Problem("image without boxes", "warning", str(index.paths[row]), "", "it has no boxes.", int(row))


def class_problems(index: AnnotationIndex) -> Iterator[Problem]:
    """Classes without boxes, and names that differ only in case or spaces; of a merge also names that may mean the
    same, and classes of which a source has no box though its annotators are said to have looked."""
    where = ", ".join(index.source_names)
    counts = np.bincount(index.labels, minlength=len(index.classes))
    present = np.unique(index.sources) if len(index) else slice(None)
    sought = np.atleast_1d(index.annotated[present].any(0))
    like: dict[str, str] = {}
    for label, name in enumerate(index.classes):
        if not counts[label] and sought[label]:
            yield Problem("class without boxes", "warning", where, f"class {name}", "no box has this class.")
        other = like.setdefault("".join(name.casefold().split()), name)
        if other != name:
            message = f"it differs from class {other} only in case or spaces."
            yield Problem("duplicate class", "warning", where, f"class {name}", message)
    if len(index.source_names) > 1:
        yield from _source_problems(index)


def _source_problems(index: AnnotationIndex) -> Iterator[Problem]:
    for earlier, later in near_misses(index):
        one, other = index.classes[earlier], index.classes[later]
        mine, theirs = (index.source_names[index.annotated[:, label].argmax()] for label in (earlier, later))
        message = (
            f"it may be what {mine} calls {one}; if so, rename it there ('+data.sources.{theirs}.rename="
            f"{{{other}: {one}}}'), or they stay two classes."
        )
        yield Problem("near-miss class", "warning", theirs, f"class {other}", message)
    owners = index.sources[index.box_images]
    for source, name in enumerate(index.source_names):
        if not (index.sources == source).any():
            continue
        counts = np.bincount(index.labels[owners == source], minlength=len(index.classes))
        elsewhere = np.bincount(index.labels[owners != source], minlength=len(index.classes))
        for label in np.flatnonzero(index.annotated[source] & (counts == 0) & (elsewhere > 0)):
            message = (
                f"source {name} is said to have looked for it but has no box of it; if its annotators did not, leave "
                "it out of the source's classes."
            )
            yield Problem("class without boxes in a source", "warning", name, f"class {index.classes[label]}", message)


def partly_labelled(index: AnnotationIndex, split: str) -> Iterator[Problem]:
    """That a split to evaluate on was not searched for every class."""
    looked_for = index.annotated[index.sources]
    if looked_for.all():
        return
    few = int(np.argmin(looked_for.sum(0)))
    message = (
        f"{int(looked_for.all(1).sum())} of {len(index)} images were searched for every class, "
        f"{int(looked_for[:, few].sum())} for {index.classes[few]}; a class counts only in images searched for it, so "
        "that false alarms elsewhere go unseen: fully labelled data would tell more."
    )
    yield Problem("partly labelled split", "warning", ", ".join(index.source_names), split, message)
