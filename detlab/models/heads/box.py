"""The second stage of a Faster R-CNN: which class a region is of, and where its object ends (Girshick 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, TwoMLPHead

from detlab.losses.regression import smooth_l1
from detlab.models.norms import group_norm
from detlab.models.roi_align import PyramidRoIAlign
from detlab.ops.boxes import BoxCoder


class BoxOutput(NamedTuple):
    """What a box head says of R regions: logits float32 ``[R, 1 + C]``, of background and of the classes, which exclude
    each other (softmax); places float32 ``[R, …]``, where the object is, in the head's own terms."""

    logits: Tensor
    places: Tensor


class Decoded(NamedTuple):
    """Of R regions: boxes float32 ``[R, C, 4]`` xyxy pixels, of every class; deltas of the same shape, the offsets they
    came from; quality ``[R]`` logits of how good they are, or None."""

    boxes: Tensor
    deltas: Tensor
    quality: Tensor | None = None


@runtime_checkable
class Head(Protocol):
    """What a `FasterRCNN` needs of its second stage; `BoxHead` is the usual one."""

    def __call__(self, features: Sequence[Tensor], regions: list[Tensor]) -> BoxOutput:
        """``features``: maps ``[B, channels, h, w]`` of the pooled levels; ``regions``: B of ``[R_i, 4]`` xyxy
        pixels."""
        ...

    def decode(self, output: BoxOutput, regions: Tensor) -> Decoded:
        """``regions [R, 4]``, those of all images."""
        ...

    def localization(self, output: BoxOutput, regions: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
        """The loss of each of P regions with an object: ``[P]``, unweighted, float32. ``output`` and ``regions [P, 4]``
        of these alone; ``labels [P]``; ``targets [P, 4]`` xyxy pixels."""
        ...


class BoxHead(nn.Module):
    """Regions cut from the pyramid at a fixed resolution, two hidden layers, a softmax and a box for every class:
    `PyramidRoIAlign`, and torchvision's TwoMLPHead and FastRCNNPredictor (background comes first).

    convs: where above 0, so many 3 × 3 convolutions stand in place of the first hidden layer (torchvision's
    FastRCNNConvFCHead; Wu and He 2018), with group norm for norm "gn".

    levels: the consecutive pyramid levels that regions are cut from. A region of side `canonical` pixels comes from
    level 4, one of half that side from one level below (Lin et al. 2017a, Eq. 1). resolution: cells along each side;
    channels: of the hidden layers. coder: of the offsets; beta: of their smooth-L1.

    aligned: whether regions are cut where anchors lie, whose cells are centered on (i + ½) · stride (Detectron2);
    False, torchvision's: half a cell of the level off. conf/detector/faster_rcnn.yaml says true; False is the default
    here because configs of runs from before there was a choice do not name it, and that is how those were trained.

    Raises ValueError for counts below 1, a `canonical` of 0 or less or a negative beta.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        levels: Sequence[int],
        coder: BoxCoder,
        channels: int = 1024,
        convs: int = 0,
        norm: Literal["gn"] | None = None,
        resolution: int = 7,
        sampling: int = 2,
        canonical: float = 224.0,
        beta: float = 1 / 9,
        aligned: bool = False,
    ) -> None:
        super().__init__()
        if min(in_channels, num_classes, channels, resolution, sampling) < 1 or convs < 0 or not levels:
            raise ValueError(
                "Expected positive in_channels, num_classes, channels, resolution and sampling, convs ≥ 0 and a level, "
                f"got {(in_channels, num_classes, channels, resolution, sampling, convs)} and {tuple(levels)}."
            )
        if not canonical > 0 or beta < 0:
            raise ValueError(f"Expected canonical above 0 and beta of at least 0, got {canonical} and {beta}.")
        self.num_classes = num_classes
        self.coder, self.beta = coder, beta
        self.pool = PyramidRoIAlign(levels, resolution, sampling, canonical, aligned)
        if convs:
            size = (in_channels, resolution, resolution)
            widths = [in_channels] * convs
            layer = None if norm is None else group_norm
            self.hidden: nn.Module = FastRCNNConvFCHead(size, widths, [channels], layer)
        else:
            self.hidden = TwoMLPHead(in_channels * resolution**2, channels)
        self.predictor = FastRCNNPredictor(channels, 1 + num_classes)

    def forward(self, features: Sequence[Tensor], regions: list[Tensor]) -> BoxOutput:
        logits, places = self.predictor(self.hidden(self.pool(features, regions)))
        return BoxOutput(logits.float(), self._places(places.float()))

    def _places(self, outputs: Tensor) -> Tensor:
        return outputs.view(len(outputs), 1 + self.num_classes, 4)[:, 1:]

    def decode(self, output: BoxOutput, regions: Tensor) -> Decoded:
        return Decoded(self.coder.decode(output.places, regions[:, None]), output.places)

    def localization(self, output: BoxOutput, regions: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
        places = output.places[torch.arange(len(labels), device=labels.device), labels]
        return smooth_l1(places, self.coder.encode(targets, regions), self.beta)
