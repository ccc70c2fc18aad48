"""The weight w_loc that an IoU-balanced localization loss needs (Wu and Li 2020, Section 3.2)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from detlab.engine.module import LitDetector
from detlab.losses.quality import predicted_iou
from detlab.ops.matching import gather
from detlab.structures import Batch

log = logging.getLogger(__name__)


class Estimate(NamedTuple):
    """weight: w_loc of lambda_; low, high: the least and the largest of single batches."""

    lambda_: float
    weight: float
    low: float
    high: float


def estimate_loss_weights(
    module: LitDetector, batches: Iterable[Batch], lambdas: Sequence[float]
) -> list[Estimate] | None:
    """w_loc = Σ ℓ_i / Σ iou_i^λ · ℓ_i over the positives of all batches, for each λ: with it the sum of the
    localization loss stays what it was. None where no predicted box overlaps an object, which leaves nothing to go by.

    Args:
        module: In training mode, on its device; its criterion has a localization loss of its own. Nothing is trained.
        batches: Of training images.
        lambdas: Exponents of the IoU.
    """
    powers = torch.tensor([float(value) for value in lambdas], device=module.device)
    sums: list[Tensor] = []
    for batch in batches:
        if len(batch):
            each, ious = _localization(module, batch.to(module.device))
            weighted = (ious[:, None] ** powers * each[:, None]).sum(0)
            sums.append(torch.cat([each.sum()[None], weighted]).double().cpu())
            log.info("Batch %d: %d positives.", len(sums), len(each))
    table = torch.stack(sums) if sums else torch.zeros(1, 1 + len(powers))
    total, single = table.sum(0), table[(table[:, 1:] > 0).all(1)]
    if not bool((total > 0).all()):
        return None
    ratios = single[:, :1] / single[:, 1:]
    return [
        Estimate(float(value), float(total[0] / total[1 + k]), float(ratios[:, k].min()), float(ratios[:, k].max()))
        for k, value in enumerate(lambdas)
    ]


@torch.no_grad()
def _localization(module: LitDetector, batch: Batch) -> tuple[Tensor, Tensor]:
    """The localization loss of each of P positives, and the IoU of its predicted box with its object, ``[P]``."""
    predictions, anchors = module(batch.images)
    matched = gather(anchors, batch.targets, module.assigner(anchors, batch.targets, predictions), predictions)
    loss = getattr(module.criterion, "localization")(matched)  # noqa: B009  # of criteria that have one
    return loss * matched.box_weights, predicted_iou(matched)
