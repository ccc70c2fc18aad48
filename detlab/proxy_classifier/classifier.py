"""The proxy classifier h: which of K classes a RoI shows, or that it shows none of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from detlab.data.dataset import IMAGENET_MEAN, IMAGENET_STD
from detlab.proxy_classifier.clusters import CropSizes
from detlab.proxy_classifier.cutting import content_sizes, cut, whole_pixels
from detlab.proxy_classifier.net import ResNet20
from detlab.proxy_classifier.patch_drop import draw_patches
from detlab.proxy_classifier.pyramid import Pooling
from detlab.proxy_classifier.views import at_least, mean_over_views

PIXELS_AT_ONCE = {"cpu": 2**17, "cuda": 2**21}  # of crops in one forward pass: 128 or 2048 of 32 × 32


class ProxyClassifier(nn.Module):
    """A ResNet-20 on crops that are cut, sized and padded as in its training (section 4.1 of the paper).

    classes: the names of the K classes, in the order of the outputs; output K means none of them (reject).
    centres, largest: see `CropSizes`. width, levels, pooling: see `ResNet20`. mean, std: how the pictures that it reads
    are normalised (RGB, grey levels 0…255).

    Raises ValueError for no classes, names given twice, and what those two refuse.
    """

    def __init__(
        self,
        classes: Sequence[str],
        centres: Tensor,
        largest: float | None = None,
        width: float = 1.0,
        levels: Sequence[int] = (1, 2, 4),
        pooling: Pooling = "max",
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        if not classes or len(set(classes)) < len(classes):
            raise ValueError(f"Expected at least one class and each once, got {list(classes)}.")
        self.classes, self.sizes = list(classes), CropSizes(centres, largest)
        self.width, self.levels, self.pooling = width, tuple(levels), pooling
        self.mean, self.std = tuple(mean), tuple(std)
        net = ResNet20(len(classes) + 1, width, levels, pooling)
        self.net = net.to(memory_format=torch.channels_last)  # a third faster on CPUs

    @property
    def reject(self) -> int:
        """The output that means none of the classes."""
        return len(self.classes)

    @property
    def centres(self) -> Tensor:
        """The sizes that crops are padded to: int64 ``[k, 2]`` (width, height)."""
        return self.sizes.centres

    @torch.no_grad()
    def classify(
        self,
        images: Tensor,
        image: Tensor,
        boxes: Tensor,
        patches: int = 3,
        copies: int = 2,
        flip: bool = False,
        generator: torch.Generator | None = None,
        threshold: float | None = None,
    ) -> Tensor:
        """h̄ of each RoI (Eq. 1): float32 ``[N, K + 1]``, rows that sum to 1.

        ``images [B, 3, H, W]`` normalised; image int64 ``[N]``; boxes ``[N, 4]`` xyxy pixels. The mean over the RoI as
        it is, `copies` copies that each lack a random one of its patches × patches patches (drawn from `generator`)
        and, if `flip`, its mirror image. A RoI without pixels inside its picture is rejected for certain.

        threshold: a RoI is not looked at again once the views to come, whatever they showed, could not change whether
        a class reaches this mean and is the likeliest of all outputs, and which. It gets the mean of the views so far.
        What reaches the threshold, and as which class, stays the same; the cost falls to about that of one view where
        most show background and the threshold is high, of two where it is low.

        Raises ValueError for patches < 1 or copies < 0.
        """
        if patches < 1 or copies < 0:
            raise ValueError(f"Expected patches >= 1 and copies >= 0, got {patches} and {copies}.")
        drawn = draw_patches(len(boxes), patches, copies, generator, boxes.device)
        probs = boxes.new_zeros(len(boxes), self.reject + 1, dtype=torch.float32)
        training = self.training
        self.eval()
        together = at_least(1 + copies + flip, threshold)
        for _, group, size in self.sizes.group(boxes, images.shape[-2], images.shape[-1]):
            for which in group.split(max(1, self._at_once(size, images.device) // together)):
                crops, content = self._crops(images, image[which], boxes[which], size)
                said = mean_over_views(self.predict, crops, content, drawn[:, which], patches, flip, threshold)
                probs[which] = torch.where(content[:, :1] > 0, said, self._certain_reject(said))
        self.train(training)
        return probs

    def predict(self, crops: Tensor) -> Tensor:
        """Padded crops ``[N, 3, h, w]`` → probabilities float32 ``[N, K + 1]``."""
        return self.net(crops.contiguous(memory_format=torch.channels_last)).float().softmax(-1)

    def _crops(self, images: Tensor, image: Tensor, boxes: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        pixels = whole_pixels(boxes, images.shape[-2], images.shape[-1])
        return cut(images, image, pixels, size), content_sizes(pixels[:, 2:] - pixels[:, :2], size)

    def _certain_reject(self, probs: Tensor) -> Tensor:
        result = torch.zeros_like(probs[0])
        result[self.reject] = 1.0
        return result

    @staticmethod
    def _at_once(size: tuple[int, int], device: torch.device) -> int:
        return max(PIXELS_AT_ONCE.get(device.type, PIXELS_AT_ONCE["cpu"]) // (size[0] * size[1]), 1)
