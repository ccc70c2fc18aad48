"""A YOLO data set's folders: ``data.yaml``, lists of pictures, and where the label of a picture is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from detlab.data.image import SUFFIXES
from detlab.errors import UserError


@dataclass(frozen=True)
class YoloFile:
    """file: the yaml. base: what its entries are relative to. splits: the entries of each split it has; an entry
    is a folder or a ``.txt`` list. names: classes in order of their numbers."""

    file: Path
    base: Path
    splits: dict[str, tuple[str, ...]]
    names: tuple[str, ...]


def read_yaml(file: Path) -> YoloFile:
    """Read a ``data.yaml``.

    A relative `path` counts from the yaml's folder, or from the current one where that does not exist. `names` is
    a list, or a dict from 0 without gaps. Raises UserError where the file is missing or malformed (with line), has
    no names, repeats one, or has another number of them than `nc`.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{file}: no such file; set data.yaml to the data.yaml of the data set.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot read this file ({error}).") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{file}{line}: malformed YAML ({getattr(error, 'problem', None) or error}).") from None
    if not isinstance(content, dict):
        raise UserError(f"{file}: expected keys path, train, val and names, got {type(content).__name__}.")
    names = _names(file, content)
    base = Path(str(content.get("path") or "")).expanduser()
    if not base.is_absolute() and ((file.parent / base).exists() or not base.exists()):
        base = file.parent / base
    splits = {}
    for split in ("train", "val", "test"):
        entry = content.get(split)
        if entry:
            splits[split] = tuple(map(str, entry)) if isinstance(entry, list) else (str(entry),)
    return YoloFile(file, base, splits, names)


def list_images(content: YoloFile, split: str) -> Iterator[tuple[str, str, str]]:
    """The pictures of a split as (path, list file, place in it), folders sorted and searched throughout.

    Raises UserError where the yaml has no such split, an entry does not exist, or there is no picture in it.
    """
    if split not in content.splits:
        there = ", ".join(content.splits) or "none"
        raise UserError(f"{content.file}: no entry '{split}'; there is {there}.")
    for entry in content.splits[split]:
        place = _resolve(content, split, entry)
        if place.is_dir():
            found = [Path(folder) / name for folder, _, names in os.walk(place) for name in names]
            pictures = sorted(path for path in found if path.suffix.lower() in SUFFIXES)
            if not pictures:
                raise UserError(f"{place}: no picture in this folder ('{split}' of {content.file}).")
            yield from ((str(path), str(place), path.name) for path in pictures)
        else:
            try:
                lines = place.read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise UserError(f"{place}: cannot read this list of pictures ({error}).") from None
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield str(place.parent / line.strip()), str(place), f"line {number}"


def label_path(picture: str) -> str:
    """The last folder ``images`` of the path replaced by ``labels``, and the suffix by ``.txt``."""
    parts = list(Path(picture).with_suffix(".txt").parts)
    for at in range(len(parts) - 2, -1, -1):
        if parts[at] == "images":
            parts[at] = "labels"
            break
    return os.path.join(*parts)


def _resolve(content: YoloFile, split: str, entry: str) -> Path:
    place = content.base / Path(entry).expanduser()
    if not place.exists() and entry.startswith("../"):
        # Some exporters write ../train/images for a folder beside the yaml.
        place = content.base / entry.removeprefix("../")
    if not place.exists():
        raise UserError(f"{content.file}: '{split}' points to {content.base / entry}, which does not exist.")
    return place


def _names(file: Path, content: dict[str, Any]) -> tuple[str, ...]:
    names = content.get("names")
    if isinstance(names, dict):
        try:
            numbered = sorted((int(number), str(name)) for number, name in names.items())
        except (TypeError, ValueError):
            raise UserError(f"{file}: expected names as 'number: name', got {names}.") from None
        if [number for number, _ in numbered] != list(range(len(numbered))):
            numbers = ", ".join(str(number) for number, _ in numbered)
            raise UserError(f"{file}: expected names numbered from 0 without gaps, got {numbers}.")
        names = [name for _, name in numbered]
    if not isinstance(names, list) or not names:
        raise UserError(f"{file}: expected a list of class names under 'names'.")
    classes = tuple(str(name).strip() for name in names)
    for name in classes:
        if classes.count(name) > 1:
            raise UserError(f"{file}: class '{name}' stands more than once in names.")
    count = content.get("nc")
    if count is not None and count != len(classes):
        raise UserError(f"{file}: nc is {count}, but there are {len(classes)} names.")
    return classes
