"""FCOS's assignment: the points near an object's center, on the level for its size (Tian et al. 2019, section 3)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from detlab.assigners.overlap import box_area, image_chunks, overlaps_crowd, pad_targets
from detlab.structures import BACKGROUND, IGNORED, Anchors, Assignment, Predictions, Targets


class FCOSAssigner:
    """A point is positive for an object it lies strictly inside of, near the object's center and on its level.

    Near: less than `radius` strides from the center in x and in y (center sampling of the authors' code). On its level:
    the largest of the distances to the four sides, m, is in the range of the level, ``m_{i-1} ≤ m ≤ m_i``, with
    m_i = `size_range` · `shrink` · stride; the finest level has no lower end, the coarsest no upper. For COCO,
    ``size_range=8`` gives the paper's 64, 128, 256 and 512 at strides 8 to 64. Of several objects a point takes the one
    of the smallest area, of equal areas the first. All other points are background, except those with
    `ignore_iof_thr` of their cell inside an object flagged `ignore`: they are ignored. An object that holds no
    point of its level, as a tiny one may, has no positives.

    The first anchor of a level is centered on (stride / 2, stride / 2); anchors of any size will do, of which only the
    centers count here.

    Args:
        radius: of center sampling, in strides.
        size_range: upper end of a level's range, in strides.
        shrink: factor of `size_range`, below 1 for images much smaller than the paper's.
        ignore_iof_thr: share of a cell inside an ignored object from which the point is ignored.

    Raises:
        ValueError: `radius`, `size_range` or `shrink` not above 0, or `ignore_iof_thr` outside (0, 1].
    """

    def __init__(
        self, radius: float = 1.5, size_range: float = 8.0, shrink: float = 1.0, ignore_iof_thr: float = 0.5
    ) -> None:
        if not min(radius, size_range, shrink) > 0:
            raise ValueError(
                f"Expected radius, size_range and shrink above 0, got {radius}, {size_range} and {shrink}."
            )
        if not 0 < ignore_iof_thr <= 1:
            raise ValueError(f"Expected ignore_iof_thr in (0, 1], got {ignore_iof_thr}.")
        self.radius, self.size_range = radius, size_range * shrink
        self.ignore_iof_thr = ignore_iof_thr

    @torch.no_grad()
    def __call__(
        self,
        anchors: Anchors,
        targets: list[Targets],
        predictions: Predictions | None = None,  # noqa: ARG002
    ) -> Assignment:
        """``anchors [A]`` and B images' targets → gt_index int64 ``[B, A]``."""
        boxes, padded = anchors.boxes.float(), pad_targets(targets)
        index = torch.full((len(targets), len(boxes)), BACKGROUND, device=boxes.device)
        if not len(boxes):
            return Assignment(index)
        centers = (boxes[:, :2] + boxes[:, 2:]) / 2
        strides = strides_of_levels(centers, anchors.level_sizes)
        lower, upper = (ends[anchors.level] for ends in size_ranges(strides, self.size_range))
        radius = self.radius * strides[anchors.level]
        for images in image_chunks(padded, 4 * len(boxes)):
            objects = padded.boxes[images]
            nearest, farthest, offset = point_distances(centers, objects)
            claims = (nearest > 0) & (offset < radius) & (farthest >= lower) & (farthest <= upper)
            claims &= padded.matchable[images, :, None]
            smallest, winner = torch.where(claims, box_area(objects)[..., None], math.inf).min(1)  # at a tie the first
            index[images] = torch.where(smallest < math.inf, winner, BACKGROUND)
        crowd = overlaps_crowd(padded, boxes, self.ignore_iof_thr)
        return Assignment(index.masked_fill_(crowd & (index < 0), IGNORED))


def strides_of_levels(centers: Tensor, level_sizes: tuple[int, ...]) -> Tensor:
    """Strides of the levels ``[L]`` from anchor centers ``[A, 2]``: twice the first center's x."""
    starts = torch.tensor([0, *level_sizes[:-1]], device=centers.device).cumsum(0)
    return 2 * centers[starts.clamp(max=len(centers) - 1), 0]


def size_ranges(strides: Tensor, size_range: float) -> tuple[Tensor, Tensor]:
    """Lower and upper ends of what m may be on each level, ``[L]`` each in pixels, for ``strides [L]``, rising."""
    upper = size_range * strides
    lower = torch.cat([upper.new_zeros(1), upper[:-1]])
    return lower, torch.cat([upper[:-1], upper.new_full((1,), math.inf)])


def point_distances(points: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distances of ``points [A, 2]`` to the sides and centers of ``boxes [b, G, 4]``.

    Returns:
        The smallest and the largest of (l, t, r, b), and the larger of the offsets in x and y from the center:
        ``[b, G, A]`` each; distances to sides that a point is outside of are negative.
    """
    x, y = points.t().contiguous()  # [A]
    x1, y1, x2, y2 = boxes[..., None].unbind(-2)  # [b, G, 1]
    left, top, right, bottom = x - x1, y - y1, x2 - x, y2 - y  # [b, G, A]
    nearest = torch.minimum(torch.minimum(left, right), torch.minimum(top, bottom))
    farthest = torch.maximum(torch.maximum(left, right), torch.maximum(top, bottom))
    offset = torch.maximum((left - right).abs(), (top - bottom).abs()) / 2
    return nearest, farthest, offset
