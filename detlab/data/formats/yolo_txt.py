"""YOLO txt: one text file of normalised boxes per picture, and a ``data.yaml``.

A line is ``class cx cy w h`` in fractions of the picture, or ``class x1 y1 x2 y2 …``, a polygon of three or more
points, which becomes its bounding box. Coordinates are turned into pixels in float64. The format knows no picture
sizes (they are read from the pictures' headers) and no ignored boxes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from detlab.data.checks.problems import ABSENT, OnError, Problem, Split
from detlab.data.formats.yolo_yaml import label_path, list_images, read_yaml
from detlab.data.image import image_size
from detlab.data.index import AnnotationIndex
from detlab.errors import UserError, nearest

_FRACTION = 2.0  # what lies further off is no box over the edge: the file is in pixels


class YoloSource:
    """A data set described by a ``data.yaml``.

    yaml: that file. classes: names in the order of the labels wanted, None for the yaml's own; every name must be
    in the yaml, and boxes of a class left out are problems. Image ids are row numbers.
    """

    def __init__(
        self,
        yaml: str,
        classes: Sequence[str] | None = None,
        on_error: OnError = "raise",
        name: str = "yolo",
    ) -> None:
        self.yaml = Path(yaml).expanduser()
        self.classes = None if classes is None else tuple(classes)
        self.on_error = on_error
        self.name = name

    def load(self, split: Split) -> tuple[AnnotationIndex, list[Problem]]:
        """Read one split.

        Problems: pictures whose size cannot be read, pictures listed twice, malformed lines, numbers that are
        not finite, unknown classes. A picture without a label file has no boxes. Raises UserError for a yaml that
        is missing or contradicts itself, a split it does not have, and where not one label file is found.
        """
        content = read_yaml(self.yaml)
        reading = _Reading(self.yaml, content.names, content.names if self.classes is None else self.classes)
        pictures: dict[str, None] = {}
        for picture, file, record in list_images(content, split):
            if picture in pictures:
                message = f"{picture} is listed twice."
                reading.problems.append(Problem("duplicate image", "error", file, record, message))
            pictures[picture] = None
        with ThreadPoolExecutor(min(8, (os.cpu_count() or 1) + 1)) as pool:
            for picture, size in zip(pictures, pool.map(_size, pictures), strict=True):
                reading.read(picture, size)
        if reading.paths and not reading.labelled:
            raise UserError(
                f"{self.yaml}: none of the {len(reading.paths)} pictures of '{split}' has a label file; expected "
                f"for example {label_path(reading.paths[0])}."
            )
        index = AnnotationIndex.build(
            reading.classes,
            paths=reading.paths,
            widths=[width for width, _ in reading.sizes],
            heights=[height for _, height in reading.sizes],
            box_images=reading.owners,
            boxes=reading.pixels(),
            labels=reading.labels,
            source_names=[self.name],
        )
        return index, reading.problems


class _Reading:
    def __init__(self, yaml: Path, names: Sequence[str], classes: Sequence[str]) -> None:
        for name in classes:
            if name not in names:
                raise UserError(f"{yaml}: no class '{name}' in names{nearest(name, names)}.")
        self.names = names
        self.classes = tuple(classes)
        self.label_of = {number: self.classes.index(n) for number, n in enumerate(names) if n in self.classes}
        self.problems: list[Problem] = []
        self.paths: list[str] = []
        self.sizes: list[tuple[int, int]] = []
        self.owners: list[int] = []
        self.fractions: list[tuple[float, float, float, float]] = []
        self.labels: list[int] = []
        self.labelled = False

    def read(self, picture: str, size: tuple[int, int] | str) -> None:
        """Add one picture and its boxes; `size` is (width, height), or why it could not be read."""
        if isinstance(size, str):
            message = size.removeprefix(f"{picture}: ")
            self.problems.append(Problem("unknown image size", "error", picture, "", message))
            return
        row = len(self.paths)
        self.paths.append(picture)
        self.sizes.append(size)
        file = label_path(picture)
        try:
            with open(file, encoding="utf-8") as lines:
                text = lines.read()
            self.labelled = True
        except FileNotFoundError:
            return
        except (OSError, UnicodeDecodeError) as error:
            message = f"cannot read this label file ({error})."
            self.problems.append(Problem("malformed line", "error", file, "", message, row, ABSENT))
            return
        for number, line in enumerate(text.splitlines(), 1):
            values = line.split()
            if not values:
                continue
            try:
                class_number, box = _parse(values)
            except ValueError as error:
                kind, message = "malformed line", f"{error}, got '{line[:60]}'."
            else:
                if class_number in self.label_of:
                    self.owners.append(row)
                    self.fractions.append(box)
                    self.labels.append(self.label_of[class_number])
                    continue
                known = f"'{self.names[class_number]}'" if 0 <= class_number < len(self.names) else class_number
                kind, message = "unknown class", f"unknown class {known}; there are {', '.join(self.classes)}."
            self.problems.append(Problem(kind, "error", file, f"line {number}", message, row, ABSENT))

    def pixels(self) -> NDArray[np.float64]:
        """The boxes read, from cxcywh fractions to xyxy pixels ``[M, 4]``."""
        fractions = np.array(self.fractions, np.float64).reshape(-1, 4)
        sizes = np.array(self.sizes, np.float64).reshape(-1, 2)[np.array(self.owners, np.int64)]
        # This order of operations lets a box that starts at 0 come back as exactly 0.
        low, high = fractions[:, :2] - fractions[:, 2:] / 2, fractions[:, :2] + fractions[:, 2:] / 2
        return np.concatenate([low * sizes, high * sizes], 1)


def _parse(values: Sequence[str]) -> tuple[int, tuple[float, float, float, float]]:
    """Class number and cxcywh fractions of one line; ValueError says what was expected."""
    if len(values) != 5 and (len(values) < 7 or len(values) % 2 == 0):
        raise ValueError(f"expected 5 columns, or a polygon's class and pairs, not {len(values)} columns")
    try:
        class_number, *numbers = map(float, values)
    except ValueError:
        raise ValueError("expected numbers") from None
    if not all(map(math.isfinite, numbers)):
        raise ValueError("expected finite numbers")
    if not class_number.is_integer():
        raise ValueError("expected a whole class number")
    if max(map(abs, numbers)) > _FRACTION:
        raise ValueError("expected fractions of the picture, not pixels")
    if len(numbers) == 4:
        if min(numbers[2:]) < 0:
            raise ValueError("expected no negative width or height")
        return int(class_number), (numbers[0], numbers[1], numbers[2], numbers[3])
    left, right = min(numbers[0::2]), max(numbers[0::2])
    top, bottom = min(numbers[1::2]), max(numbers[1::2])
    return int(class_number), ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)


def _size(picture: str) -> tuple[int, int] | str:
    try:
        return image_size(picture)
    except UserError as error:
        return str(error)


def write_yolo(index: AnnotationIndex, folder: str | os.PathLike[str], split: str = "train") -> Path:
    """Write ``labels/<split>/*.txt``, links to the pictures in ``images/<split>``, a ``data.yaml``; return the yaml.

    Fractions are written as the shortest decimals that give the same float64, so that reading them gives equal
    float32 pixels. A ``<split>.txt`` keeps the order of the images; an existing yaml gains the split. Ignored boxes
    are left out, as the format has no mark for them. Raises UserError where two pictures share a file name.
    """
    root = Path(folder)
    pictures, labels = root / "images" / split, root / "labels" / split
    for place in (pictures, labels):
        place.mkdir(parents=True, exist_ok=True)
    boxes = index.boxes.astype(np.float64)
    sizes = np.stack([index.widths, index.heights], 1)[index.box_images].astype(np.float64)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 / sizes
    spans = (boxes[:, 2:] - boxes[:, :2]) / sizes
    rows = np.concatenate([centres, spans], 1).tolist()
    names: dict[str, str] = {}
    for row, path in enumerate(map(str, index.paths)):
        name = Path(path).name
        if Path(name).stem in names:
            raise UserError(f"{path}: {names[Path(name).stem]} has the same file name; YOLO needs distinct ones.")
        names[Path(name).stem] = path
        lines = [
            f"{index.labels[box]} " + " ".join(map(repr, rows[box])) + "\n"
            for box in range(index.offsets[row], index.offsets[row + 1])
            if not index.ignore[box]
        ]
        (labels / f"{Path(name).stem}.txt").write_text("".join(lines), encoding="utf-8")
        link = pictures / name
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.abspath(path))
    listing = [f"images/{split}/{Path(path).name}\n" for path in names.values()]
    (root / f"{split}.txt").write_text("".join(listing), encoding="utf-8")
    target = root / "data.yaml"
    splits = {split: f"{split}.txt"}
    if target.is_file():
        splits = {name: entries[0] for name, entries in read_yaml(target).splits.items()} | splits
    content = {"path": ".", **splits, "nc": len(index.classes), "names": list(index.classes)}
    target.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return target
