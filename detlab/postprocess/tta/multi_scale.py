"""Multi-scale testing: the detector looks at each picture at several sizes, and mirrored."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from detlab.postprocess import Candidates, Postprocess
from detlab.postprocess.tta.views import view
from detlab.structures import Anchors, Batch, Detections, Predictions


class MultiScale:
    """All views of a picture find candidates; together, in the batch's pixels, they go through one suppression.

    scales: factors of the resolution that the pictures are tested at otherwise. flip: at each scale the mirrored
    picture, too. ranges: for each scale (low, high), in pixels of that view: only boxes with low < sqrt(area) < high
    count, so that a small view finds large objects and a large one small ones; None: boxes of every size.
    Cost: as many forward passes as scales, twice that with `flip`, each of scale² times the pixels; a batch that fits
    at scale 1 may need too much memory at the largest.

    Where the authors of ATSS and PAA (whose Table 3 marks such rows with a star) differ: they resize the file, not the
    tested picture; each of their views goes through NMS and score voting by itself, and what is left is merged by a
    greedy "soft vote" (IoU ≥ 0.66, mean weighted by score). Here views are merged before the only suppression, by
    score voting where the post-processing is that.

    Raises ValueError for no scales, a scale that is not positive and finite, or ranges that are not one (low, high)
    with 0 ≤ low < high for each scale.
    """

    def __init__(
        self,
        scales: Sequence[float] = (0.75, 1.0, 1.25, 1.5),
        flip: bool = True,
        ranges: Sequence[Sequence[float]] | None = None,
    ) -> None:
        if not scales or not all(0 < scale < float("inf") for scale in scales):
            raise ValueError(f"Expected positive scales, got {list(scales)}.")
        if ranges is not None and len(ranges) != len(scales):
            raise ValueError(f"Expected a range for each of {len(scales)} scales, got {len(ranges)}.")
        if ranges is not None and not all(len(each) == 2 and 0 <= each[0] < each[1] for each in ranges):
            raise ValueError(f"Expected ranges (low, high) with 0 ≤ low < high, got {[list(each) for each in ranges]}.")
        self.scales = tuple(float(scale) for scale in scales)
        self.flip = flip
        self.ranges = None if ranges is None else tuple((float(low), float(high)) for low, high in ranges)

    @torch.no_grad()
    def __call__(
        self, detector: Callable[[Tensor], tuple[Predictions, Anchors]], batch: Batch, postprocess: Postprocess
    ) -> list[Detections]:
        found: list[Candidates] = []
        for number, scale in enumerate(self.scales):
            for flipped in (False, True) if self.flip else (False,):
                seen = view(batch.images, batch.sizes, scale, flipped)
                candidates = postprocess.candidates(*detector(seen.images), seen.sizes)
                if self.ranges is not None:
                    candidates = of_size(candidates, *self.ranges[number])
                found.append(candidates._replace(boxes=seen.bring_back(candidates.boxes, candidates.images)))
        return postprocess.finish(together(found), len(batch))


def of_size(candidates: Candidates, low: float, high: float) -> Candidates:
    """The candidates with low < sqrt(area) < high, in pixels."""
    width, height = (candidates.boxes[:, 2:] - candidates.boxes[:, :2]).unbind(-1)
    side = (width * height).sqrt()
    return candidates.select((low < side) & (side < high))


def together(found: Sequence[Candidates]) -> Candidates:
    """Candidates of several views in falling score."""
    every = Candidates(*map(torch.cat, zip(*found)))
    return every.select(every.scores.argsort(descending=True, stable=True))
