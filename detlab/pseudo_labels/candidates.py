"""Which predictions a proxy classifier is asked about: Algorithm 1, lines 2–8, with a bounded number per image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from detlab.assigners.overlap import PAIRS_AT_ONCE, pad_targets
from detlab.ops.boxes import aligned_iou, clip_boxes
from detlab.structures import Predictions, Targets


class Regions(NamedTuple):
    """N predictions of a batch, the best of an image first: image, anchor int64 ``[N]``; boxes float32 ``[N, 4]`` xyxy
    pixels, clipped to the pictures; scores float32 ``[N]``."""

    image: Tensor
    anchor: Tensor
    boxes: Tensor
    scores: Tensor

    def select(self, index: Tensor) -> Regions:
        return Regions(*(field[index] for field in self))


def scores_of(predictions: Predictions) -> Tensor:
    """How sure the detector is that there is any object: p(O) where it predicts that, else its highest class score.
    float32 ``[B, A]``; 0 where it is not a number."""
    logits = predictions.logits.amax(-1) if predictions.objectness is None else predictions.objectness
    return logits.float().sigmoid().nan_to_num(nan=0.0)


def looked_for(predictions: Predictions, targets: list[Targets]) -> Tensor:
    """Which of the detector's classes the annotators of each image looked for: bool ``[B, C]``. Classes of the targets
    that the detector does not have, behind its own, are left out."""
    return torch.stack([t.annotated for t in targets])[:, : predictions.logits.shape[-1]]


def missing_scores(predictions: Predictions, targets: list[Targets], where: Tensor) -> Tensor:
    """How sure the detector is of an object of a class that the image's annotators did not look for: p(O) times what
    it gives to these classes, or the highest score of them. What it takes for one of theirs, away from all that they
    labelled, is rather nothing at all. float32 ``[B, A]``; 0 where it is not a number, −1 where not ``where [B, A]``:
    few predictions are worth a softmax."""
    image, anchor = where.nonzero(as_tuple=True)
    known = looked_for(predictions, targets)[image]  # [N, C]
    logits = predictions.logits[image, anchor].float()
    if predictions.objectness is None:
        found = logits.masked_fill(known, -torch.inf).amax(-1).sigmoid()
    else:
        objectness = predictions.objectness[image, anchor].float().sigmoid()
        found = logits.softmax(-1).masked_fill(known, 0.0).sum(-1) * objectness
    scores = torch.full_like(where, -1.0, dtype=torch.float32)
    scores[image, anchor] = found.nan_to_num(nan=0.0)
    return scores


def find_regions(
    predictions: Predictions,
    targets: list[Targets],
    sizes: Tensor,
    *,
    max_iou: float,
    min_score: float,
    nms: float | None,
    cap: int | Tensor | None,
    min_side: float = 1.0,
    before_nms: int = 25,
) -> Regions:
    """Predictions with IoU ≤ `max_iou` (θ1) with every labelled box of their image, flagged `ignore` or not. Those on
    labelled objects leave after the NMS, and the neighbours that they outranked there with them.

    Of images whose annotators looked for every class there are none: nothing is missing there. sizes int64 ``[B, 2]``
    (height, width) of the pictures. min_score: of `scores_of`; min_side: of a clipped box, pixels. nms: the best (by
    `missing_scores`) of those that overlap each other more than that; None: all. cap: so many per image, the best, one
    number or int64 ``[B]``; None: all. before_nms: of an image that many for each of the largest cap enter the NMS;
    without a cap all.
    """
    scores = scores_of(predictions)
    wanted = ~looked_for(predictions, targets).all(1)
    boxes = clip_boxes(predictions.boxes.float(), sizes)  # [B, A, 4]
    finite = predictions.boxes.isfinite().all(-1)
    large = (boxes[..., 2:] - boxes[..., :2] >= min_side).all(-1)
    valid = finite & large & wanted[:, None] & (scores >= min_score)
    order = missing_scores(predictions, targets, valid)
    caps = None if cap is None else torch.as_tensor(cap, device=scores.device).expand(len(scores))
    count = scores.shape[1]
    if caps is not None and len(caps):
        count = min(before_nms * int(caps.max()), count)
    best, anchor = order.topk(count)
    image, slot = (best >= 0).nonzero(as_tuple=True)
    anchor = anchor[image, slot]
    found = Regions(image, anchor, boxes[image, anchor], scores[image, anchor])
    if nms is not None:
        kept = batched_nms(found.boxes, best[image, slot], found.image, nms)
        found = found.select(kept.sort().values)  # in the order they came in: by image, the best first
    found = found.select(highest_iou(found.boxes, found.image, targets) <= max_iou)
    if caps is not None:
        place = torch.arange(len(found.image), device=found.image.device)
        found = found.select(place - torch.searchsorted(found.image, found.image) < caps[found.image])
    return found


def highest_iou(boxes: Tensor, image: Tensor, targets: list[Targets]) -> Tensor:
    """Of ``boxes [N, 4]`` with the labelled ones of the images ``[N]`` they are in: ``[N]``, 0 without any."""
    padded = pad_targets(targets)  # padding has no area, and so no overlap
    return aligned_iou(boxes[:, None], padded.boxes[image]).amax(1)


@torch.no_grad()
def overlapping(regions: Regions, boxes: Tensor, min_iou: float) -> tuple[Tensor, Tensor]:
    """Of ``boxes [B, A, 4]`` those with IoU ≥ `min_iou`, and above 0, with a region of their image: (which region,
    which anchor), int64 ``[M]`` each. An anchor that overlaps several regions goes to the one that it overlaps most; a
    region's own anchor is its own alone."""
    count = boxes.shape[1]
    near = [_near(regions, boxes, rows, min_iou) for rows in _portions(len(regions.image), count, boxes.device)]
    row, anchor, iou = (torch.cat(parts) for parts in zip(*near, strict=True))
    place = regions.image[row] * count + anchor
    best = iou.new_zeros(len(boxes) * count).scatter_reduce(0, place, iou, "amax")
    first = iou == best[place]  # of regions that it overlaps as much, the one that comes first
    none = len(regions.image)
    owner = torch.full_like(best, none, dtype=torch.int64).scatter_reduce(0, place[first], row[first], "amin")
    owner[regions.image * count + regions.anchor] = torch.arange(none, device=owner.device)
    anchor = (owner < none).nonzero()[:, 0]
    return owner[anchor], anchor % max(1, count)


def _near(regions: Regions, boxes: Tensor, rows: Tensor, min_iou: float) -> tuple[Tensor, Tensor, Tensor]:
    """(Region, anchor, IoU) of pairs that overlap enough, for these rows of the regions."""
    iou = aligned_iou(regions.boxes[rows, None], boxes[regions.image[rows]].float())  # [n, A]
    row, anchor = (iou >= max(min_iou, 1e-6)).nonzero(as_tuple=True)
    return rows[row], anchor, iou[row, anchor]


def _portions(regions: int, anchors: int, device: torch.device) -> Sequence[Tensor]:
    """Rows of the regions in portions of a bounded number of pairs with anchors; at least one portion."""
    return torch.arange(regions, device=device).split(max(1, PAIRS_AT_ONCE // max(1, anchors)))
