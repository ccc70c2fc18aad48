"""One thing that is wrong with a data set, and where."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

OnError = Literal["raise", "skip_box", "skip_image"]
Split = Literal["train", "val", "test"]

ABSENT = -1  # Problem.box of an annotation that could not become a row


@dataclass(frozen=True)
class Problem:
    """kind: a short stable name to group by, e.g. ``"zero-area box"``. severity: an error makes `check` fail
    and obeys ``on_error``; a warning is only told.

    file: the annotation or image file. record: where in it (``"line 3"``, ``"object 2 (RBC)"``), "" for the
    whole file. message: one sentence. image, box: rows of the index it was found in; box is None
    where the whole image is concerned, and `ABSENT` for an annotation that was left out already; image is None
    where the image itself is no row.
    """

    kind: str
    severity: Literal["error", "warning"]
    file: str
    record: str
    message: str
    image: int | None = None
    box: int | None = None

    def __str__(self) -> str:
        where = f"{self.file}, {self.record}" if self.record else self.file
        return f"{where}: {self.message}"


def of_selection(problems: Iterable[Problem], rows: NDArray[np.int64]) -> list[Problem]:
    """The problems of an index as those of ``index.select(rows)``: image rows renumbered, the rest dropped.

    For problems of readers, which name no box rows. Raises ValueError for one that does.
    """
    new_row = {int(old): new for new, old in enumerate(rows)}
    moved = []
    for problem in problems:
        if problem.box not in (None, ABSENT):
            raise ValueError(f"Expected problems without box rows, got {problem}.")
        if problem.image in new_row:
            moved.append(replace(problem, image=new_row[problem.image]))
    return moved
