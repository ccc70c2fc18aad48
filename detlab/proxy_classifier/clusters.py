"""The sizes that crops are padded to: k-means on width and height, and the way from a crop to its size."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.cluster.vq import kmeans2
from torch import Tensor

from detlab.proxy_classifier.cutting import whole_pixels
from detlab.proxy_classifier.net import SMALLEST


class CropSizes:
    """The sizes that crops are padded to, and which RoI goes to which: the same in training and in use.

    centres: int64 ``[k, 2]`` (width, height). largest: the longer side of a RoI in pixels above which it counts as
    shrunk to it when its centre is looked up; None: never.

    Raises ValueError for no centres, centres below the net's 8 pixels, or a `largest` below that.
    """

    def __init__(self, centres: Tensor, largest: float | None = None) -> None:
        if centres.ndim != 2 or centres.shape[1:] != (2,) or not len(centres) or int(centres.min()) < SMALLEST:
            raise ValueError(f"Expected centres [k, 2] of at least {SMALLEST} pixels, got {centres.tolist()}.")
        if largest is not None and largest < SMALLEST:
            raise ValueError(f"Expected largest >= {SMALLEST} pixels or null, got {largest}.")
        self.centres, self.largest = centres.long().cpu(), largest

    def of(self, boxes: Tensor, height: int, width: int) -> Tensor:
        """The centre of each RoI ``[N, 4]`` xyxy in pixels of a picture of that size: int64 ``[N]``."""
        pixels = whole_pixels(boxes, height, width)
        return nearest(limited(pixels[:, 2:] - pixels[:, :2], self.largest), self.centres)

    def group(self, boxes: Tensor, height: int, width: int) -> Iterator[tuple[int, Tensor, tuple[int, int]]]:
        """For each centre that has any of the RoIs ``[N, 4]``: its number, which RoIs, int64 ``[n]``, and its (width,
        height)."""
        numbers = self.of(boxes, height, width)
        for number, size in enumerate(self.centres.tolist()):
            which = (numbers == number).nonzero().flatten()
            if len(which):
                yield number, which, (size[0], size[1])


def fit_centres(sizes: ArrayLike, count: int, seed: int = 0) -> Tensor:
    """Centres int64 ``[k, 2]`` (width, height) of ``sizes [N, 2]`` in pixels, by area from small to large.

    scipy's k-means (++ start, `seed`), rounded up to whole pixels and to at least the 8 that the net takes. k is
    `count`, or less where rounding makes two the same or there are fewer different sizes. Raises ValueError for no
    sizes, sizes that are not positive and finite, or count < 1.
    """
    points = np.asarray(sizes, np.float64).reshape(-1, 2)
    if not len(points) or not np.isfinite(points).all() or (points <= 0).any():
        raise ValueError(f"Expected at least one positive, finite size (width, height), got {len(points)} sizes.")
    if count < 1:
        raise ValueError(f"Expected at least one cluster, got {count}.")
    different = np.unique(points, axis=0)
    if len(different) > count:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an empty cluster keeps its start: one of the points
            different, _ = kmeans2(points, count, minit="++", seed=seed)
    centres = np.unique(np.maximum(np.ceil(different), SMALLEST).astype(np.int64), axis=0)
    return torch.from_numpy(centres[np.argsort(centres.prod(1), kind="stable")])


def nearest(sizes: Tensor, centres: Tensor) -> Tensor:
    """``sizes [N, 2]`` (width, height) in pixels → the nearest row of ``centres [k, 2]``, int64 ``[N]``; of two equally
    near the first. Training and use both ask this function."""
    offsets = sizes.double()[:, None] - centres.to(sizes.device).double()  # [N, k, 2]
    return offsets.square().sum(-1).argmin(1)


def limited(sizes: Tensor, largest: float | None) -> Tensor:
    """Sizes ``[N, 2]`` with longer sides of at most `largest` pixels (None: any), shapes kept; float32."""
    sizes = sizes.float()
    if largest is None:
        return sizes
    longer = sizes.amax(1, keepdim=True)
    return torch.where(longer > largest, sizes * largest / longer, sizes)
