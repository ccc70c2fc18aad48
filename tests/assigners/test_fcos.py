"""FCOS's assignment against loops in float64 that follow the paper's words."""

from __future__ import annotations

import math

import pytest
import torch

from detlab.assigners import Assigner, overlap
from detlab.assigners.fcos import FCOSAssigner, size_ranges
from detlab.models.points import PointGenerator
from detlab.structures import BACKGROUND, IGNORED, Anchors, Targets

CPU = torch.device("cpu")


def points(size: int = 32, levels: tuple[int, ...] = (2, 3, 4)) -> Anchors:
    return PointGenerator(levels)([(size >> level, size >> level) for level in levels], CPU)


def boxes_of(boxes: list[list[float]], ignore: list[bool] | None = None) -> Targets:
    return Targets.of(
        torch.tensor(boxes), torch.zeros(len(boxes)), 1, ignore=None if ignore is None else torch.tensor(ignore)
    )


def reference(anchors: Anchors, targets: Targets, radius: float, size_range: float) -> list[int]:
    found, levels = [], len(anchors.level_sizes)
    for cell, level in zip(anchors.boxes.tolist(), anchors.level.tolist()):
        x, y, stride = (cell[0] + cell[2]) / 2, (cell[1] + cell[3]) / 2, cell[2] - cell[0]
        most = size_range * stride if level < levels - 1 else math.inf
        least = size_range * stride / 2 if level else 0.0
        best, winner = math.inf, BACKGROUND
        for g, (x1, y1, x2, y2) in enumerate(targets.boxes.tolist()):
            distances = (x - x1, y - y1, x2 - x, y2 - y)
            if targets.ignore[g] or min(distances) <= 0 or not least <= max(distances) <= most:
                continue
            if abs(x - (x1 + x2) / 2) >= radius * stride or abs(y - (y1 + y2) / 2) >= radius * stride:
                continue
            if (x2 - x1) * (y2 - y1) < best:
                best, winner = (x2 - x1) * (y2 - y1), g
        if winner == BACKGROUND:
            for g, (x1, y1, x2, y2) in enumerate(targets.boxes.tolist()):
                inside = max(0.0, min(x2, cell[2]) - max(x1, cell[0])) * max(0.0, min(y2, cell[3]) - max(y1, cell[1]))
                if targets.ignore[g] and inside >= stride**2 / 2:
                    winner = IGNORED
        found.append(winner)
    return found


@pytest.mark.parametrize(("radius", "size_range"), [(1.5, 1.0), (0.75, 2.0), (9.0, 1.5)])
@pytest.mark.parametrize("pairs_at_once", [1, 2**24])
def test_equals_the_literal_reference(random_targets, monkeypatch, radius, size_range, pairs_at_once) -> None:
    monkeypatch.setattr(overlap, "PAIRS_AT_ONCE", pairs_at_once)
    generator, anchors = torch.Generator().manual_seed(0), points()
    targets = [random_targets(count, generator, step=step) for count in (0, 1, 3, 7) for step in (0.5, 1.0, 2.0)]
    found = FCOSAssigner(radius, size_range)(anchors, targets).gt_index
    assert found.tolist() == [reference(anchors, each, radius, size_range) for each in targets]
    assert len(found.unique()) > 4


def test_the_ranges_are_the_papers() -> None:
    strides = torch.tensor([8.0, 16, 32, 64, 128])
    lower, upper = size_ranges(strides, 8.0)
    assert lower.tolist() == [0, 64, 128, 256, 512]
    assert upper.tolist() == [64, 128, 256, 512, math.inf]
    assert FCOSAssigner(shrink=0.5).size_range == 4


def test_an_object_is_on_the_level_of_its_size() -> None:
    anchors = points(128, (3, 4, 5))
    for side, levels in ((20.0, [0]), (53, [0, 1]), (90, [1]), (128, [2])):  # m is half a side and at most half a cell
        target = boxes_of([[64 - side / 2, 64 - side / 2, 64 + side / 2, 64 + side / 2]])
        found = FCOSAssigner(shrink=0.5)(anchors, [target]).gt_index[0]
        assert anchors.level[found >= 0].unique().tolist() == levels


def test_the_smallest_object_wins_then_the_first() -> None:
    anchors = points(16, (3,))
    large, small = [0.0, 0, 16, 16], [1.0, 1, 15, 15]
    assert set(FCOSAssigner()(anchors, [boxes_of([large, small])]).gt_index[0].tolist()) == {1}
    assert set(FCOSAssigner()(anchors, [boxes_of([small, small])]).gt_index[0].tolist()) == {0}


def test_a_point_on_the_border_or_a_tiny_object_between_points_has_nothing() -> None:
    anchors = points(8, (2,))  # points at 2 and 6
    assert (FCOSAssigner()(anchors, [boxes_of([[2.0, 1, 5, 5]])]).gt_index == BACKGROUND).all()
    assert (FCOSAssigner()(anchors, [boxes_of([[3.0, 3, 5, 5]])]).gt_index == BACKGROUND).all()
    assert FCOSAssigner()(anchors, [boxes_of([[1.0, 1, 3, 3]])]).gt_index.tolist() == [[0, -1, -1, -1]]


def test_all_ignored_no_objects_and_no_points() -> None:
    found = FCOSAssigner()(points(), [boxes_of([[-99.0, -99, 99, 99]], [True])]).gt_index
    assert (found == IGNORED).all()
    found = FCOSAssigner()(points(), [boxes_of([]), boxes_of([])]).gt_index
    assert (found == BACKGROUND).all()
    assert found.dtype == torch.int64
    none = Anchors(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), ())
    assert FCOSAssigner()(none, [boxes_of([[0.0, 0, 8, 8]])]).gt_index.shape == (1, 0)
    assert isinstance(FCOSAssigner(), Assigner)


def test_broken_boxes_do_not_crash() -> None:
    nan = float("nan")
    for box in ([7.0, 7, 7, 7], [9, 9, 3, 3], [nan] * 4):
        assert (FCOSAssigner()(points(), [boxes_of([box])]).gt_index == BACKGROUND).all()


def test_anchors_of_another_size_have_the_same_points(grid_anchors, random_targets) -> None:
    target = random_targets(6, torch.Generator().manual_seed(1))
    found = FCOSAssigner(size_range=1.0, ignore_iof_thr=1.0)(grid_anchors(scale=2.0), [target]).gt_index
    cells = FCOSAssigner(size_range=1.0, ignore_iof_thr=1.0)(points(), [target]).gt_index
    assert torch.equal(found.clamp(min=-1), cells.clamp(min=-1))


@pytest.mark.parametrize("arguments", [{"radius": 0.0}, {"size_range": 0.0}, {"shrink": -1.0}, {"ignore_iof_thr": 0.0}])
def test_impossible_arguments_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="Expected"):
        FCOSAssigner(**arguments)
