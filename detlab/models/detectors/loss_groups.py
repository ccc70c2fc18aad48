"""Losses of a batch whose images are normalized in groups, as labeled and unlabeled ones are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from detlab.structures import BACKGROUND, Assignment, LossGroup, Targets


class OfImages(Protocol):
    """Outputs of a detector for B images, from which those of some images can be taken."""

    def of_images(self: _Self, rows: Tensor) -> _Self:
        """Those of some images of the batch, int64 ``[n]``."""
        ...


_Self = TypeVar("_Self")
_Outputs = TypeVar("_Outputs", bound=OfImages)


def losses_by_group(
    groups: Sequence[LossGroup],
    compute_losses: Callable[[_Outputs, list[Targets], Assignment], dict[str, Tensor]],
    outputs: _Outputs,
    targets: list[Targets],
    assignment: Assignment,
) -> dict[str, Tensor]:
    """Sum the weighted losses of each group, or compute those of the whole batch where there are no groups.

    A group without images takes part in every reduction over processes all the same, with an unlabeled image.
    """
    if not groups:
        return compute_losses(outputs, targets, assignment)
    total: dict[str, Tensor] = {}
    for rows, weight in groups:
        own, index = [targets[row] for row in rows.tolist()], assignment.gt_index[rows]
        if not own:
            rows, own = rows.new_zeros(1), [unlabeled_targets(len(targets[0].annotated), rows.device)]
            index = torch.full_like(assignment.gt_index[:1], BACKGROUND)
        losses = compute_losses(outputs.of_images(rows), own, Assignment(index))
        total = {name: total.get(name, 0.0) + weight * loss for name, loss in losses.items()}
    return total


def unlabeled_targets(num_classes: int, device: torch.device) -> Targets:
    """Return the targets of an image that is labeled for no class."""
    return Targets.of(
        torch.zeros(0, 4, device=device),
        torch.zeros(0, dtype=torch.int64, device=device),
        num_classes,
        annotated=torch.zeros(num_classes, dtype=torch.bool, device=device),
    )
