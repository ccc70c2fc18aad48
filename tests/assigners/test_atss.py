"""ATSS against loops in float64 that follow Algorithm 1 of the paper line by line."""

from __future__ import annotations

import statistics

import pytest
import torch

from detlab.assigners import Assigner, overlap
from detlab.assigners.atss import ATSS, smallest
from detlab.structures import BACKGROUND, IGNORED, Anchors, Targets


def iou(a: list[float], b: list[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def center(box: list[float]) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def reference(anchors: Anchors, targets: Targets, topk: int) -> list[int]:
    rows = anchors.boxes.tolist()
    claims: dict[int, list[tuple[float, int]]] = {}
    for g, box in enumerate(targets.boxes.tolist()):
        if targets.ignore[g]:
            continue
        cx, cy = center(box)
        candidates: list[int] = []
        start = 0
        for size in anchors.level_sizes:
            level = range(start, start + size)
            distance = {a: (center(rows[a])[0] - cx) ** 2 + (center(rows[a])[1] - cy) ** 2 for a in level}
            candidates += sorted(level, key=lambda a: (distance[a], a))[:topk]
            start += size
        overlaps = [iou(rows[a], box) for a in candidates]
        spread = statistics.stdev(overlaps) if len(overlaps) > 1 else 0.0
        threshold = statistics.mean(overlaps) + spread
        for a, value in zip(candidates, overlaps, strict=True):
            x, y = center(rows[a])
            if value >= threshold and box[0] < x < box[2] and box[1] < y < box[3]:
                claims.setdefault(a, []).append((-value, g))
    result = []
    for a, row in enumerate(rows):
        if a in claims:
            result.append(min(claims[a])[1])
            continue
        crowded = False
        for g, box in enumerate(targets.boxes.tolist()):
            width = max(0.0, min(row[2], box[2]) - max(row[0], box[0]))
            height = max(0.0, min(row[3], box[3]) - max(row[1], box[1]))
            share = width * height / ((row[2] - row[0]) * (row[3] - row[1]))
            crowded |= bool(targets.ignore[g]) and share >= 0.5
        result.append(IGNORED if crowded else BACKGROUND)
    return result


def boxes_of(boxes: list[list[float]], ignore: list[bool] | None = None) -> Targets:
    flags = None if ignore is None else torch.tensor(ignore)
    return Targets.of(torch.tensor(boxes), torch.zeros(len(boxes)), 1, ignore=flags)


@pytest.mark.parametrize("topk", [1, 4, 9, 1000])
def test_equals_the_loop(grid_anchors, random_targets, topk: int) -> None:
    generator = torch.Generator().manual_seed(0)
    anchors = grid_anchors()
    targets = [random_targets(count, generator, step=0.25) for count in (0, 1, 2, 6, 20)]
    found = ATSS(topk)(anchors, targets).gt_index
    assert (found >= 0).any()
    for row, target in zip(found, targets, strict=True):
        assert row.tolist() == reference(anchors, target, topk)


def test_batch_equals_its_images_one_by_one(grid_anchors, random_targets, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(1)
    anchors = grid_anchors()
    targets = [random_targets(count, generator) for count in (3, 0, 12, 1)]  # whole pixels: ties everywhere
    together = ATSS()(anchors, targets).gt_index
    alone = torch.cat([ATSS()(anchors, [target]).gt_index for target in targets])
    assert torch.equal(together, alone)
    monkeypatch.setattr(overlap, "PAIRS_AT_ONCE", 1)  # one image at a time
    assert torch.equal(ATSS()(anchors, targets).gt_index, together)


def test_worked_example() -> None:
    """Three anchors around a box of 8 × 8 at distance 0, 0 and 6: IoUs 1, 1/4 and 1/7, mean 0.464, std 0.467.

    The threshold 0.932 leaves the first.
    """
    boxes = torch.tensor([[0.0, 0, 8, 8], [2, 2, 6, 6], [6, 0, 14, 8]])
    anchors = Anchors(boxes, torch.zeros(3, dtype=torch.long), (3,))
    assert ATSS()(anchors, [boxes_of([[0, 0, 8, 8]])]).gt_index.tolist() == [[0, BACKGROUND, BACKGROUND]]


def test_candidate_whose_centre_lies_on_the_border_is_not_positive() -> None:
    boxes = torch.tensor([[-4.0, 0, 4, 8]])  # centre (0, 4)
    anchors = Anchors(boxes, torch.zeros(1, dtype=torch.long), (1,))
    assert ATSS()(anchors, [boxes_of([[0, 0, 8, 8]])]).gt_index.tolist() == [[BACKGROUND]]
    assert ATSS()(anchors, [boxes_of([[-0.5, 0, 8, 8]])]).gt_index.tolist() == [[0]]  # one candidate: no deviation


def test_contested_anchor_goes_to_the_higher_iou_then_to_the_first() -> None:
    anchors = Anchors(torch.tensor([[0.0, 0, 8, 8]]), torch.zeros(1, dtype=torch.long), (1,))
    near, far = [0.0, 0, 8, 7], [0.0, 0, 8, 12]
    assert ATSS()(anchors, [boxes_of([far, near])]).gt_index.tolist() == [[1]]
    assert ATSS()(anchors, [boxes_of([near, near])]).gt_index.tolist() == [[0]]


def test_all_objects_ignored(grid_anchors) -> None:
    found = ATSS()(grid_anchors(), [boxes_of([[-99, -99, 99, 99]], [True])]).gt_index
    assert (found == IGNORED).all()


def test_huge_tiny_and_broken_boxes_do_not_crash(grid_anchors) -> None:
    anchors = grid_anchors()
    nan = float("nan")
    odd = [[-1e6, -1e6, 1e6, 1e6], [5, 5, 5 + 1e-4, 5 + 1e-4], [7, 7, 7, 7], [9, 9, 3, 3], [nan] * 4]
    for box in odd[2:]:
        assert (ATSS()(anchors, [boxes_of([box])]).gt_index == BACKGROUND).all()
    found = ATSS()(anchors, [boxes_of([[4, 4, 12, 12], *odd])]).gt_index
    assert (found == 0).any()
    assert int(found.max()) <= 1


def test_no_anchors_no_objects_and_no_gradient(grid_anchors) -> None:
    none = Anchors(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), ())
    assert ATSS()(none, [boxes_of([[0, 0, 8, 8]])]).gt_index.shape == (1, 0)
    found = ATSS()(grid_anchors(), [boxes_of([]), boxes_of([])]).gt_index
    assert (found == BACKGROUND).all()
    assert found.dtype == torch.int64
    assert isinstance(ATSS(), Assigner)


def test_smallest_breaks_ties_by_index() -> None:
    values = torch.tensor([[3.0, 1, 1, 0, 1, 1], [0, 0, 0, 0, 0, 0]])
    assert smallest(values, 3).sort().values.tolist() == [[1, 2, 3], [0, 1, 2]]
    assert smallest(torch.rand(4, 50).exp() * 1e6, 7).shape == (4, 7)


@pytest.mark.parametrize("arguments", [{"topk": 0}, {"ignore_ioa": 0.0}])
def test_refuses_impossible_arguments(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="Expected"):
        ATSS(**arguments)
