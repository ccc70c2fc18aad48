"""A figure of a paper that is no panels of lines: a picture and its numbers, each made already."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray


class Picture(NamedTuple):
    """The picture, uint8 ``[H, W, 3]`` or a figure; its numbers as CSV; and the rest as of a `Drawing`."""

    drawn: Figure | NDArray[np.uint8]
    numbers: str
    caption: str
    from_runs: bool = True

    def picture(self) -> Figure | NDArray[np.uint8]:
        return self.drawn

    def csv(self) -> str:
        return self.numbers
