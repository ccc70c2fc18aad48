"""A folder of pictures that nobody labelled."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from detlab.data.checks.problems import Problem
from detlab.data.image import SUFFIXES, image_size
from detlab.data.index import AnnotationIndex
from detlab.errors import UserError


def read_folder(
    folder: str | os.PathLike[str], *, classes: Sequence[str] = (), name: str = "images"
) -> tuple[AnnotationIndex, list[Problem]]:
    """Every picture in a folder and those below it, in natural order (2.jpg before 10.jpg), with sizes from their
    headers; no boxes, and nobody looked for any of `classes`.

    Files of other suffixes and what begins with a dot are passed over. A picture whose header cannot be read becomes a
    problem instead of a row. Raises UserError where there is no folder or no picture.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise UserError(f"{root}: no such folder of pictures; set data.images.")
    paths = sorted(_pictures(root), key=lambda path: _natural(os.path.relpath(path, root)))
    if not paths:
        raise UserError(f"{root}: there are no pictures ({', '.join(sorted(SUFFIXES))}); set data.images.")
    with ThreadPoolExecutor(min(8, (os.cpu_count() or 1) + 1)) as pool:
        looks = list(pool.map(_look, paths))
    problems = [
        Problem("unreadable image", "error", path, "", look.removeprefix(f"{path}: "))
        for path, look in zip(paths, looks, strict=True)
        if isinstance(look, str)
    ]
    found = [(path, look) for path, look in zip(paths, looks, strict=True) if not isinstance(look, str)]
    index = AnnotationIndex.build(
        classes,
        paths=[path for path, _ in found],
        widths=[width for _, (width, _) in found],
        heights=[height for _, (_, height) in found],
        box_images=[],
        boxes=[],
        labels=[],
        source_names=[name],
        annotated=np.zeros((1, len(classes)), np.bool_),
    )
    return index, problems


def _pictures(root: Path) -> list[str]:
    paths = []
    for folder, inner, files in os.walk(root):
        inner[:] = [name for name in inner if not name.startswith(".")]
        paths += [
            os.path.join(folder, name)
            for name in files
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES
        ]
    return paths


def _natural(path: str) -> tuple[list[list[str | int]], str]:
    """Folder by folder, numbers as numbers and letters whatever their case; ties by the letters themselves."""
    # Text and numbers take turns, so that only like is compared with like.
    words = [re.split(r"(\d+)", part.casefold()) for part in path.split(os.sep)]
    return [[int(word) if at % 2 else word for at, word in enumerate(part)] for part in words], path


def _look(path: str) -> tuple[int, int] | str:
    try:
        return image_size(path)
    except UserError as error:
        return str(error)
