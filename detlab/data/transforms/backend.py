"""albumentations, imported without its look for updates and with its warnings about arguments as errors."""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Iterable

import numpy as np

# Read once, at import; without it the import asks the network for a newer version.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import albumentations as A
from albumentations.core.type_definitions import Targets as TargetKind

__all__ = ["A", "TargetKind", "generators", "leaves"]

# A misspelt argument would otherwise be dropped and the default used in its place.
warnings.filterwarnings("error", message=r"Argument\(s\) .* (is|are) not valid for transform", category=UserWarning)


def leaves(transforms: Iterable[A.BasicTransform | A.BaseCompose]) -> list[A.BasicTransform]:
    """All single transforms of a list, those inside OneOf, Sequential and the like included."""
    found: list[A.BasicTransform] = []
    for transform in transforms:
        found += leaves(transform.transforms) if isinstance(transform, A.BaseCompose) else [transform]
    return found


def generators(seed: int, stream: int) -> tuple[np.random.Generator, random.Random]:
    """albumentations' two sources of randomness, a pure function of (seed ≥ 0, stream ≥ 0)."""
    generator = np.random.default_rng((seed, stream))
    return generator, random.Random(int(generator.integers(1 << 62)))
