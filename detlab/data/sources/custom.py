"""Somebody's own data: a format and paths on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from detlab.data.checks.problems import OnError, Problem, Split, of_selection
from detlab.data.formats.coco import class_names, read_coco
from detlab.data.formats.folder import read_folder
from detlab.data.formats.voc import VocSource
from detlab.data.formats.yolo_txt import YoloSource
from detlab.data.formats.yolo_yaml import read_yaml
from detlab.data.index import AnnotationIndex, split_rows
from detlab.errors import UserError

_NEEDED = {
    "coco": "data.images=<folder of pictures> data.annotations=<instances JSON>",
    "voc": "data.root=<folder with Annotations, ImageSets/Main and JPEGImages> data.split=<training list>",
    "yolo": "data.yaml=<data.yaml>",
    "images": "data.images=<folder of pictures>",
}


class CustomSource:
    """Data in one of three formats, or pictures without labels.

    ``coco``: images (folder) and annotations (JSON), and where there are more splits val_images,
    val_annotations, test_images, test_annotations (the images folder is the training one unless given).
    ``voc``: root (see `VocSource`) and split, the training list; val_split, test_split.
    ``yolo``: yaml, which names its own splits.
    ``images``: images (folder), see `read_folder`; training images alone, for `SemiSupervisedSource`.

    Without a val split, a share of `val_fraction` of the training images, drawn by `seed`, is held out: it is val
    and no longer train; ``val_fraction=0`` holds nothing out, and val is train. Without a test split, test is val.
    classes: see the reader of the format; labels are those of the training split everywhere.
    """

    def __init__(
        self,
        format: Literal["voc", "coco", "yolo", "images"],
        root: str | None = None,
        images: str | None = None,
        annotations: str | None = None,
        split: str | None = None,
        yaml: str | None = None,
        val_images: str | None = None,
        val_annotations: str | None = None,
        val_split: str | None = None,
        test_images: str | None = None,
        test_annotations: str | None = None,
        test_split: str | None = None,
        val_fraction: float = 0.1,
        classes: Sequence[str] | None = None,
        on_error: OnError = "raise",
        seed: int = 0,
        name: str = "custom",
    ) -> None:
        if format not in ("voc", "coco", "yolo", "images"):
            raise ValueError(f"Expected format voc, coco, yolo or images, got {format!r}.")
        if not 0 <= val_fraction < 1:
            raise ValueError(f"Expected val_fraction between 0 and 1, got {val_fraction}.")
        self.on_error = on_error
        self.name = name
        self.val_fraction = val_fraction
        self.seed = seed
        self._yaml: str | None = None
        self._source: _CocoFiles | VocSource | YoloSource | _Pictures
        if format == "coco":
            files = {"train": (_needed(images, format, "images"), _needed(annotations, format, "annotations"))}
            if val_annotations is not None:
                files["val"] = (val_images or files["train"][0], val_annotations)
            if test_annotations is not None:
                files["test"] = (test_images or files["train"][0], test_annotations)
            self._own = set(files)
            self._source = _CocoFiles(files, classes, name)
        elif format == "voc":
            folder, train = _needed(root, format, "root"), _needed(split, format, "split")
            lists = {"train": train, "val": val_split, "test": test_split}
            self._own = {key for key, value in lists.items() if value is not None}
            self._source = VocSource(
                folder, train=train, val=val_split or train, test=test_split or train, classes=classes, name=name
            )
        elif format == "images":
            self._own = {"train", "val", "test"}
            self._source = _Pictures(_needed(images, format, "images"), classes or (), name)
        else:
            self._own = set()
            self._yaml = _needed(yaml, format, "yaml")
            self._source = YoloSource(self._yaml, classes=classes, name=name)

    def load(self, split: Split) -> tuple[AnnotationIndex, list[Problem]]:
        """Read one split; problems and errors are those of the format's reader."""
        own = self._own if self._yaml is None else set(read_yaml(Path(self._yaml).expanduser()).splits)
        wanted: Split = "val" if split == "test" and "test" not in own else split
        if wanted in own and (wanted != "train" or "val" in own):
            return self._source.load(wanted)
        index, problems = self._source.load("train")
        if not self.val_fraction:
            return index, problems
        held, rest = split_rows(len(index), self.val_fraction, self.seed)
        rows = held if wanted == "val" else rest
        moved = of_selection(problems, rows)
        if wanted == "train":
            moved += [problem for problem in problems if problem.image is None]
        return index.select(rows), moved


class _CocoFiles:
    def __init__(self, files: dict[str, tuple[str, str]], classes: Sequence[str] | None, name: str) -> None:
        self.files = files
        self.classes = classes
        self.name = name

    def load(self, split: Split) -> tuple[AnnotationIndex, list[Problem]]:
        images, annotations = (Path(place).expanduser() for place in self.files[split])
        if not images.is_dir():
            raise UserError(f"{images}: no such folder of pictures; set {_key('images', split)}.")
        if not annotations.exists():
            raise UserError(f"{annotations}: no such annotation file; set {_key('annotations', split)}.")
        if self.classes is None and split != "train":
            self.classes = class_names(Path(self.files["train"][1]).expanduser())
        return read_coco(images, annotations, classes=self.classes, name=self.name)


@dataclass(frozen=True)
class _Pictures:
    folder: str
    classes: Sequence[str]
    name: str

    def load(self, split: Split) -> tuple[AnnotationIndex, list[Problem]]:
        if split != "train":
            raise UserError(
                f"data.format=images: {self.folder} has no labels to evaluate on, only pictures to be data.unlabelled "
                "of data=semi."
            )
        return read_folder(self.folder, classes=self.classes, name=self.name)


def _key(name: str, split: Split) -> str:
    return f"data.{name}" if split == "train" else f"data.{split}_{name}"


def _needed(value: str | None, format: str, key: str) -> str:
    if value is None:
        raise UserError(f"data.format={format} needs data.{key}: {_NEEDED[format]}.")
    return value
