"""All annotations of a data set as NumPy columns.

Columns hold no Python objects, so a forked DataLoader worker that reads them writes to no page of theirs:
the kernel never has to copy them.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from detlab.errors import UserError
from detlab.structures import Targets

_FORMAT = 1  # of the saved file


@dataclass(frozen=True, eq=False, repr=False)
class AnnotationIndex:
    """N images and their M boxes of C classes from S sources.

    Images: paths unicode ``[N]``; widths, heights int32 ``[N]`` pixels; ids int64 ``[N]``; sources int16
    ``[N]``, positions in source_names. Boxes of image i are the rows ``offsets[i]:offsets[i + 1]`` (offsets
    int64 ``[N + 1]``) of: boxes float32 ``[M, 4]`` xyxy pixels, right and bottom exclusive; labels int32
    ``[M]`` from 0; ignore bool ``[M]`` (crowd / difficult); areas float32 ``[M]`` (COCO's `area`, else width ×
    height).
    annotated bool ``[S, C]``: the classes each source's annotators looked for.
    class_ids int64 ``[C]``: the category ids of the annotation file, 1…C where it has none.

    Readers call `build`, which fills in the usual values and checks everything.
    """

    classes: tuple[str, ...]
    paths: NDArray[np.str_]
    widths: NDArray[np.int32]
    heights: NDArray[np.int32]
    ids: NDArray[np.int64]
    sources: NDArray[np.int16]
    source_names: tuple[str, ...]
    annotated: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int32]
    ignore: NDArray[np.bool_]
    areas: NDArray[np.float32]
    class_ids: NDArray[np.int64]

    @classmethod
    def build(
        cls,
        classes: Sequence[str],
        *,
        paths: Sequence[str] | NDArray[np.str_],
        widths: ArrayLike,
        heights: ArrayLike,
        box_images: ArrayLike,
        boxes: ArrayLike,
        labels: ArrayLike,
        ignore: ArrayLike | None = None,
        areas: ArrayLike | None = None,
        ids: ArrayLike | None = None,
        sources: ArrayLike | None = None,
        source_names: Sequence[str] = ("data",),
        annotated: ArrayLike | None = None,
        class_ids: ArrayLike | None = None,
    ) -> AnnotationIndex:
        """Columns from per-image and per-box values; ``box_images [M]`` is each box's image row.

        The boxes may come in any order: they are grouped by image, keeping their order within it. Left out:
        ignore = none, areas = w · h, ids = 0…N−1, one source that annotated every class. Raises ValueError for
        unequal lengths, labels or sources out of range, repeated class names or image rows that do not exist.
        """
        classes, source_names = tuple(classes), tuple(source_names)
        path_column = np.ascontiguousarray(paths, dtype=np.str_).reshape(-1)
        n = len(path_column)
        owner = np.ascontiguousarray(box_images, dtype=np.int64).reshape(-1)
        m = len(owner)
        corners = np.ascontiguousarray(boxes, dtype=np.float32).reshape(-1, 4)
        if areas is None:
            with np.errstate(invalid="ignore", over="ignore"):
                areas = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
        images: dict[str, NDArray[Any]] = {
            "widths": _column(widths, np.int32),
            "heights": _column(heights, np.int32),
            "ids": np.arange(n, dtype=np.int64) if ids is None else _column(ids, np.int64),
            "sources": np.zeros(n, np.int16) if sources is None else _column(sources, np.int16),
        }
        objects: dict[str, NDArray[Any]] = {
            "boxes": corners,
            "labels": _column(labels, np.int32),
            "ignore": np.zeros(m, np.bool_) if ignore is None else _column(ignore, np.bool_),
            "areas": _column(areas, np.float32),
        }
        for names, count in ((images, n), (objects, m)):
            for name, column in names.items():
                if len(column) != count:
                    raise ValueError(f"Expected {count} {name}, got {len(column)}.")
        if len(set(classes)) != len(classes):
            raise ValueError(f"Expected distinct class names, got {classes}.")
        _check_range("labels", objects["labels"], len(classes))
        _check_range("box_images", owner, n)
        _check_range("sources", images["sources"], len(source_names))
        shape = (len(source_names), len(classes))
        looked_for = np.ones(shape, np.bool_) if annotated is None else np.array(annotated, np.bool_).reshape(shape)
        category_ids = np.arange(1, len(classes) + 1) if class_ids is None else _column(class_ids, np.int64)
        if len(category_ids) != len(classes):
            raise ValueError(f"Expected {len(classes)} class_ids, got {len(category_ids)}.")
        if m and np.any(owner[1:] < owner[:-1]):
            order = np.argsort(owner, kind="stable")
            objects = {name: column[order] for name, column in objects.items()}
        offsets = np.zeros(n + 1, np.int64)
        np.cumsum(np.bincount(owner, minlength=n), out=offsets[1:])
        return cls(
            classes=classes,
            paths=path_column,
            source_names=source_names,
            annotated=looked_for,
            offsets=offsets,
            class_ids=category_ids.astype(np.int64),
            **images,
            **objects,
        )

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many boxes each image has, ``[N]``."""
        return np.diff(self.offsets)

    @property
    def box_images(self) -> NDArray[np.int64]:
        """The image row of each box, ``[M]``."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.counts)

    def boxes_of(self, row: int) -> slice:
        """The rows of image `row` in the box columns."""
        return slice(int(self.offsets[row]), int(self.offsets[row + 1]))

    def targets(self, row: int) -> Targets:
        """What is known about image `row`, as tensors of their own memory."""
        at = self.boxes_of(row)
        return Targets(
            boxes=torch.from_numpy(self.boxes[at].copy()),
            labels=torch.from_numpy(self.labels[at].astype(np.int64)),
            weights=torch.ones(at.stop - at.start),
            ignore=torch.from_numpy(self.ignore[at].copy()),
            annotated=torch.from_numpy(self.annotated[self.sources[row]].copy()),
        )

    def select(self, rows: ArrayLike) -> AnnotationIndex:
        """The images chosen by a bool mask ``[N]`` or by row numbers, in that order, with their boxes."""
        chosen = np.asarray(rows)
        if chosen.dtype == np.bool_:
            if chosen.shape != (len(self),):
                raise ValueError(f"Expected a mask of {len(self)} images, got shape {chosen.shape}.")
            chosen = np.flatnonzero(chosen)
        chosen = chosen.astype(np.int64).reshape(-1)
        _check_range("rows", chosen, len(self))
        counts = self.counts[chosen]
        offsets = np.zeros(len(chosen) + 1, np.int64)
        np.cumsum(counts, out=offsets[1:])
        boxes = np.repeat(self.offsets[chosen] - offsets[:-1], counts) + np.arange(offsets[-1])
        return replace(
            self,
            paths=self.paths[chosen],
            widths=self.widths[chosen],
            heights=self.heights[chosen],
            ids=self.ids[chosen],
            sources=self.sources[chosen],
            offsets=offsets,
            **self._box_columns(boxes),
        )

    def select_boxes(self, keep: NDArray[np.bool_]) -> AnnotationIndex:
        """The boxes where ``keep [M]`` is true; every image stays, also one left without boxes."""
        if keep.dtype != np.bool_ or keep.shape != (len(self.boxes),):
            raise ValueError(f"Expected a bool mask of {len(self.boxes)} boxes, got {keep.dtype} {keep.shape}.")
        kept = np.concatenate([[0], np.cumsum(keep)])
        return replace(self, offsets=kept[self.offsets].astype(np.int64), **self._box_columns(keep))

    def split(self, fraction: float, seed: int) -> tuple[AnnotationIndex, AnnotationIndex]:
        """Draw ``fraction`` of the images at random into the first part, the rest into the second.

        The same seed gives the same parts, order within a part stays, and of two or more images each part
        gets at least one.
        """
        first, second = split_rows(len(self), fraction, seed)
        return self.select(first), self.select(second)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all columns to one ``.npz`` file, which appears only when complete."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        columns = {
            **vars(self),
            "classes": np.array(self.classes, np.str_),
            "source_names": np.array(self.source_names, np.str_),
        }
        with partial.open("wb") as file:
            np.savez(file, format=np.int64(_FORMAT), **columns)
        partial.replace(target)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> AnnotationIndex:
        """Read what `save` wrote. Raises UserError where the file is missing or something else."""
        try:
            with np.load(path, allow_pickle=False) as file:
                columns = {name: file[name] for name in file.files}
            if columns.pop("format") != _FORMAT:
                raise KeyError("format")
            for name in ("classes", "source_names"):
                columns[name] = tuple(str(value) for value in columns[name])
            return cls(**columns)
        except FileNotFoundError:
            raise UserError(f"{path}: no such annotation index.") from None
        except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
            raise UserError(f"{path}: not an annotation index saved by this version of detlab.") from error

    def __repr__(self) -> str:
        return f"<AnnotationIndex: {self.describe()}>"

    def describe(self) -> str:
        """One line: images, boxes, classes."""
        names = ", ".join(self.classes[:5]) + (", …" if len(self.classes) > 5 else "")
        return (
            f"{len(self):,} images, {len(self.boxes):,} boxes"
            + (f" ({int(self.ignore.sum()):,} ignored)" if self.ignore.any() else "")
            + f", {len(self.classes)} classes ({names})"
        )

    def _box_columns(self, at: NDArray[Any]) -> dict[str, Any]:
        return {name: getattr(self, name)[at] for name in ("boxes", "labels", "ignore", "areas")}


def split_rows(count: int, fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows, of 0…count−1 and in order, that `AnnotationIndex.split` puts into its first and second part."""
    if not 0 < fraction < 1:
        raise ValueError(f"Expected a fraction between 0 and 1, got {fraction}.")
    size = min(max(round(fraction * count), 1), count - 1) if count > 1 else count
    order = np.random.default_rng(seed).permutation(count)
    return np.sort(order[:size]), np.sort(order[size:])


def _column(values: ArrayLike, dtype: type[np.generic]) -> NDArray[Any]:
    return np.ascontiguousarray(values, dtype=dtype).reshape(-1)


def _check_range(name: str, values: NDArray[Any], end: int) -> None:
    if len(values) and (values.min() < 0 or values.max() >= end):
        raise ValueError(f"Expected {name} in 0..{end - 1}, got {values.min()}..{values.max()}.")
