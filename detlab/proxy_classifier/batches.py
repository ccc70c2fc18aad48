"""From pictures to batches: crops of one size to learn from, whole pictures with their crops to be judged on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from detlab.data.dataset import DetectionDataset, Sample
from detlab.data.samplers import mixed_seed
from detlab.proxy_classifier.clusters import CropSizes
from detlab.proxy_classifier.crops import CropRecipe, Crops, repeats
from detlab.proxy_classifier.cutting import content_sizes, cut, flipped, whole_pixels

# By the number of a size: crops float32 [n, 3, h, w] and labels int64 [n].
BySize = dict[int, tuple[Tensor, Tensor]]


class CropBatch(NamedTuple):
    """crops ``[N, 3, h, w]`` of one size; labels int64 ``[N]``."""

    crops: Tensor
    labels: Tensor

    def __len__(self) -> int:  # of crops, not of fields
        return len(self.labels)


class JudgedBatch(NamedTuple):
    """images ``[B, 3, H, W]`` and crops of them: image int64 ``[N]``, boxes ``[N, 4]``, labels and kinds ``[N]``."""

    images: Tensor
    image: Tensor
    boxes: Tensor
    labels: Tensor
    kinds: Tensor


class PictureCrops:
    """The crops of the pictures of a data set.

    lookup int64 ``[C]``: the label 0…K of each class of the data, K for reject; sizes ``[S, 2]``: (width, height) that
    background crops may have. Boxes flagged `ignore` are no crops. What is drawn of a picture depends on `seed` and its
    position in the stream alone.
    """

    def __init__(
        self, pictures: DetectionDataset, lookup: Tensor, recipe: CropRecipe, reject: int, sizes: Tensor, seed: int
    ) -> None:
        self.pictures, self.lookup, self.recipe = pictures, lookup, recipe
        self.reject, self.sizes, self.seed = reject, sizes, seed

    def read(self, key: int | tuple[int, int], training: bool) -> tuple[Sample, Crops, torch.Generator] | None:
        """The picture of a key of `DetectionDataset`, its crops, and the generator they were drawn from."""
        sample = self.pictures[key]
        if sample is None:
            return None
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, key[0] if isinstance(key, tuple) else key))
        found = sample.targets
        kept = found[~found.ignore]
        height, width = sample.image.shape[1:]
        crops = self.recipe.draw(
            kept.boxes, self.lookup[kept.labels], found.boxes, self.reject, (height, width), self.sizes, generator,
            training,
        )  # fmt: skip
        return sample, crops, generator


class TrainingCrops(Dataset[BySize]):
    """The crops of a picture, cut and padded, each mirrored with a chance of a half, by their sizes.

    rates ``[K + 1]``: how often a crop of each label is taken, on average.
    """

    def __init__(self, crops: PictureCrops, sizes: CropSizes, rates: Tensor) -> None:
        self.crops, self.sizes, self.rates = crops, sizes, rates

    def __len__(self) -> int:
        return len(self.crops.pictures)

    def __getitem__(self, key: int | tuple[int, int]) -> BySize:
        read = self.crops.read(key, training=True)
        if read is None:
            return {}
        sample, crops, generator = read
        taken = repeats(self.rates[crops.labels], generator)
        boxes, labels = crops.boxes[taken], crops.labels[taken]
        mirrored = torch.rand(len(boxes), generator=generator) < 0.5
        height, width = sample.image.shape[1:]
        result: BySize = {}
        for number, which, size in self.sizes.group(boxes, height, width):
            pixels = whole_pixels(boxes[which], height, width)
            cropped = cut(sample.image[None], torch.zeros(len(which), dtype=torch.int64), pixels, size)
            turned = flipped(cropped, content_sizes(pixels[:, 2:] - pixels[:, :2], size))
            result[number] = torch.where(mirrored[which, None, None, None], turned, cropped), labels[which]
        return result


class JudgedPictures(Dataset[tuple[Tensor, Crops] | None]):
    """Pictures with the crops that the classifier is judged on: labelled boxes as they are, and further rejects as the
    recipe says, the same each time."""

    def __init__(self, crops: PictureCrops) -> None:
        self.crops = crops

    def __len__(self) -> int:
        return len(self.crops.pictures)

    def __getitem__(self, key: int) -> tuple[Tensor, Crops] | None:
        read = self.crops.read(key, training=False)
        return None if read is None else (read[0].image, read[1])


def join_by_size(parts: Sequence[BySize]) -> BySize:
    """The crops of several pictures together."""
    result: BySize = {}
    for number in sorted({number for part in parts for number in part}):
        crops, labels = zip(*(part[number] for part in parts if number in part))
        result[number] = torch.cat(crops), torch.cat(labels)
    return result


def join_pictures(parts: Sequence[tuple[Tensor, Crops] | None]) -> JudgedBatch:
    """Pictures at the top left of one tensor, padded with 0."""
    present = [part for part in parts if part is not None]
    height, width = (max((image.shape[side] for image, _ in present), default=1) for side in (1, 2))
    images = torch.zeros(len(present), 3, height, width)
    for slot, (image, _) in zip(images, present):
        slot[:, : image.shape[1], : image.shape[2]] = image
    crops = [crops for _, crops in present]
    owners = [torch.full((len(c.labels),), position) for position, c in enumerate(crops)]
    nothing = torch.zeros(0, dtype=torch.int64)
    return JudgedBatch(
        images,
        torch.cat([nothing, *owners]),
        torch.cat([torch.zeros(0, 4), *(c.boxes for c in crops)]),
        torch.cat([nothing, *(c.labels for c in crops)]),
        torch.cat([nothing, *(c.kinds for c in crops)]),
    )


class SameSizeBatches(Iterable[CropBatch]):
    """An endless stream of batches, each of `batch_size` crops of one size, from a stream of `BySize`.

    Crops wait, by size, until there are `pool` batches of a size; then one batch is drawn from them at random. So sizes
    come as often as their crops do, and the order depends on the stream and `seed` alone.
    """

    def __init__(self, parts: Iterable[BySize], batch_size: int, seed: int = 0, pool: int = 3) -> None:
        if batch_size < 2:
            raise ValueError(f"Expected a batch size of at least 2 for batch norm, got {batch_size}.")
        self.parts, self.batch_size, self.seed, self.pool = parts, batch_size, seed, pool

    def __iter__(self) -> Iterator[CropBatch]:
        generator = torch.Generator().manual_seed(self.seed)
        waiting: dict[int, list[tuple[Tensor, Tensor]]] = {}
        for part in self.parts:
            for number, (crops, labels) in part.items():
                queue = waiting.setdefault(number, [])
                # Copies: a view of what a worker hands over would keep all of it, and its open file, until it is drawn.
                queue += [(crop.clone(), label.clone()) for crop, label in zip(crops, labels)]
                while len(queue) >= self.pool * self.batch_size:
                    order = torch.randperm(len(queue), generator=generator).tolist()
                    drawn = [queue[i] for i in order[: self.batch_size]]
                    queue = waiting[number] = [queue[i] for i in sorted(order[self.batch_size :])]
                    yield CropBatch(torch.stack([c for c, _ in drawn]), torch.stack([label for _, label in drawn]))
