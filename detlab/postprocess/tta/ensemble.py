"""Several detectors look at each picture, and what they find goes through one suppression (Li et al. 2021, Table 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from detlab.errors import UserError
from detlab.postprocess import Candidates, Postprocess
from detlab.postprocess.tta.multi_scale import together
from detlab.structures import Anchors, Batch, Detections, Predictions


class Member(Protocol):
    """A detector with scores of its own making, such as a `LitDetector`."""

    classes: list[str]

    def to(self, device: torch.device) -> Any: ...

    def candidates(self, images: Tensor, sizes: Tensor) -> Candidates:
        """What it finds in ``images [B, 3, H, W]`` of content ``sizes [B, 2]`` (height, width), before any
        suppression."""
        ...


class Ensemble:
    """The candidates of a detector and of `others` together, in the suppression of the first.

    All see the pictures as the first one's data make them, each once. Every candidate has the score that its own
    detector gives it: where two find an object, the surer one's box stays (a score-voting suppression takes the mean).
    Cost: a forward pass of each.

    others: what makes each of them, called once, by `begin`. Raises ValueError without any.
    """

    def __init__(self, others: Sequence[Callable[[], Member]]) -> None:
        if not others:
            raise ValueError("Expected at least one other detector, got none.")
        self.make = list(others)
        self.others: list[Member] = []

    def begin(self, classes: Sequence[str]) -> None:
        """Raises UserError where one of the others knows other classes than `classes`, or another order of them."""
        self.others = [make() for make in self.make]
        for other in self.others:
            if other.classes != list(classes):
                raise UserError(
                    f"testing.runs: a detector of {', '.join(other.classes)} cannot be asked together with one of "
                    f"{', '.join(classes)}: take runs that were trained on the same classes."
                )

    @torch.no_grad()
    def __call__(
        self, detector: Callable[[Tensor], tuple[Predictions, Anchors]], batch: Batch, postprocess: Postprocess
    ) -> list[Detections]:
        found = [postprocess.candidates(*detector(batch.images), batch.sizes)]
        for other in self.others:
            other.to(batch.images.device)
            found.append(other.candidates(batch.images, batch.sizes))
        return postprocess.finish(together(found), len(batch))
