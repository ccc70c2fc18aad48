"""MaxIoU against loops over exact fractions."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import Tensor

from detlab.assigners import Assigner, overlap
from detlab.assigners.max_iou import MaxIoU
from detlab.structures import BACKGROUND, IGNORED, Anchors, Targets


def intersection(a: list[float], b: list[float]) -> Fraction:
    width = min(Fraction(a[2]), Fraction(b[2])) - max(Fraction(a[0]), Fraction(b[0]))
    height = min(Fraction(a[3]), Fraction(b[3])) - max(Fraction(a[1]), Fraction(b[1]))
    return max(width, Fraction(0)) * max(height, Fraction(0))


def iou(a: list[float], b: list[float]) -> Fraction:
    both = intersection(a, b)
    return both / (intersection(a, a) + intersection(b, b) - both)


def has_center(box: list[float], anchor: list[float]) -> bool:
    x, y = (Fraction(anchor[0]) + Fraction(anchor[2])) / 2, (Fraction(anchor[1]) + Fraction(anchor[3])) / 2
    return box[0] < x < box[2] and box[1] < y < box[3]


def reference(
    anchors: Tensor,
    targets: Targets,
    positive: Fraction,
    negative: Fraction,
    low_quality: bool,
    ioa: Fraction,
    center_inside: bool = False,
) -> list[int]:
    objects = [g for g in range(len(targets)) if not targets.ignore[g]]
    boxes, rows = targets.boxes.tolist(), anchors.tolist()
    best_of_object = {g: max(iou(boxes[g], row) for row in rows) for g in objects}
    result = []
    for row in rows:
        overlaps = {g: iou(boxes[g], row) for g in objects}
        best = max(overlaps.values(), default=Fraction(-1))
        winner = min((g for g in objects if overlaps[g] == best), default=BACKGROUND)
        rescued = low_quality and any(overlaps[g] == best_of_object[g] > 0 for g in objects)
        if objects and (best >= positive or rescued):
            if not center_inside or has_center(boxes[winner], row):
                result.append(winner)
            else:
                result.append(IGNORED)
            continue
        crowded = any(
            intersection(boxes[g], row) / intersection(row, row) >= ioa
            for g in range(len(targets))
            if targets.ignore[g]
        )
        result.append(IGNORED if crowded or (objects and best >= negative) else BACKGROUND)
    return result


def single(anchors: list[list[float]]) -> Anchors:
    boxes = torch.tensor(anchors).reshape(-1, 4)
    return Anchors(boxes, torch.zeros(len(boxes), dtype=torch.long), (len(boxes),))


def boxes_of(boxes: list[list[float]], ignore: list[bool] | None = None) -> Targets:
    flags = None if ignore is None else torch.tensor(ignore)
    return Targets.of(torch.tensor(boxes), torch.zeros(len(boxes)), 1, ignore=flags)


@pytest.mark.parametrize("low_quality", [True, False])
@pytest.mark.parametrize(("positive", "negative"), [("0.5", "0.4"), ("0.25", "0.25"), ("0.7", "0.0"), ("0", "0")])
def test_equals_the_loop(grid_anchors, random_targets, positive: str, negative: str, low_quality: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    anchors = grid_anchors(16)
    targets = [random_targets(count, generator, size=16) for count in (0, 1, 2, 5, 9)]
    assigner = MaxIoU(float(positive), float(negative), low_quality)
    found = assigner(anchors, targets).gt_index
    limits = Fraction(positive), Fraction(negative), low_quality, Fraction(1, 2)
    for row, target in zip(found, targets, strict=True):
        assert row.tolist() == reference(anchors.boxes, target, *limits)


@pytest.mark.parametrize("low_quality", [True, False])
@pytest.mark.parametrize(("positive", "negative"), [("0.5", "0.4"), ("0.1", "0.1"), ("0", "0")])
def test_center_inside_equals_the_loop(
    grid_anchors, random_targets, positive: str, negative: str, low_quality: bool
) -> None:
    generator = torch.Generator().manual_seed(2)
    anchors = grid_anchors(16)
    targets = [random_targets(count, generator, size=16) for count in (0, 1, 2, 5, 9)]
    limits = Fraction(positive), Fraction(negative), low_quality, Fraction(1, 2)
    found = MaxIoU(float(positive), float(negative), low_quality, center_inside=True)(anchors, targets).gt_index
    plain = MaxIoU(float(positive), float(negative), low_quality)(anchors, targets).gt_index
    for row, target in zip(found, targets, strict=True):
        assert row.tolist() == reference(anchors.boxes, target, *limits, center_inside=True)
    if positive != "0.5":
        assert (found != plain).any(), "every center is inside: nothing was tested"
    assert (found[found != plain] == IGNORED).all()
    assert (plain[found != plain] >= 0).all()


def test_of_the_anchors_around_a_tiny_object_those_with_their_center_in_it_are_positive() -> None:
    """49 anchors of 32 × 32, 4 apart, contain an object of 6 × 6; a center on its edge is not inside."""
    anchors = single([[x, y, x + 32, y + 32] for y in range(0, 28, 4) for x in range(0, 28, 4)])
    targets = [boxes_of([[25.0, 25, 31, 31]])]
    assert (MaxIoU()(anchors, targets).gt_index == 0).sum() == 49
    found = MaxIoU(center_inside=True)(anchors, targets).gt_index
    assert (found == 0).sum() == 1
    assert (found == IGNORED).sum() == 48
    edge = MaxIoU(center_inside=True)(anchors, [boxes_of([[24.0, 24, 28, 28]])]).gt_index
    assert (edge >= 0).sum() == 0


def test_center_inside_without_objects_anchors_or_matches(grid_anchors) -> None:
    assigner, anchors = MaxIoU(center_inside=True), grid_anchors()
    empty = Targets.of(torch.zeros(0, 4), torch.zeros(0), 1)
    assert (assigner(anchors, [empty]).gt_index == BACKGROUND).all()
    assert assigner(single([]), [boxes_of([[0, 0, 8, 8]])]).gt_index.shape == (1, 0)
    assert (assigner(anchors, [boxes_of([[90.0, 90, 95, 95]])]).gt_index == BACKGROUND).all()
    assert (assigner(anchors, [boxes_of([[-99, -99, 99, 99]], [True])]).gt_index == IGNORED).all()


def test_batch_equals_its_images_one_by_one(grid_anchors, random_targets, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(1)
    anchors = grid_anchors()
    targets = [random_targets(count, generator, step=0.125) for count in (3, 0, 12, 1)]
    together = MaxIoU()(anchors, targets).gt_index
    alone = torch.cat([MaxIoU()(anchors, [target]).gt_index for target in targets])
    assert torch.equal(together, alone)
    monkeypatch.setattr(overlap, "PAIRS_AT_ONCE", 1)  # one image at a time
    assert torch.equal(MaxIoU()(anchors, targets).gt_index, together)


def test_thresholds_are_inclusive_below() -> None:
    """IoUs 1/2, 2/5 and 1/4 with a box of 10 × 10."""
    anchors = single([[0, 0, 10, 5], [0, 0, 10, 4], [0, 0, 10, 2.5]])
    found = MaxIoU(0.5, 0.4, low_quality=False)(anchors, [boxes_of([[0, 0, 10, 10]])])
    assert found.gt_index.tolist() == [[0, IGNORED, BACKGROUND]]


def test_low_quality_matches_every_anchor_that_ties_for_best() -> None:
    anchors = single([[0, 0, 10, 2], [0, 8, 10, 10], [0, 0, 10, 1]])
    targets = [boxes_of([[0, 0, 10, 10]])]
    assert MaxIoU(low_quality=True)(anchors, targets).gt_index.tolist() == [[0, 0, BACKGROUND]]
    assert MaxIoU(low_quality=False)(anchors, targets).gt_index.tolist() == [[BACKGROUND] * 3]


def test_low_quality_match_stays_with_the_object_the_anchor_overlaps_most() -> None:
    """The second object's only anchor covers the first one completely."""
    anchors = single([[0, 0, 10, 10]])
    targets = [boxes_of([[0, 0, 10, 10], [0, 0, 2, 2]])]
    assert MaxIoU()(anchors, targets).gt_index.tolist() == [[0]]


