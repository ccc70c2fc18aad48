"""Counts of an assignment by hand."""

from __future__ import annotations

import torch

from detlab.assigners.counts import Counts, count_matches
from detlab.structures import BACKGROUND, IGNORED, Assignment, Targets


def image(count: int, ignore: list[bool] | None = None) -> Targets:
    boxes = torch.arange(4 * count).view(-1, 4).float()
    flags = None if ignore is None else torch.tensor(ignore)
    return Targets.of(boxes, torch.zeros(count), 1, ignore=flags)


def counted(targets: list[Targets], index: list[list[int]]) -> list[float]:
    counts = count_matches(targets, Assignment(torch.tensor(index)))
    assert isinstance(counts, Counts)
    assert all(value.dtype == torch.float32 and value.shape == () for value in counts)
    return [float(value) for value in counts]


def test_objects_positives_and_unmatched() -> None:
    """Three objects with 2, 0 and 1 anchors; two with 0 and 4."""
    index = [[0, 0, 2, BACKGROUND, IGNORED], [1, 1, 1, 1, BACKGROUND]]
    assert counted([image(3), image(2)], index) == [5, 7, 2]


def test_images_of_different_size_share_no_anchor() -> None:
    """Object 0 of the first image has an anchor, the only object of the second has none."""
    assert counted([image(3), image(1), image(0)], [[0, 2], [BACKGROUND] * 2, [BACKGROUND] * 2]) == [4, 2, 2]


def test_crowds_are_not_counted() -> None:
    assert counted([image(3, [True, False, True])], [[1, 1, IGNORED, BACKGROUND]]) == [1, 2, 0]
    assert counted([image(2, [True, False])], [[IGNORED] * 3]) == [1, 0, 1]


def test_no_objects_no_anchors() -> None:
    assert counted([image(0), image(0)], [[BACKGROUND, IGNORED]] * 2) == [0, 0, 0]
    counts = count_matches([image(2)], Assignment(torch.zeros(1, 0, dtype=torch.long)))
    assert [float(value) for value in counts] == [2, 0, 2]


def test_equals_loops() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        targets = [image(n, (torch.rand(n, generator=generator) < 0.3).tolist()) for n in (0, 1, 4, 30)]
        index = torch.full((4, 50), BACKGROUND)
        for row, target in enumerate(targets):
            free = (~target.ignore).nonzero()[:, 0].tolist()
            for anchor in range(50):
                pick = int(torch.randint(-2, max(1, len(free)), (1,), generator=generator))
                index[row, anchor] = free[pick] if 0 <= pick < len(free) else min(pick, BACKGROUND)
        objects = [(row, g) for row, target in enumerate(targets) for g in range(len(target)) if not target.ignore[g]]
        unmatched = [1 for row, g in objects if g not in index[row].tolist()]
        wanted = [len(objects), int((index >= 0).sum()), len(unmatched)]
        assert counted(targets, index.tolist()) == wanted
