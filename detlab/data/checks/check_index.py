"""What is wrong with an annotation index, what to do about it, and what it holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal

import numpy as np

from detlab.data.checks import findings
from detlab.data.checks.problems import ABSENT, OnError, Problem, Split
from detlab.data.index import AnnotationIndex
from detlab.errors import UserError

_SHOWN = 3  # problems quoted in an error


def find_problems(index: AnnotationIndex, *, read_images: Literal["none", "header", "full"] = "none") -> list[Problem]:
    """Everything wrong with the rows of `index`, in the order boxes, images, classes.

    Errors: a box that is not finite, inverted, of zero area, wholly outside its image or more than one pixel
    beyond its edge; an image listed twice (same path or id). Warnings: a box up to one pixel beyond the edge
    (training clips it) or at most one pixel wide or high; an image without boxes; a class without boxes; class
    names that differ only in case or spaces.
    read_images ``"header"`` opens every file: missing, unreadable, or of another size than annotated (errors).
    ``"full"`` also decodes every picture, and warns of files with the same content.
    """
    return [
        *findings.box_problems(index),
        *findings.duplicates(index),
        *(findings.file_problems(index, full=read_images == "full") if read_images != "none" else ()),
        *findings.empty_images(index),
        *findings.class_problems(index),
    ]


def empty_split(source: str, split: Split) -> Problem:
    """That a split has no pictures, which no row of an index can tell."""
    message = f"the {split} split has no pictures; check its paths and the names of its splits."
    return Problem("empty split", "error", source, "", message)


def clean(
    index: AnnotationIndex, problems: Iterable[Problem], on_error: OnError
) -> tuple[AnnotationIndex, dict[str, int]]:
    """`index` without what has errors, and how many errors of each kind there were.

    ``"raise"`` raises UserError quoting the first errors; ``"skip_box"`` drops the boxes concerned, and images
    only for errors of the image itself; ``"skip_image"`` drops every image that has an error. Warnings change
    nothing. Raises UserError where no image is left.
    """
    errors = [problem for problem in problems if problem.severity == "error"]
    if not errors:
        return index, {}
    if on_error == "raise":
        quoted = "; ".join(str(problem).rstrip(".") for problem in errors[:_SHOWN])
        rest = f"; and {len(errors) - _SHOWN} more" if len(errors) > _SHOWN else ""
        raise UserError(
            f"{len(errors)} error{'s' * (len(errors) > 1)} in the data set: {quoted}{rest}; mend the files (`detlab "
            "check` lists all), or go on without them with data.on_error=skip_box or data.on_error=skip_image."
        )
    whole = on_error == "skip_image"
    keep_image = np.ones(len(index), np.bool_)
    keep_box = np.ones(len(index.boxes), np.bool_)
    for problem in errors:
        if problem.image is not None and (whole or problem.box is None):
            keep_image[problem.image] = False
        elif problem.box not in (None, ABSENT):
            keep_box[problem.box] = False
    if not keep_image.any():
        raise UserError(f"No image is left after data.on_error={on_error}; the first error was: {errors[0]}")
    counts = dict(Counter(problem.kind for problem in errors))
    return index.select_boxes(keep_box).select(keep_image), counts