def test_object_that_touches_no_anchor_matches_none() -> None:
    anchors = single([[0, 0, 10, 10], [10, 0, 20, 10]])
    assert MaxIoU()(anchors, [boxes_of([[50, 50, 60, 60]])]).gt_index.tolist() == [[BACKGROUND] * 2]


def test_equal_objects_go_to_the_first() -> None:
    anchors = single([[0, 0, 10, 10]])
    targets = [boxes_of([[0, 0, 10, 10], [0, 0, 10, 10]])]
    assert MaxIoU()(anchors, targets).gt_index.tolist() == [[0]]


def test_ignored_objects_are_never_matched_and_keep_their_numbers() -> None:
    anchors = single([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]])
    targets = [boxes_of([[0, 0, 10, 10], [20, 0, 30, 10]], [True, False])]
    assert MaxIoU()(anchors, targets).gt_index.tolist() == [[IGNORED, 1, BACKGROUND]]


def test_positive_inside_a_crowd_stays_positive() -> None:
    anchors = single([[0, 0, 10, 10], [10, 0, 20, 10]])
    targets = [boxes_of([[0, 0, 100, 100], [0, 0, 10, 10]], [True, False])]
    assert MaxIoU()(anchors, targets).gt_index.tolist() == [[1, IGNORED]]


