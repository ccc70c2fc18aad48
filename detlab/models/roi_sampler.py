"""Which regions a second stage learns from, and what it learns of each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

from detlab.assigners.max_iou import MaxIoU
from detlab.data.samplers import mixed_seed
from detlab.ops.matching import class_rows
from detlab.structures import BACKGROUND, Anchors, Targets


class RoIs(NamedTuple):
    """R sampled regions of B images, P of them on an object.

    boxes: B of ``[R_i, 4]`` xyxy pixels. labels int64 ``[R]``: the class, −1 for background. annotated bool ``[R, C]``:
    the classes that the image's annotators looked for. Of the P, whose places in R are positive int64 ``[P]``:
    weights ``[P]``, class_targets ``[P, C]`` (the label's one-hot row, or soft probabilities), target_boxes ``[P, 4]``
    xyxy pixels, box_weights ``[P]``.
    """

    boxes: list[Tensor]
    labels: Tensor
    annotated: Tensor
    positive: Tensor
    weights: Tensor
    class_targets: Tensor
    target_boxes: Tensor
    box_weights: Tensor


class RoISampler:
    """Draws at most `number` regions of each image, of these at most the share `positive` on objects (Girshick 2015,
    section 2.3), by torchvision's sampler.

    The objects' own boxes join the proposals, but for those flagged `ignore`. What the assigner ignores is not drawn,
    and in an image whose annotators looked for nothing no background.

    Raises ValueError for a number below 1 or a share outside (0, 1].
    """

    def __init__(self, assigner: MaxIoU, number: int = 512, positive: float = 0.25) -> None:
        if number < 1 or not 0 < positive <= 1:
            raise ValueError(f"Expected a number of at least 1 and a share in (0, 1], got {number} and {positive}.")
        self.assigner = assigner
        self.draw = BalancedPositiveNegativeSampler(number, positive)

    @torch.no_grad()
    def __call__(self, proposals: list[Tensor], targets: list[Targets]) -> RoIs:
        """``proposals``: B of ``[N_i, 4]`` xyxy pixels."""
        boxes = [torch.cat([mine, t.boxes[~t.ignore].to(mine)]) for mine, t in zip(proposals, targets, strict=True)]
        index = [self.assigner(_anchors(mine), [t]).gt_index[0] for mine, t in zip(boxes, targets, strict=True)]
        states = [
            (found >= 0).long() - ((found < BACKGROUND) | ((found == BACKGROUND) & ~t.annotated.any())).long()
            for found, t in zip(index, targets, strict=True)
        ]
        chosen = [(on | off).nonzero()[:, 0] for on, off in zip(*self.draw(states), strict=True)]
        index = [found[mine] for found, mine in zip(index, chosen, strict=True)]
        objects = [t[found[found >= 0]] for found, t in zip(index, targets, strict=True)]
        everywhere = torch.cat(index)
        positive = (everywhere >= 0).nonzero()[:, 0]
        labels = torch.full_like(everywhere, BACKGROUND)
        labels[positive] = torch.cat([t.labels for t in objects])
        annotated = [t.annotated.expand(len(mine), -1) for mine, t in zip(chosen, targets, strict=True)]
        return RoIs(
            boxes=[every[mine] for every, mine in zip(boxes, chosen, strict=True)],
            labels=labels,
            annotated=torch.cat(annotated),
            positive=positive,
            weights=torch.cat([t.weights for t in objects]),
            class_targets=torch.cat([class_rows(t) for t in objects]),
            target_boxes=torch.cat([t.boxes for t in objects]),
            box_weights=torch.cat([t.weights if t.box_weights is None else t.box_weights for t in objects]),
        )


def _anchors(boxes: Tensor) -> Anchors:
    return Anchors(boxes, torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device), (len(boxes),))


@contextmanager
def draws_of(iteration: int, device: torch.device) -> Iterator[None]:
    """Random numbers that depend on the run's seed and the iteration alone: a training that goes on from a checkpoint
    draws what it would have drawn. Those of everything else are as if nothing had been drawn."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(mixed_seed(torch.initial_seed(), iteration))
        yield
