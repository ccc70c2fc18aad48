"""The first stage of a Faster R-CNN: which of the anchors look like any object (Ren et al. 2015, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead

from detlab.models.heads.dense import _per_anchor
from detlab.ops.boxes import BoxCoder
from detlab.structures import Anchors, Predictions


class Proposals(NamedTuple):
    """The regions that a second stage looks at, of B images, without gradients: boxes, B of ``[R_i, 4]`` xyxy pixels,
    clipped to the picture; scores, B of ``[R_i]`` in falling order, the probability of any object."""

    boxes: list[Tensor]
    scores: list[Tensor]

    def as_predictions(self, num_classes: int) -> tuple[Predictions, Anchors]:
        """As predictions with an objectness and no opinion about the classes, padded to R of each image: the padding
        has no area and an objectness of −∞. Their own boxes are their anchors, those of the first image where the
        images differ."""
        boxes = pad_sequence(self.boxes, batch_first=True)
        logits = [scores.logit() for scores in self.scores]
        objectness = pad_sequence(logits, batch_first=True, padding_value=-torch.inf)
        classes = boxes.new_zeros(1, 1, 1).expand(*boxes.shape[:2], num_classes)
        return Predictions(classes, boxes, boxes, objectness=objectness), regions_as_anchors(boxes)


def regions_as_anchors(boxes: Tensor) -> Anchors:
    """What stands for the anchors of ``boxes [B, R, 4]``, which are others in each image: those of the first."""
    count = boxes.shape[1]
    return Anchors(boxes[0], torch.zeros(count, dtype=torch.int64, device=boxes.device), (count,))


class RPN(RegionProposalNetwork):
    """torchvision's region proposal network on our anchors and box coder; what its training needs besides (assignment,
    losses) is the lab's, and the arguments for that are idle here.

    convs: convolutions before the two outputs. Of each pyramid level the train_before_nms best anchors (in
    evaluation: test_before_nms) go through a non-maximum suppression at an IoU of `nms`, and the train_proposals
    (test_proposals) best of all become proposals.

    Raises ValueError for counts below 1 or an nms outside [0, 1].
    """

    def __init__(
        self,
        in_channels: int,
        anchors_per_location: int,
        convs: int = 1,
        train_before_nms: int = 2000,
        train_proposals: int = 2000,
        test_before_nms: int = 1000,
        test_proposals: int = 1000,
        nms: float = 0.7,
    ) -> None:
        counts = (convs, train_before_nms, train_proposals, test_before_nms, test_proposals)
        if min(counts) < 1:
            raise ValueError(
                "Expected convs, train_before_nms, train_proposals, test_before_nms and test_proposals of at least 1, "
                f"got {counts}."
            )
        if not 0 <= nms <= 1:
            raise ValueError(f"Expected an NMS IoU in [0, 1], got {nms}.")
        super().__init__(
            anchor_generator=None,
            head=RPNHead(in_channels, anchors_per_location, convs),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=256,
            positive_fraction=0.5,
            pre_nms_top_n={"training": train_before_nms, "testing": test_before_nms},
            post_nms_top_n={"training": train_proposals, "testing": test_proposals},
            nms_thresh=nms,
        )

    def forward(
        self, features: Sequence[Tensor], anchors: Anchors, coder: BoxCoder, sizes: list[tuple[int, int]]
    ) -> tuple[Predictions, Proposals]:
        """Maps ``[B, in_channels, h, w]``, one per level, finest first; sizes: B of (height, width) pixels → what is
        said of every anchor, of one class alone, and what comes of it."""
        objectness, offsets = self.head(list(features))
        logits = torch.cat([_per_anchor(x, 1) for x in objectness], 1)  # [B, A, 1]
        deltas = torch.cat([_per_anchor(x, 4) for x in offsets], 1)
        predictions = Predictions(logits, coder.decode(deltas, anchors.boxes), deltas.float())
        with torch.no_grad():
            boxes, scores = self.filter_proposals(
                predictions.boxes.detach(), logits.detach().float(), sizes, list(anchors.level_sizes)
            )
        return predictions, Proposals(boxes, scores)
