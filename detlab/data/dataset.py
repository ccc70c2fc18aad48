"""Rows of an annotation index as samples, and samples as a batch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from multiprocessing.reduction import ForkingPickler
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from detlab.data.checks.problems import OnError
from detlab.data.image import read_image
from detlab.data.index import AnnotationIndex
from detlab.data.samplers import mixed_seed
from detlab.errors import UserError
from detlab.structures import Batch, Targets

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


class Transform(Protocol):
    """``(image uint8 [H, W, 3], boxes float32 [G, 4], seed) -> (image, boxes [G', 4], keep int64 [G'])``."""

    def __call__(
        self, image: NDArray[np.uint8], boxes: NDArray[np.float32], seed: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]: ...


@dataclass
class Sample:
    """One picture ready for the detector: image float32 ``[3, h, w]`` normalised; targets in its pixels.

    scale (x, y): its pixels per pixel of the file. original_size: (height, width) of the file.
    original, areas: the targets as annotated and their areas ``[G]``, at evaluation only. view: the same picture
    through another transform, float32 ``[3, h, w]``, of pictures that nobody labelled.
    """

    image: Tensor
    targets: Targets
    scale: tuple[float, float]
    original_size: tuple[int, int]
    image_id: int
    original: Targets | None = None
    areas: Tensor | None = None
    view: Tensor | None = None


class DetectionDataset(Dataset[Sample | None]):
    """Pictures of `index` through `transform`, normalised by `mean` and `std` (RGB, in grey levels 0…255).

    Asked for ``i`` or for a pair ``(position, i)``: the position in the training stream, mixed with `seed`, is
    all that the transform's randomness depends on. evaluation: samples carry their targets as annotated.

    cache: keep all decoded pictures in memory, read now, so that workers forked later share them. An unreadable
    picture raises the UserError of `read_image` where on_error is ``"raise"``; else it becomes None.

    view: a transform that pictures whose annotators looked for nothing go through once more, with the same seed, for
    the teacher of a semi-supervised pair. It has to move them as `transform` does; what has other sides raises
    UserError. labeled: a transform in the place of `transform` for the other pictures; None: there is none.
    """

    def __init__(
        self,
        index: AnnotationIndex,
        transform: Transform,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        on_error: OnError = "raise",
        cache: bool = False,
        seed: int = 0,
        evaluation: bool = False,
        view: Transform | None = None,
        labeled: Transform | None = None,
    ) -> None:
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(f"Expected three means and three positive deviations, got {mean} and {std}.")
        self.index, self.transform, self.view = index, transform, view
        self.labeled = transform if labeled is None else labeled
        self.mean = torch.tensor([float(value) for value in mean]).view(3, 1, 1)
        self.inverse_std = 1 / torch.tensor([float(value) for value in std]).view(3, 1, 1)
        self.on_error, self.seed, self.evaluation = on_error, seed, evaluation
        self._pictures = self._read_all() if cache else None

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, key: int | tuple[int, int]) -> Sample | None:
        position, row = key if isinstance(key, tuple) else (key, key)
        picture = self._pictures[row] if self._pictures is not None else self._read(row)
        if picture is None:
            return None
        known = self.index.targets(row)
        seed = mixed_seed(self.seed, position)
        transform = self.labeled if known.annotated.any() else self.transform
        image, boxes, keep = transform(picture, known.boxes.numpy(), seed)
        targets = known[torch.from_numpy(keep)]
        targets.boxes = torch.from_numpy(boxes)
        height, width = picture.shape[:2]
        return Sample(
            image=self._normalise(image),
            targets=targets,
            scale=(image.shape[1] / width, image.shape[0] / height),
            original_size=(height, width),
            image_id=int(self.index.ids[row]),
            original=known if self.evaluation else None,
            areas=torch.from_numpy(self.index.areas[self.index.boxes_of(row)].copy()) if self.evaluation else None,
            view=None if self.view is None or known.annotated.any() else self._second(picture, seed, image.shape),
        )

    def _second(self, picture: NDArray[np.uint8], seed: int, shape: tuple[int, ...]) -> Tensor:
        assert self.view is not None
        image, _, _ = self.view(picture, np.zeros((0, 4), np.float32), seed)
        if image.shape != shape:
            raise UserError(
                f"The second view of a picture is {image.shape[1]} x {image.shape[0]} pixels and the first {shape[1]} "
                f"x {shape[0]}: augment@view has to begin with the steps of augment that move or resize a picture."
            )
        return self._normalise(image)

    def _normalise(self, image: NDArray[np.uint8]) -> Tensor:
        # Planes first: with the channels innermost, as `float()` would leave them, the rest takes twice as long.
        planes = torch.from_numpy(image).permute(2, 0, 1).to(torch.float32, memory_format=torch.contiguous_format)
        return planes.sub_(self.mean).mul_(self.inverse_std)

    def _read(self, row: int) -> NDArray[np.uint8] | None:
        try:
            return read_image(str(self.index.paths[row]))
        except UserError as error:
            if self.on_error == "raise":
                message = str(error).rstrip(".")
                raise UserError(f"{message}; mend it, or go on without it (data.on_error=skip_image).") from error
            return None

    def _read_all(self) -> list[NDArray[np.uint8] | None]:
        index = self.index
        needed = int((index.widths.astype(np.int64) * index.heights).sum()) * 3
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if needed > memory / 2:
            raise UserError(
                f"{len(index):,} decoded pictures need {needed / 2**30:.1f} GiB, over half of this machine's "
                f"{memory / 2**30:.1f} GiB of memory; do not cache them (loader.cache_images=false)."
            )
        with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:  # decoding releases the interpreter lock
            return list(pool.map(self._read, range(len(index))))


def collate(samples: Sequence[Sample | None], divisor: int = 32) -> Batch:
    """Stack pictures at the top left of a tensor whose sides are multiples of `divisor`, padded with 0.

    None (an unreadable picture) is left out and counted; a batch of nothing else has no images. Second views are
    padded as the pictures are.
    """
    present = [sample for sample in samples if sample is not None]
    sizes = torch.tensor([sample.image.shape[1:] for sample in present], dtype=torch.int64).view(-1, 2)
    largest = sizes.amax(0).tolist() if present else [1, 1]
    height, width = (-(-side // divisor) * divisor for side in largest)
    views = [sample.view for sample in present if sample.view is not None]
    originals = [sample.original for sample in present if sample.original is not None]
    areas = [sample.areas for sample in present if sample.areas is not None]
    return Batch(
        images=_stack([sample.image for sample in present], height, width),
        targets=[sample.targets for sample in present],
        sizes=sizes,
        scales=torch.tensor([sample.scale for sample in present], dtype=torch.float32).view(-1, 2),
        original_sizes=torch.tensor([sample.original_size for sample in present], dtype=torch.int64).view(-1, 2),
        image_ids=torch.tensor([sample.image_id for sample in present], dtype=torch.int64),
        originals=originals if len(originals) == len(present) else None,
        areas=areas if len(areas) == len(present) else None,
        skipped=len(samples) - len(present),
        views=_stack(views, height, width) if views else None,
    )


def _stack(pictures: Sequence[Tensor], height: int, width: int) -> Tensor:
    stacked = torch.zeros(len(pictures), 3, height, width)
    for slot, picture in zip(stacked, pictures, strict=True):
        slot[:, : picture.shape[1], : picture.shape[2]] = picture
    return stacked


# A worker hands each tensor over in a piece of shared memory with a file descriptor of its own. A batch has ten
# small tensors per picture: slow, and soon more than a process may have open. They travel by value instead.
def _reduce(item: Batch | Targets) -> tuple[Any, ...]:
    values = {f.name: getattr(item, f.name) for f in fields(item)}
    packed = {name: value if name in ("images", "views") else _to_numpy(value) for name, value in values.items()}
    return _rebuild, (type(item), packed)


def _rebuild(kind: type[Batch | Targets], packed: dict[str, Any]) -> Batch | Targets:
    return kind(**{name: _to_torch(value) for name, value in packed.items()})


def _to_numpy(value: Any) -> Any:
    if isinstance(value, list):
        return [_to_numpy(item) for item in value]
    return value.numpy() if isinstance(value, Tensor) else value


def _to_torch(value: Any) -> Any:
    if isinstance(value, list):
        return [_to_torch(item) for item in value]
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


ForkingPickler.register(Batch, _reduce)
ForkingPickler.register(Targets, _reduce)
