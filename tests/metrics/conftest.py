"""Random data for the metrics, and COCO's matching as a literal loop over images, detections and objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

from detlab.metrics.columns import Found, Truth


class Looped(NamedTuple):
    """A counted detection of one class, as the loop sees it."""

    score: float
    correct: bool
    iou: float  # with its object, 0 for a false positive
    row: int


def _random_columns(
    seed: int, images: int = 25, classes: int = 4, crowds: float = 0.2, ties: bool = True
) -> tuple[Found, Truth]:
    """Objects in clusters, crowds among them, detections near them and anywhere, in the order of images."""
    rng = np.random.default_rng(seed)
    truth_image = np.sort(rng.integers(0, images, images * 5))
    truth_label = rng.integers(0, classes, len(truth_image))
    corner, size = rng.uniform(0, 60, (len(truth_image), 2)), rng.uniform(15, 60, (len(truth_image), 2))
    truth_box = np.concatenate([corner, corner + size], 1).astype(np.float32).astype(np.float64)
    near = np.sort(rng.integers(0, len(truth_image), images * 12))
    found_box = truth_box[near] + rng.normal(0, rng.choice([1.0, 4, 12], (len(near), 1)), (len(near), 4))
    found_box[:, 2:] = np.maximum(found_box[:, 2:], found_box[:, :2] + 1)
    score = rng.choice(np.arange(1, 30) / 32, len(near)) if ties else rng.permutation(len(near)) / 2.0**12
    found_label = np.where(rng.random(len(near)) < 0.9, truth_label[near], rng.integers(0, classes, len(near)))
    found = Found(truth_image[near], found_label, found_box.astype(np.float32).astype(np.float64), score)
    ignore = rng.random(len(truth_image)) < crowds
    return found, Truth(truth_image, truth_label, truth_box, ignore, size.prod(1))


def _overlap(a: np.ndarray, b: np.ndarray, crowd: bool) -> float:
    """IoU of two xyxy boxes; with a crowd b, the share of a that lies in it."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    area_a, area_b = (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (area_a if crowd else area_a + area_b - width * height)


def _looped_class(
    found: Found, truth: Truth, label: int, tau: float = 0.5, most: int = 100
) -> tuple[list[Looped], int]:
    """The counted detections of a class in falling order of score, and how many objects it has."""
    counted: list[Looped] = []
    for image in np.unique(found.image):
        rows = [n for n in range(len(found.score)) if found.image[n] == image and found.label[n] == label]
        rows = sorted(rows, key=lambda n: -found.score[n])[:most]
        here = [m for m in range(len(truth.label)) if truth.image[m] == image and truth.label[m] == label]
        taken: set[int] = set()
        for n in rows:
            best, at = -1, tau
            for m in here:
                share = _overlap(found.box[n], truth.box[m], False)
                if not truth.ignore[m] and m not in taken and share >= at:
                    best, at = m, share
            if best >= 0:
                taken.add(best)
                counted.append(Looped(float(found.score[n]), True, at, n))
            elif not any(truth.ignore[m] and _overlap(found.box[n], truth.box[m], True) >= tau for m in here):
                counted.append(Looped(float(found.score[n]), False, 0.0, n))
    counted.sort(key=lambda one: -one.score)
    return counted, int(((truth.label == label) & ~truth.ignore).sum())


@pytest.fixture
def random_columns() -> Callable[..., tuple[Found, Truth]]:
    return _random_columns


@pytest.fixture
def looped_class() -> Callable[..., tuple[list[Looped], int]]:
    return _looped_class
