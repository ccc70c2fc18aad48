"""A random `Matched`, shared by the tests of the losses."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from detlab.ops.boxes import BoxCoder
from detlab.structures import Matched

MakeMatched = Callable[..., Matched]


@pytest.fixture
def make_matched() -> MakeMatched:
    """B = 2 images, A = 7 anchors, C = 3 classes and the given number of positives; leaves of the graph are the
    logits, deltas and quality."""

    def make(positives: int = 4, *, quality: bool = False, seed: int = 0) -> Matched:
        generator = torch.Generator().manual_seed(seed)

        def rand(*shape: int) -> torch.Tensor:
            return torch.rand(*shape, generator=generator)

        positive = torch.randperm(14, generator=generator)[:positives].sort().values
        labels = torch.full((14,), -1)
        labels[positive] = torch.randint(3, (positives,), generator=generator)
        corner = rand(positives, 2) * 20
        anchors = torch.cat([corner, corner + 4 + rand(positives, 2) * 8], 1)
        targets = anchors + (rand(positives, 4) - 0.5) * 2
        all_deltas = ((rand(14, 4) - 0.5) * 0.4).requires_grad_()
        deltas = all_deltas[positive]
        quality_logits = (rand(14) - 0.5).requires_grad_()
        return Matched(
            logits=(rand(2, 7, 3) * 4 - 2).requires_grad_(),
            labels=labels.view(2, 7),
            class_weights=torch.ones(2, 7, 1),
            class_targets=None,
            positive=positive,
            boxes=BoxCoder().decode(deltas, anchors),
            deltas=deltas,
            anchor_boxes=anchors,
            target_boxes=targets,
            quality=quality_logits[positive] if quality else None,
            box_weights=rand(positives) + 0.5,
            level=positive % 7 // 3,
        )

    return make
