"""What a training step does beside its losses: batches without images, losses that are not finite, values to log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from detlab.assigners.counts import Counts
from detlab.errors import ElsewhereError, UserError
from detlab.losses.normalizer import process_count, reduce_mean
from detlab.models.detectors.loss_groups import unlabeled_targets
from detlab.structures import Batch


def empty_batch(batch: Batch, num_classes: int) -> Batch:
    """Replace images that could all not be read by an empty, unlabeled one: its losses are zeros that reach every
    parameter, and other processes need not wait for this one."""
    device, side = batch.images.device, 128
    size = torch.tensor([[side, side]], device=device)
    images, targets = batch.images.new_zeros(1, 3, side, side), [unlabeled_targets(num_classes, device)]
    return replace(batch, images=images, targets=targets, sizes=size)


def refuse_non_finite(total: Tensor, losses: dict[str, Tensor], batch: Batch) -> None:
    """Raise UserError naming the terms and the batch's image ids when the loss is not finite."""
    if bool(torch.isfinite(total)):
        return
    terms = ", ".join(f"{name} = {float(loss.detach()):g}" for name, loss in losses.items())
    raise UserError(
        f"The loss is not finite ({terms}) on the batch of image ids {batch.image_ids.tolist()}: "
        "lower schedule.lr, set schedule.clip_norm or train in 32-bit; checkpoints already written are kept."
    )


def mean_over_processes(
    values: Mapping[str, Tensor], counts: Counts | None, skipped: int, device: torch.device
) -> tuple[dict[str, Tensor], Counts | None, Tensor]:
    """Average scalars and match counts over the processes, and sum up the skipped images, in one reduction."""
    local = torch.stack([torch.full((), float(skipped), device=device), *values.values(), *(counts or ())])
    mean = reduce_mean(local)
    means = dict(zip(values, mean[1 : len(values) + 1], strict=True))
    return means, None if counts is None else Counts(*mean[-3:]), mean[0] * process_count()


def match_ratios(counts: Counts) -> dict[str, Tensor]:
    """Return positives per object and the share of objects without one; 0 without objects."""
    objects = counts.objects.clamp(min=1e-6)
    return {"positives_per_object": counts.positives / objects, "unmatched_objects": counts.unmatched / objects}


def refuse_non_finite_elsewhere(means: Mapping[str, Tensor]) -> None:
    """Raise ElsewhereError where a mean over several processes is not finite, as another process's own loss is not."""
    if process_count() > 1 and not bool(torch.isfinite(torch.stack(list(means.values()))).all()):
        raise ElsewhereError("The loss is not finite in another process.")
