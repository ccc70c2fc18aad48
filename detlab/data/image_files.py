"""Image files without annotations: found in a folder, looked at, made into an index."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from detlab.data.image import read_image
from detlab.data.index import AnnotationIndex
from detlab.errors import UserError

log = logging.getLogger(__name__)

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def find_images(source: Path) -> list[Path]:
    """The picture itself, or every picture below a folder in order of name. UserError where there is none."""
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise UserError(f"source={source}: there is no such image or folder.")
    paths = sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not paths:
        raise UserError(f"source={source}: no pictures there (looked for {', '.join(SUFFIXES)}).")
    return paths


def readable_images(paths: list[Path]) -> tuple[list[Path], list[tuple[int, int]]]:
    """Those that decode, with (width, height); the others are named in the log. UserError when none does."""
    good, sizes, errors = [], [], []
    for path in paths:
        try:
            height, width = read_image(path).shape[:2]
        except UserError as error:
            errors.append(str(error))
            continue
        good.append(path)
        sizes.append((width, height))
    if not good:
        several = f"none of the {len(paths)} pictures can be read, to begin with "
        raise UserError((several if len(paths) > 1 else "") + errors[0])
    for message in errors:
        log.warning("Left out: %s", message)
    return good, sizes


def unlabeled_index(classes: Sequence[str], paths: Sequence[Path], sizes: Sequence[tuple[int, int]]) -> AnnotationIndex:
    """The images at `paths`, of (width, height) `sizes`, without boxes; their ids count from 1."""
    return AnnotationIndex.build(
        list(classes), paths=[str(path) for path in paths], widths=[w for w, _ in sizes], heights=[h for _, h in sizes],
        box_images=[], boxes=[], labels=[], ids=range(1, len(paths) + 1),
    )  # fmt: skip
