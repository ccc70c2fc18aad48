"""FCOS, a detector without anchors (Tian et al. 2019, https://arxiv.org/abs/1904.01355)."""

from __future__ import annotations

from collections.abc import Callable

from detlab.models.backbones.resnet import Backbone
from detlab.models.detectors.dense import DenseDetector
from detlab.models.heads.dense import DenseHead
from detlab.models.necks.fpn import FPN
from detlab.models.points import PointGenerator
from detlab.ops.distance_coder import DistanceCoder
from detlab.ops.interval_coder import IntervalCoder


class FCOS(DenseDetector):
    """Backbone → feature pyramid → class scores and four distances (l, t, r, b) for every point.

    The rest of the paper is parts of other groups: `detlab.assigners.fcos` (section 3.2), the losses focal, GIoU and
    centerness, and of the head ``quality=centerness`` (section 3.3, on the box tower as in the authors' later code)
    and ``level_scales`` (the s_i of section 3.2).

    Args:
        num_classes: C.
        backbone: of the levels that the pyramid starts from.
        fpn: called with `in_channels` and `in_levels`.
        anchors: the points.
        head: called with `in_channels`, `num_classes`, `anchors_per_location` and `num_levels`.
        coder: of distances.
        channels_last: weights and activations in that memory format.
        intervals: in the place of `coder`, with segments that reach several cells (localization=dense_intervals).

    Raises:
        ValueError: points and pyramid have different levels.
    """

    def __init__(
        self,
        num_classes: int,
        backbone: Backbone,
        fpn: Callable[..., FPN],
        anchors: PointGenerator,
        head: Callable[..., DenseHead],
        coder: DistanceCoder,
        channels_last: bool = True,
        intervals: IntervalCoder | None = None,
    ) -> None:
        super().__init__(num_classes, backbone, fpn, anchors, head, coder, channels_last, intervals)
