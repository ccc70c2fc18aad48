"""The four losses of a Faster R-CNN (Ren et al. 2015, Eq. 1; Girshick 2015, Eq. 1), with labels that may be missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

from detlab.losses.classification import CrossEntropy
from detlab.losses.criterion import LocalizationLoss
from detlab.losses.normalizer import normalizer
from detlab.losses.yolo import class_losses
from detlab.structures import Matched

if TYPE_CHECKING:
    from detlab.models.detectors.faster_rcnn import SecondStage


class TwoStageCriterion(nn.Module):
    """Objectness and boxes of sampled anchors, class and boxes of sampled regions; each a weighted sum divided by the
    number of samples of its stage, of all processes and at least 1, shared equally.

    anchors_localization: the box loss of anchors; that of regions is the box head's own. `samples` anchors of each
    image, of these at most the share `positive` on objects, by torchvision's sampler; anchors without any signal are
    not drawn. Without samples the terms are zeros that still reach every output.

    Raises ValueError for negative weights, fewer than one sample or a share outside (0, 1].
    """

    provides = frozenset({"soft_weights"})
    requires = frozenset({"two_stages"})

    def __init__(
        self,
        anchors_localization: LocalizationLoss,
        samples: int = 256,
        positive: float = 0.5,
        objectness_weight: float = 1.0,
        proposals_weight: float = 1.0,
        classification_weight: float = 1.0,
        localization_weight: float = 1.0,
    ) -> None:
        super().__init__()
        weights = (objectness_weight, proposals_weight, classification_weight, localization_weight)
        if min(weights) < 0:
            raise ValueError(f"Expected loss weights of at least 0, got {weights}.")
        if samples < 1 or not 0 < positive <= 1:
            raise ValueError(f"Expected samples of at least 1 and a share in (0, 1], got {samples} and {positive}.")
        self.objectness = CrossEntropy()
        self.anchors_localization = anchors_localization
        self.draw = BalancedPositiveNegativeSampler(samples, positive)
        self.weights = weights

    def forward(self, first: Matched, second: SecondStage) -> dict[str, Tensor]:
        """first: every anchor, of one class, "any object". The terms by name, normalised and weighted scalars:
        objectness and proposals of the first stage, classification and localization of the second."""
        drawn = self._sample(first)
        rois = second.rois
        anchors, regions = normalizer(torch.stack([drawn.sum(), drawn.new_tensor(len(rois.labels))]), at_least=1)
        sampled = first._replace(class_weights=first.class_weights * drawn[..., None])
        boxes = self.anchors_localization(first) * first.box_weights * drawn.flatten()[first.positive]
        classes = region_losses(second.output.logits, rois.labels, rois.annotated, rois.class_targets, rois.weights)
        sums = (
            self.objectness(sampled) / anchors,
            boxes.sum() / anchors,
            classes.sum() / regions,
            (second.localization * rois.box_weights).sum() / regions,
        )
        names = ("objectness", "proposals", "classification", "localization")
        return {name: weight * value for name, weight, value in zip(names, self.weights, sums, strict=True)}

    @torch.no_grad()
    def _sample(self, first: Matched) -> Tensor:
        """1 for the anchors that count, else 0: float32 ``[B, A]``."""
        background = (first.labels < 0) & (first.class_weights[..., 0] > 0)
        states = (first.labels >= 0).long() - (~background & (first.labels < 0)).long()
        on, off = self.draw(list(states))
        return torch.stack([(a | b).float() for a, b in zip(on, off, strict=True)])

    def extra_repr(self) -> str:
        return (
            f"weights={self.weights}, samples={self.draw.batch_size_per_image}, positive={self.draw.positive_fraction}"
        )


def region_losses(logits: Tensor, labels: Tensor, annotated: Tensor, class_targets: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy of R regions under a softmax over background and C classes, where an image's annotators may have
    looked for some classes only. Float32 or wider ``[R]``.

    ``logits [R, 1 + C]``, background first; ``labels [R]``, −1 for background; ``annotated [R, C]`` bool. Of the P
    regions with an object, in their order: ``class_targets [P, C]``, ``weights [P]``.

    A region with an object: between background, the annotated classes and those to which its target gives probability;
    the others take no part and get no gradient. For soft targets less their entropy, see `class_losses`.
    Background: what is there may be of a class that nobody looked for, −log(p(background) + Σ p(c) of such classes);
    these are never pushed down, whatever the logits.
    """
    positive = (labels >= 0).nonzero()[:, 0]
    result = background_losses(logits, annotated).masked_fill(labels >= 0, 0.0)
    rows = F.pad(class_targets, (1, 0))  # no probability of background
    counts = F.pad(annotated[positive] | (class_targets > 0), (1, 0), value=True)
    return result.index_add(0, positive, class_losses(logits[positive], rows, weights[:, None] * counts).to(result))


def background_losses(logits: Tensor, annotated: Tensor) -> Tensor:
    """−log(p(background) + Σ p(c) of the classes that are not annotated), see `region_losses`: ``[R]``.

    As softplus(log Σ of the annotated − log Σ of the others), whose gradient has the right sign of every logit even
    after rounding. Where no class is annotated, 0.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    against = F.pad(annotated, (1, 0))  # [R, 1 + C]
    lowest = torch.finfo(logits.dtype).min / 2  # not −∞, which would be NaN where no class is annotated
    difference = logits.masked_fill(~against, lowest).logsumexp(1) - logits.masked_fill(against, lowest).logsumexp(1)
    return F.softplus(difference)
