"""Points over a feature pyramid: what a detector without anchors predicts boxes from."""

from __future__ import annotations

from collections.abc import Sequence

from detlab.models.anchors import AnchorGenerator


class PointGenerator(AnchorGenerator):
    """One point at the center of every cell of every level, as the cell's own box.

    A point at level l is the square of side 2**l around ``(i + 0.5) · 2**l``, so that losses, matching and
    postprocessing take it as they take an anchor: its center is the point, its side the stride.

    Args:
        levels: the pyramid's levels.
        shrink: factor of the object sizes that a level is responsible for, below 1 for images much smaller than the
            papers'. Points have no size; `detlab.assigners.fcos.FCOSAssigner` takes the factor from here.

    Raises:
        ValueError: levels below 0, or a shrink of 0 or less.
    """

    def __init__(self, levels: Sequence[int] = (3, 4, 5, 6, 7), shrink: float = 1.0) -> None:
        if not shrink > 0:
            raise ValueError(f"Expected a shrink above 0, got {shrink}.")
        super().__init__(levels, scale=1.0, octaves=1, ratios=(1.0,))
        self.shrink = shrink
