"""YOLO: grids of several strides, boxes told from the corner of a cell (Appendix A of the proxy paper).

The paper trains "YOLO" with A anchors and 5 + K outputs each, which is YOLOv2's and YOLOv3's form (Redmon and Farhadi
2017, https://arxiv.org/abs/1612.08242; 2018, https://arxiv.org/abs/1804.02767); here on our backbones and pyramid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from detlab.models.backbones.resnet import Backbone
from detlab.models.detectors.dense import DenseDetector
from detlab.models.heads.yolo import YOLOHead
from detlab.models.necks.fpn import FPN
from detlab.models.yolo_anchors import ShapeAnchors
from detlab.ops.boxes import BoxCoder
from detlab.structures import Anchors, Predictions

Offsets = Literal["linear", "sigmoid"]


class YOLODetector(DenseDetector):
    """Backbone → feature pyramid → 5 + K numbers per anchor, of which the boxes are decoded cell by cell.

    b_x = x_G + x̂ and b_w = w_a · exp(ŵ) (Eqs. 3-6), x_G the cell's left edge, x̂ in cells (strides). With `offsets`
    "linear", x̂ = ½ + the network's output, as the paper has it but for the ½, with which training begins in the cell's
    middle. "sigmoid" (YOLOv2 on): x̂ = s · σ(output) − (s − 1) / 2 with s = `offset_scale`; 1 keeps the centre inside
    the cell, 2 lets it half a cell beyond each edge, so that an edge is within reach. A cell that does not hold the
    object's centre can tell the box only if linear or near enough: sigmoid goes with an assigner's `center_only`, and
    the two together train better on the embedded scenes (conf/method/yolo.yaml; the paper's are in yolo_printed.yaml).
    exp is bounded as in `BoxCoder`.

    `deltas` of the predictions are the same boxes as offsets in units of the anchors, which `coder` decodes: all the
    lab's localisation losses take them. `quality` is None, `objectness` float32.

    Raises ValueError for a coder with weights other than 1, unknown offsets or an offset_scale below 1.
    """

    @staticmethod
    def provides(options: Mapping[str, Any]) -> set[str]:
        return DenseDetector.provides(options) | {"objectness"}

    def __init__(
        self,
        num_classes: int,
        backbone: Backbone,
        fpn: Callable[..., FPN],
        anchors: ShapeAnchors,
        head: Callable[..., YOLOHead],
        coder: BoxCoder,
        offsets: Offsets = "linear",
        offset_scale: float = 1.0,
        channels_last: bool = True,
    ) -> None:
        super().__init__(num_classes, backbone, fpn, anchors, head, coder, channels_last)  # type: ignore[arg-type]
        if coder.weights != (1.0, 1.0, 1.0, 1.0):
            raise ValueError(f"Expected coder weights of 1 for a YOLO, got {coder.weights}.")
        if offsets not in ("linear", "sigmoid"):
            raise ValueError(f"Expected offsets linear or sigmoid, got {offsets!r}.")
        if offset_scale < 1:
            raise ValueError(f"Expected an offset_scale of at least 1, got {offset_scale}.")
        self.offsets: Offsets = offsets
        self.offset_scale = float(offset_scale)

    def forward(self, images: Tensor) -> tuple[Predictions, Anchors]:
        """images: float ``[B, 3, H, W]``, normalised. Boxes, deltas and objectness are float32 under autocast too."""
        features = self.fpn(self.backbone(images.contiguous(memory_format=self.memory_format)))
        anchors = self.anchors([(x.shape[-2], x.shape[-1]) for x in features], images.device)
        output = self.head(features)
        strides = torch.exp2((anchors.level + self.fpn.levels[0]).float())
        deltas = in_anchors(output.deltas, anchors.boxes, strides, self.offsets, self.offset_scale)
        boxes = self.coder.decode(deltas, anchors.boxes)
        return Predictions(output.logits, boxes, deltas, objectness=output.quality.float()), anchors


def in_anchors(
    outputs: Tensor, anchors: Tensor, strides: Tensor, offsets: Offsets = "linear", scale: float = 1.0
) -> Tensor:
    """From ``outputs [..., A, 4]`` of the network, told from a cell's corner in strides, to the offsets of `BoxCoder`,
    told from an anchor's middle in its sides, float32. ``anchors [A, 4]`` xyxy, each in the middle of its cell;
    ``strides [A]`` in pixels."""
    outputs = outputs.float()
    place = outputs[..., :2]  # from the middle of the cell, in strides
    if offsets == "sigmoid":
        place = scale * (place.sigmoid() - 0.5)
    sides = anchors[:, 2:] - anchors[:, :2]
    return torch.cat([place * (strides[:, None] / sides), outputs[..., 2:]], -1)
