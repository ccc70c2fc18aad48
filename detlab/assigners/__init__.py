"""Which anchor answers for which ground truth: one assigner per file, chosen by ``conf/assigner/``."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from detlab.structures import Anchors, Assignment, Predictions, Targets


@runtime_checkable
class Assigner(Protocol):
    """Called without gradients; `predictions` are detached, and most assigners do not look at them."""

    def __call__(
        self, anchors: Anchors, targets: list[Targets], predictions: Predictions | None = None
    ) -> Assignment: ...
