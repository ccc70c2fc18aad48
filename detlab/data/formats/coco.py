"""COCO instances: one JSON file of images, annotations and categories.

Boxes are xywh from the top left corner and become xyxy in float64 before they are stored. `iscrowd` becomes
`ignore`; category ids become labels in order of id; COCO's `area` (of the mask) is kept. Segmentations are
skipped while decoding.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detlab.data.checks.problems import ABSENT, OnError, Problem, Split
from detlab.data.formats.coco_json import CocoFile, decode, decode_categories
from detlab.data.image import image_size
from detlab.data.index import AnnotationIndex
from detlab.errors import UserError, nearest


class CocoSource:
    """A data set in the layout of COCO 2017.

    root: the folder with ``annotations/instances_<split>.json`` and the pictures in ``<split>/`` or
    ``images/<split>/``. train, val, test: names of splits; COCO's own test split has no public annotations, so
    test is val unless said otherwise. classes: names in label order; None means the categories of the train
    file in order of id, for every split.
    """

    def __init__(
        self,
        root: str,
        train: str = "train2017",
        val: str = "val2017",
        test: str = "val2017",
        classes: Sequence[str] | None = None,
        on_error: OnError = "raise",
        name: str = "coco",
    ) -> None:
        self.root = Path(root).expanduser()
        self.splits = {"train": train, "val": val, "test": test}
        self.classes = None if classes is None else tuple(classes)
        self.on_error = on_error
        self.name = name

    def load(self, split: Split) -> tuple[AnnotationIndex, list[Problem]]:
        """Read one split; problems as of `read_coco`. Raises UserError where folder or file is missing."""
        if not self.root.is_dir():
            raise UserError(f"{self.root}: no such folder; set data.root to the folder with COCO's annotations.")
        wanted = self.splits[split]
        file = self._annotations(wanted)
        if self.classes is None and wanted != self.splits["train"]:
            first = self._annotations(self.splits["train"])
            self.classes = class_names(first) if first.is_file() else None
        folders = [self.root / wanted, self.root / "images" / wanted]
        images = next((folder for folder in folders if folder.is_dir()), folders[0])
        if not file.is_file():
            raise UserError(f"{file}: no such file; set data.root to the folder with COCO's annotations.")
        return read_coco(images, file, classes=self.classes, name=self.name)

    def _annotations(self, split: str) -> Path:
        return self.root / "annotations" / f"instances_{split}.json"


def class_names(annotations: str | os.PathLike[str]) -> tuple[str, ...]:
    """The distinct category names of an instances file in order of their ids."""
    categories = sorted(decode_categories(Path(annotations)), key=attrgetter("id"))
    return tuple(dict.fromkeys(category.name for category in categories))


def read_coco(
    images: str | os.PathLike[str],
    annotations: str | os.PathLike[str],
    *,
    classes: Sequence[str] | None = None,
    name: str = "coco",
) -> tuple[AnnotationIndex, list[Problem]]:
    """Read an instances file whose `file_name`s are relative to the folder `images`.

    Image and category ids are kept. Problems, with the record's id: fields missing or of a wrong type, repeated
    ids or category names, annotations of an unknown image or category, images of unknown size. A category of the
    file that is not in `classes` counts as unknown. Raises UserError where the file is missing or no JSON (with
    line and column), or has no categories.
    """
    path = Path(annotations)
    content = decode(path)
    reading = _Reading(path, content, classes)
    rows = reading.read_images(images)
    boxes, labels, owners, ignore, areas = reading.read_boxes()
    index = AnnotationIndex.build(
        reading.classes,
        **rows,
        box_images=owners,
        boxes=boxes,
        labels=labels,
        ignore=ignore,
        areas=areas,
        source_names=[name],
        class_ids=reading.class_ids,
    )
    return index, reading.problems


class _Reading:
    """One instances file on its way to columns."""

    def __init__(self, path: Path, content: CocoFile, classes: Sequence[str] | None) -> None:
        self.path = path
        self.content = content
        self.problems: list[Problem] = []
        categories = []
        names: set[str] = set()
        ids: set[int] = set()
        for category in content.categories:
            record = f"category {category.id} ({category.name})"
            if category.id in ids:
                self.problem("duplicate class", record, "its id is used twice; the first one counts.")
                continue
            if category.name in names:
                message = "its name is used twice; the boxes of both count as one class."
                self.problem("duplicate class", record, message)
            ids.add(category.id)
            names.add(category.name)
            categories.append(category)
        categories.sort(key=attrgetter("id"))
        self.names = {category.id: category.name for category in categories}
        if not self.names and classes is None:
            raise UserError(f"{path}: no categories; expected a list of {{id, name}} under 'categories'.")
        self.classes = tuple(dict.fromkeys(self.names.values())) if classes is None else tuple(classes)
        self.label_of = {name: label for label, name in enumerate(self.classes)}
        first_id = {c.name: c.id for c in reversed(categories)}
        free = max(self.names, default=0) + 1
        self.class_ids = [first_id.get(name, free + label) for label, name in enumerate(self.classes)]

    def problem(self, kind: str, record: str, message: str, *, row: int | None = None, warn: bool = False) -> None:
        box = None if row is None else ABSENT
        severity = "warning" if warn else "error"
        self.problems.append(Problem(kind, severity, str(self.path), record, message, row, box))  # type: ignore[arg-type]

    def read_images(self, folder: str | os.PathLike[str]) -> dict[str, Any]:
        """The image columns for `AnnotationIndex.build`; sets `image_ids` sorted and `image_rows` to match."""
        prefix = os.path.join(folder, "")
        seen: set[int] = set()
        paths, widths, heights, ids = [], [], [], []
        for image in self.content.images:
            if image.id in seen:
                self.problem("duplicate image", f"image {image.id}", "its id is used twice; the first one counts.")
                continue
            seen.add(image.id)
            path = image.file_name if os.path.isabs(image.file_name) else prefix + image.file_name
            width, height = image.width or 0, image.height or 0
            if width < 1 or height < 1:
                try:
                    width, height = image_size(path)
                except UserError as error:
                    self.problem("unknown image size", f"image {image.id}", f"no width and height here, and {error}")
                    continue
            paths.append(path)
            widths.append(width)
            heights.append(height)
            ids.append(image.id)
        column = np.array(ids, np.int64)
        self.image_rows = np.argsort(column, kind="stable")
        self.image_ids = column[self.image_rows]
        self.lost_ids = np.array(sorted(seen.difference(ids)), np.int64)
        for problem, image_id in self.content.problems:
            row = -1 if image_id is None else int(_look_up(self.image_ids, self.image_rows, np.array([image_id]))[0])
            self.problems.append(problem if row < 0 else replace(problem, image=row, box=ABSENT))
        return {"paths": paths, "widths": widths, "heights": heights, "ids": column}

    def read_boxes(self) -> tuple[NDArray[Any], ...]:
        """boxes xyxy ``[M, 4]``, labels, image rows, ignore, areas ``[M]`` of the usable annotations."""
        found = self.content.annotations
        count = len(found)
        image_ids = _gather(found, "image_id", np.int64)
        category_ids = _gather(found, "category_id", np.int64)
        self._check_ids(found)
        rows = _look_up(self.image_ids, self.image_rows, image_ids)
        known = np.array(sorted(self.names), np.int64)
        labels_of = np.array([self.label_of.get(self.names[int(i)], -1) for i in known], np.int64)
        labels = _look_up(known, labels_of, category_ids)
        for at in np.flatnonzero((rows < 0) | (labels < 0)):
            self._explain(int(at), int(rows[at]))
        xywh = np.fromiter(chain.from_iterable(map(attrgetter("bbox"), found)), np.float64, 4 * count).reshape(-1, 4)
        with np.errstate(invalid="ignore", over="ignore"):
            boxes = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1).astype(np.float32)
            areas = _gather(found, "area", np.float64).astype(np.float32)
            sides = boxes[:, 2:] - boxes[:, :2]
            areas = np.where(np.isnan(areas), sides[:, 0] * sides[:, 1], areas)
        ignore = _gather(found, "iscrowd", np.int64) != 0
        good = (rows >= 0) & (labels >= 0)
        return boxes[good], labels[good], rows[good], ignore[good], areas[good]

    def _check_ids(self, found: Sequence[Any]) -> None:
        ids = _gather(found, "id", np.int64)
        values, counts = np.unique(ids[ids >= 0], return_counts=True)
        repeated = values[counts > 1]
        if len(repeated):
            message = f"{len(repeated)} annotation ids are used more than once; all their boxes are kept."
            self.problem("duplicate annotation id", f"annotation {repeated[0]}", message, warn=True)

    def _explain(self, at: int, row: int) -> None:
        annotation = self.content.annotations[at]
        record = f"annotation {annotation.id}" if annotation.id >= 0 else f"annotations[{at}]"
        if row < 0:
            lost = annotation.image_id in self.lost_ids
            message = f"its image {annotation.image_id} " + ("has no size." if lost else "is not among the images.")
            self.problem("unknown image", record, message)
        elif annotation.category_id not in self.names:
            message = f"its category {annotation.category_id} is not among the categories."
            self.problem("unknown class", record, message, row=row)
        else:
            name = self.names[annotation.category_id]
            self.problem("unknown class", record, f"unknown class '{name}'{nearest(name, self.classes)}.", row=row)


def _gather(records: Sequence[Any], field: str, dtype: type[np.generic]) -> NDArray[Any]:
    return np.fromiter(map(attrgetter(field), records), dtype, len(records))


def _look_up(keys: NDArray[np.int64], values: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """``values[i]`` where ``keys[i] == wanted``, −1 where there is none; `keys` sorted."""
    if not len(keys):
        return np.full(len(wanted), -1, np.int64)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], -1)


def to_coco(index: AnnotationIndex, images: str | os.PathLike[str] | None = None) -> dict[str, list[dict[str, Any]]]:
    """An index as the contents of an instances file.

    Image and category ids are the index's; annotations are numbered from 1. `file_name` is the path as it stands,
    or relative to the folder `images`. Values are exact: reading the dict back gives equal columns.
    """
    corners = index.boxes.astype(np.float64)
    xywh = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1).tolist()
    owners = index.ids[index.box_images].tolist()
    categories = index.class_ids[index.labels].tolist()
    areas = index.areas.astype(np.float64).tolist()
    crowd = index.ignore.astype(int).tolist()
    names = [str(path) if images is None else os.path.relpath(path, images) for path in index.paths]
    return {
        "images": [
            {"id": image_id, "file_name": name, "width": width, "height": height}
            for image_id, name, width, height in zip(
                index.ids.tolist(), names, index.widths.tolist(), index.heights.tolist(), strict=True
            )
        ],
        "annotations": [
            {
                "id": number,
                "image_id": owner,
                "category_id": category,
                "bbox": box,
                "area": area,
                "iscrowd": iscrowd,
            }
            for number, (owner, category, box, area, iscrowd) in enumerate(
                zip(owners, categories, xywh, areas, crowd, strict=True), 1
            )
        ],
        "categories": [
            {"id": class_id, "name": name}
            for class_id, name in zip(index.class_ids.tolist(), index.classes, strict=True)
        ],
    }
