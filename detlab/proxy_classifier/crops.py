"""Which crops of a picture the classifier learns from: its labelled boxes, perhaps shaken, and further rejects."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import box_iou, clip_boxes_to_image

from detlab.ops.boxes import aligned_iou

KINDS = ("objects", "others", "background", "partial")
OBJECT, OTHER, BACKGROUND, PARTIAL = range(len(KINDS))

_TRIES = 16  # boxes drawn for each background or partial crop, of which the first that fits is taken
_REACH = 0.2  # of a side, by which each edge of a shaken box moves at most


class Crops(NamedTuple):
    """boxes float32 ``[N, 4]`` xyxy pixels; labels int64 ``[N]`` in 0…K, K for reject; kinds int64 ``[N]``: where each
    comes from, a position in `KINDS`."""

    boxes: Tensor
    labels: Tensor
    kinds: Tensor


class CropRecipe:
    """Crops of one picture from its labelled boxes.

    The paper's crops are the labelled boxes, no more. The rest is ours and off by default: the boxes that a detector
    finds early in its training are mostly background, or badly placed, and neither is like anything labelled.

    jitter: chance that a labelled box is shaken in training, with an IoU of at least `jitter_iou` with itself; its
    label stays. background: random boxes, per labelled object, of other objects' sizes, with an IoU below
    `background_iou` with all that is labelled: reject. partial: boxes per object with an IoU of `partial_iou` (least,
    most) with it, and no more than that with anything labelled: reject.

    Raises ValueError for values out of range.
    """

    def __init__(
        self,
        jitter: float = 0.0,
        background: float = 0.0,
        partial: float = 0.0,
        jitter_iou: float = 0.7,
        background_iou: float = 0.3,
        partial_iou: tuple[float, float] = (0.1, 0.4),
    ) -> None:
        if not 0 <= jitter <= 1:
            raise ValueError(f"Expected jitter in 0..1, got {jitter}.")
        if background < 0 or partial < 0:
            raise ValueError(f"Expected background and partial of at least 0, got {background} and {partial}.")
        if not 0 < jitter_iou <= 1 or not 0 < background_iou <= 1:
            raise ValueError(f"Expected jitter_iou and background_iou in (0, 1], got {jitter_iou}, {background_iou}.")
        low, high = partial_iou
        if not 0 <= low < high <= 1:
            raise ValueError(f"Expected partial_iou (least, most) with 0 <= least < most <= 1, got {low}, {high}.")
        self.jitter, self.background, self.partial = jitter, background, partial
        self.jitter_iou, self.background_iou, self.partial_iou = jitter_iou, background_iou, (low, high)

    def draw(
        self,
        boxes: Tensor,
        labels: Tensor,
        known: Tensor,
        reject: int,
        size: tuple[int, int],
        sizes: Tensor,
        generator: torch.Generator,
        training: bool,
    ) -> Crops:
        """Labelled ``boxes [G, 4]`` with their labels ``[G]`` (0…`reject`) in a picture of `size` (height, width);
        known ``[M, 4]``: everything labelled, also what is no crop; ``sizes [S, 2]``: (width, height) of background."""
        objects = boxes[labels < reject]
        kinds = (labels == reject).long()
        if training and self.jitter:
            chosen = torch.rand(len(boxes), generator=generator) < self.jitter
            boxes = torch.where(chosen[:, None], shaken(boxes, self.jitter_iou, size, generator), boxes)
        count = whole(self.background * max(len(objects), 1), generator)
        apart = random_boxes(count, sizes, known, self.background_iou, size, generator)
        chosen_objects = objects[repeats(torch.full((len(objects),), self.partial), generator)]
        partial = off_target(chosen_objects, known, self.partial_iou, size, generator)
        extra = torch.cat([apart, partial])
        return Crops(
            torch.cat([boxes, extra]),
            torch.cat([labels, labels.new_full((len(extra),), reject)]),
            torch.cat([kinds, kinds.new_full((len(apart),), BACKGROUND), kinds.new_full((len(partial),), PARTIAL)]),
        )


def whole(number: float, generator: torch.Generator) -> int:
    """`number` rounded up or down at random, such that it is right on average."""
    return int(number + float(torch.rand((), generator=generator, dtype=torch.float64)))


def repeats(rates: Tensor, generator: torch.Generator) -> Tensor:
    """Positions 0 … N − 1, each as often, on average, as ``rates [N]`` says: int64, in order."""
    counts = (rates + torch.rand(len(rates), generator=generator)).long()
    return torch.arange(len(rates)).repeat_interleave(counts)


def shaken(boxes: Tensor, lowest: float, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """``boxes [N, 4]`` with each edge moved by up to a fifth of its side, inside a picture of `size` (height, width);
    the moves of a box are halved until its IoU with itself is at least `lowest`."""
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    moves = (torch.rand(boxes.shape, generator=generator) * 2 - 1) * _REACH * sides
    for _ in range(8):
        moved = clip_boxes_to_image(boxes + moves, size)
        low = aligned_iou(moved, boxes) < lowest
        if not low.any():
            return moved
        moves = torch.where(low[:, None], moves / 2, moves)
    return torch.where(low[:, None], boxes, moved)


def random_boxes(
    count: int, sizes: Tensor, known: Tensor, below: float, size: tuple[int, int], generator: torch.Generator
) -> Tensor:
    """Up to `count` boxes ``[n, 4]`` of random ``sizes [S, 2]`` (width, height) inside a picture of `size` (height,
    width), each with an IoU below `below` with all of ``known [M, 4]``; those that find no place are left out."""
    tries = count * _TRIES
    if not tries or not len(sizes):
        return known.new_zeros(0, 4)
    picture = sizes.new_tensor([size[1], size[0]])
    sides = torch.minimum(sizes[torch.randint(len(sizes), (tries,), generator=generator)], picture)
    corners = torch.rand(tries, 2, generator=generator) * (picture - sides)
    boxes = torch.cat([corners, corners + sides], 1)
    return _first_fits(boxes, _highest_iou(boxes, known) < below)


def off_target(
    boxes: Tensor, known: Tensor, iou: tuple[float, float], size: tuple[int, int], generator: torch.Generator
) -> Tensor:
    """For each of ``boxes [N, 4]`` one that is shifted and scaled, by up to its side and a factor of 2, until its IoU
    with it is within `iou` and with none of ``known [M, 4]`` higher: ``[n, 4]``; those without luck are left out."""
    if not len(boxes):
        return boxes
    given = boxes.repeat_interleave(_TRIES, 0)
    centre, sides = (given[:, :2] + given[:, 2:]) / 2, given[:, 2:] - given[:, :2]
    noise = torch.rand(len(given), 4, generator=generator) * 2 - 1
    centre, sides = centre + noise[:, :2] * sides, sides * torch.exp2(noise[:, 2:])
    moved = clip_boxes_to_image(torch.cat([centre - sides / 2, centre + sides / 2], 1), size)
    fits = (aligned_iou(moved, given) >= iou[0]) & (_highest_iou(moved, known) <= iou[1])
    return _first_fits(moved, fits)


def _highest_iou(boxes: Tensor, known: Tensor) -> Tensor:
    return box_iou(boxes, known).amax(1) if len(known) else boxes.new_zeros(len(boxes))


def _first_fits(boxes: Tensor, fits: Tensor) -> Tensor:
    """Of each run of `_TRIES` boxes the first that fits: ``[n, 4]``."""
    fits = fits.view(-1, _TRIES)
    first = fits.int().argmax(1)  # of equals the first
    return boxes.view(-1, _TRIES, 4)[torch.arange(len(fits)), first][fits.any(1)]
