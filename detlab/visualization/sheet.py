"""Pictures side by side on one sheet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

ACROSS, GAP = 3, 8  # pictures in a row, white pixels between


def side_by_side(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """``[H, W, 3]`` each, in rows on white, each in a cell of the largest size."""
    height, width = (max(picture.shape[side] for picture in pictures) for side in (0, 1))
    down = -(-len(pictures) // ACROSS)
    sheet = np.full((down * (height + GAP) - GAP, min(ACROSS, len(pictures)) * (width + GAP) - GAP, 3), 255, np.uint8)
    for number, picture in enumerate(pictures):
        top, left = number // ACROSS * (height + GAP), number % ACROSS * (width + GAP)
        sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return sheet
