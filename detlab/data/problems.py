"""One thing that is wrong with a data set, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

OnError = Literal["raise", "skip_box", "skip_image"]
Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Problem:
    """kind: a short stable name to group by, e.g. ``"zero-area box"``. severity: an error makes `check` fail
    and obeys ``on_error``; a warning is only told.

    file: the annotation or image file. record: where in it (``"line 3"``, ``"object 2 (RBC)"``), "" for the
    whole file. message: one sentence. image, box: rows of the index it was found in, or None.
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