def test_all_objects_ignored(grid_anchors) -> None:
    anchors = grid_anchors()
    found = MaxIoU()(anchors, [boxes_of([[-99, -99, 99, 99]], [True])]).gt_index
    assert (found == IGNORED).all()


def test_huge_tiny_and_broken_boxes_do_not_disturb_the_others(grid_anchors) -> None:
    anchors = grid_anchors()
    nan = float("nan")
    usual = [[6.0, 6, 14, 14]]
    odd = [[-1e6, -1e6, 1e6, 1e6], [5, 5, 5 + 1e-4, 5 + 1e-4], [7, 7, 7, 7], [9, 9, 3, 3]]
    plain = MaxIoU(low_quality=False)(anchors, [boxes_of(usual)]).gt_index
    assert (plain == 0).any()
    assert torch.equal(MaxIoU(low_quality=False)(anchors, [boxes_of(usual + odd)]).gt_index, plain)
    assert (MaxIoU()(anchors, [boxes_of([[nan] * 4])]).gt_index == BACKGROUND).all()


def test_no_anchors_and_half_precision_anchors(grid_anchors) -> None:
    targets = [boxes_of([[0, 0, 8, 8]])]
    assert MaxIoU()(single([]), targets).gt_index.shape == (1, 0)
    anchors = grid_anchors()
    half = anchors._replace(boxes=anchors.boxes.half())  # these coordinates are exact in float16
    assert torch.equal(MaxIoU()(half, targets).gt_index, MaxIoU()(anchors, targets).gt_index)


def test_is_an_assigner_without_gradient(grid_anchors) -> None:
    assert isinstance(MaxIoU(), Assigner)
    found = MaxIoU()(grid_anchors(), [boxes_of([[0, 0, 8, 8]])]).gt_index
    assert found.dtype == torch.int64
    assert not found.requires_grad


@pytest.mark.parametrize(
    "arguments",
    [{"positive": 0.3}, {"negative": -0.1}, {"positive": 1.1}, {"ignore_ioa": 0.0}, {"ignore_ioa": 1.5}],
)
def test_refuses_impossible_thresholds(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="Expected"):
        MaxIoU(**arguments)  # type: ignore[arg-type]
