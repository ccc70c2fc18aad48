"""Precision and recall of pseudo-labels against a loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from detlab.metrics.columns import Found, Truth
from detlab.metrics.pseudo_quality import pseudo_quality

CLASSES = ("a", "b", "c")


def random_case(seed: int) -> tuple[Found, Truth]:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 40, (30, 2))
    box = np.concatenate([corner, corner + rng.uniform(5, 30, (30, 2))], 1)
    truth = Truth(rng.integers(3, size=30), rng.integers(2, size=30), box, rng.random(30) < 0.2, np.ones(30))
    chosen = rng.integers(30, size=25)
    moved = box[chosen] + rng.uniform(-5, 5, (25, 4))
    label = np.where(rng.random(25) < 0.8, truth.label[chosen], rng.integers(2, size=25))
    return Found(truth.image[chosen], label, moved, rng.random(25)), truth


def literal(found: Found, truth: Truth) -> dict[str, tuple[int, int, int]]:
    """class → (right, counted labels, objects)."""
    result = {}
    for k, name in enumerate(CLASSES):
        right = counted = 0
        taken: set[int] = set()
        for i in sorted(np.flatnonzero(found.label == k), key=lambda i: -found.score[i]):
            here = [j for j in range(len(truth.label)) if truth.label[j] == k and truth.image[j] == found.image[i]]
            best, chosen = 0.5, None
            for j in here:
                overlap = float(box_iou(torch.tensor(found.box[i : i + 1]), torch.tensor(truth.box[j : j + 1])))
                if not truth.ignore[j] and j not in taken and overlap >= best:
                    best, chosen = overlap, j
            if chosen is not None:
                taken.add(chosen)
                right, counted = right + 1, counted + 1
                continue
            size = np.prod(found.box[i, 2:] - found.box[i, :2])
            inside = 0.0
            for j in here:
                if truth.ignore[j]:
                    a, b = found.box[i], truth.box[j]
                    shared = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
                    inside = max(inside, shared / size)
            counted += inside < 0.5
        result[name] = (right, counted, int(((truth.label == k) & ~truth.ignore).sum()))
    return result


def literal_overlaps(found: Found, truth: Truth) -> dict[str, list[float]]:
    """class → the IoU of each right label with what it was matched to."""
    result: dict[str, list[float]] = {name: [] for name in CLASSES}
    taken: set[int] = set()
    for i in sorted(range(len(found.label)), key=lambda i: -found.score[i]):
        overlaps = {
            j: float(box_iou(torch.tensor(found.box[i : i + 1]), torch.tensor(truth.box[j : j + 1])))
            for j in range(len(truth.label))
            if truth.label[j] == found.label[i] and truth.image[j] == found.image[i] and j not in taken
            and not truth.ignore[j]
        }  # fmt: skip
        best = max(overlaps, key=lambda j: overlaps[j], default=None)
        if best is not None and overlaps[best] >= 0.5:
            taken.add(best)
            result[CLASSES[found.label[i]]].append(overlaps[best])
    return result


@pytest.mark.parametrize("seed", range(20))
def test_equals_the_loop(seed: int) -> None:
    found, truth = random_case(seed)
    values = pseudo_quality(found, truth, CLASSES)
    expected = literal(found, truth)
    overlaps = literal_overlaps(found, truth)
    for name, (right, counted, objects) in expected.items():
        assert right == len(overlaps[name])
        mean = float(np.mean(overlaps[name])) if right else math.nan
        assert values[f"iou/{name}"] == pytest.approx(mean, nan_ok=True)
        for kind, whole in (("precision", counted), ("recall", objects)):
            value = values[f"{kind}/{name}"]
            assert math.isnan(value) if whole == 0 else value == pytest.approx(right / whole)
    rights, counts, objects = (sum(column) for column in zip(*expected.values()))
    assert values["precision"] == pytest.approx(rights / counts)
    assert values["recall"] == pytest.approx(rights / objects)
    assert values["iou"] == pytest.approx(np.mean([iou for each in overlaps.values() for iou in each]))


def test_without_labels_or_objects() -> None:
    found, truth = random_case(0)
    none = pseudo_quality(found.rows(np.zeros(25, bool)), truth, CLASSES)
    assert math.isnan(none["precision"])
    assert none["recall"] == 0
    nothing = pseudo_quality(found, truth.rows(np.zeros(30, bool)), CLASSES)
    assert nothing["precision"] == 0
    assert math.isnan(nothing["recall"])
