"""Ranking losses in the place of a classification loss: AP and NDCG, for any criterion."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from detlab.losses.error_driven import check_delta
from detlab.losses.normalizer import normalizer
from detlab.losses.ranking import ap_loss, ndcg_loss
from detlab.structures import Matched


class RankingClassification(nn.Module, ABC):
    """`Matched` → a mean over positives times what the criterion divides by, so that the mean is what remains.

    All (anchor, class) elements of the batch of this process are ranked together. A weight of 0 takes an element out;
    other weights do not count, as a rank knows none.

    Raises ValueError for a delta that is not above 0.
    """

    provides: frozenset[str] = frozenset()  # a ranking has no soft weights

    def __init__(self, delta: float = 1.0) -> None:
        super().__init__()
        check_delta(delta)
        self.delta = delta

    @abstractmethod
    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """``logits``, ``targets`` (1, 0, −1) → the mean over positives."""

    def forward(self, matched: Matched) -> Tensor:
        targets, _ = ranking_targets(matched)
        count = matched.box_weights.sum() + (0 if matched.pseudo is None else matched.pseudo)
        return self.loss(matched.logits, targets) * count

    def extra_repr(self) -> str:
        return f"delta={self.delta}"


class APLoss(RankingClassification):
    """AP loss (Chen et al. 2020); interpolate: see `detlab.losses.ranking.ap_loss`."""

    def __init__(self, delta: float = 1.0, interpolate: bool = True) -> None:
        super().__init__(delta)
        self.interpolate = interpolate

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return ap_loss(logits, targets, self.delta, self.interpolate)

    def extra_repr(self) -> str:
        return f"delta={self.delta}, interpolate={self.interpolate}"


class NDCGLoss(RankingClassification):
    """NDCG loss (Oksuz et al. 2020, Appendix D); printed_maximum: see `detlab.losses.ranking.ndcg_loss`."""

    def __init__(self, delta: float = 1.0, printed_maximum: bool = False) -> None:
        super().__init__(delta)
        self.printed_maximum = printed_maximum

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return ndcg_loss(logits, targets, self.delta, self.printed_maximum)


def share_of_process(matched: Matched) -> Tensor:
    """What a mean over the positives of this process counts in the mean over processes: its positives (their box
    weights) over their mean number, at least 1 over all processes (as in `Criterion`); 1 where there is one
    process, 0 without positives."""
    count = matched.box_weights.sum()
    return count / normalizer(count, at_least=1)


@torch.no_grad()
def ranking_targets(matched: Matched) -> tuple[Tensor, Tensor]:
    """What the ranking losses take: targets int8 ``[B, A, C]`` (a positive anchor at its class 1, elements without
    weight −1, else 0; soft `class_targets` are not ranked, the anchor's label stands), and bool ``[P]``: which
    positives of `matched` are among them."""
    row, column = matched.positive, matched.labels.flatten()[matched.positive]
    targets = torch.zeros(matched.logits.shape, dtype=torch.int8, device=matched.logits.device)
    targets.view(-1, targets.shape[-1])[row, column] = 1
    targets.masked_fill_(matched.class_weights == 0, -1)
    if matched.class_targets is not None:
        targets.masked_fill_(((matched.labels < 0)[..., None]) & (matched.class_targets > 0), -1)
    return targets, targets.view(-1, targets.shape[-1])[row, column] == 1
