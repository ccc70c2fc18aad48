"""YOLO's assignment against a loop over cells in exact fractions."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor

from detlab.assigners import Assigner, overlap
from detlab.assigners.yolo import YOLO, highest_iou
from detlab.models.anchors import AnchorGenerator
from detlab.models.yolo_anchors import ShapeAnchors
from detlab.structures import BACKGROUND, IGNORED, Anchors, Predictions, Targets

CPU = torch.device("cpu")
# Powers of two, so that every coordinate and IoU of the tests is exact in float32 and ties are ties.
SHAPES = [[(4.0, 8.0), (8.0, 4.0), (8.0, 8.0)], [(16.0, 8.0), (16.0, 16.0), (16.0, 16.0)]]


def grid(size: int = 32) -> Anchors:
    return ShapeAnchors((2, 3), SHAPES)([(size // 4, size // 4), (size // 8, size // 8)], CPU)


def intersection(a: list[float], b: list[float]) -> Fraction:
    width = min(Fraction(a[2]), Fraction(b[2])) - max(Fraction(a[0]), Fraction(b[0]))
    height = min(Fraction(a[3]), Fraction(b[3])) - max(Fraction(a[1]), Fraction(b[1]))
    return max(width, Fraction(0)) * max(height, Fraction(0))


def iou(a: list[float], b: list[float]) -> Fraction:
    both = intersection(a, b)
    return both / (intersection(a, a) + intersection(b, b) - both)


def cells_of(size: int) -> list[tuple[list[int], tuple[int, int, int, int]]]:
    """(the anchors of a cell, its edges) of both levels, in the order of the anchors."""
    cells, number = [], 0
    for level, stride in enumerate((4, 8)):
        for row in range(size // stride):
            for column in range(size // stride):
                count = len(SHAPES[level])
                edges = (column * stride, row * stride, (column + 1) * stride, (row + 1) * stride)
                cells.append((list(range(number, number + count)), edges))
                number += count
    return cells


def reference(
    anchors: Tensor,
    targets: Targets,
    predicted: Tensor,
    size: int,
    tau: str,
    center: bool,
    low: bool,
    ignore: str | None,
) -> list[int]:
    rows, boxes = anchors.tolist(), targets.boxes.tolist()
    claims: dict[int, list[tuple[Fraction, int]]] = {}
    for g, box in enumerate(boxes):
        if targets.ignore[g]:
            continue
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        asked = []
        for members, (left, top, right, bottom) in cells_of(size):
            if center and not (left <= x < right and top <= y < bottom):
                continue
            best = max(members, key=lambda a: iou(rows[a], box))  # the first of equals
            asked.append((iou(rows[best], box), best))
        highest = max((value for value, _ in asked), default=Fraction(0))  # a centre may be outside the picture
        for value, a in asked:
            if value > Fraction(tau) or (low and value == highest > 0):
                claims.setdefault(a, []).append((value, -g))
    result = []
    for a, row in enumerate(rows):
        if a in claims:
            result.append(-max(claims[a])[1])
            continue
        crowd = any(
            2 * intersection(boxes[g], row) >= intersection(row, row) for g in range(len(boxes)) if targets.ignore[g]
        )
        near = ignore is not None and any(
            iou(boxes[g], predicted[a].tolist()) > Fraction(ignore) for g in range(len(boxes)) if not targets.ignore[g]
        )
        result.append(IGNORED if crowd or near else BACKGROUND)
    return result


@pytest.mark.parametrize("low_quality", [True, False])
@pytest.mark.parametrize("center_only", [True, False])
@pytest.mark.parametrize(("threshold", "ignore_iou"), [("0.5", None), ("0.25", "0.5"), ("0", None)])
def test_equals_the_loop(
    random_targets: Any, threshold: str, ignore_iou: str | None, center_only: bool, low_quality: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    anchors = grid()
    targets = [random_targets(count, generator) for count in (0, 1, 2, 5, 9)]
    corner = torch.randint(0, 20, (5, len(anchors.boxes), 2), generator=generator)
    boxes = torch.cat([corner, corner + torch.randint(1, 12, corner.shape, generator=generator)], -1).float()
    predictions = Predictions(boxes[..., :1], boxes, boxes)
    limit = None if ignore_iou is None else float(ignore_iou)
    found = YOLO(float(threshold), center_only, low_quality, limit)(anchors, targets, predictions).gt_index
    positives = 0
    for row, target, predicted in zip(found, targets, boxes, strict=True):
        expected = reference(anchors.boxes, target, predicted, 32, threshold, center_only, low_quality, ignore_iou)
        assert row.tolist() == expected
        positives += sum(value >= 0 for value in expected)
    assert positives > 0


def test_batch_equals_its_images_one_by_one(random_targets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(1)
    anchors = grid()
    targets = [random_targets(count, generator, step=0.125) for count in (3, 0, 12, 1)]
    boxes = torch.rand(4, len(anchors.boxes), 4, generator=generator) * 16
    boxes[..., 2:] += boxes[..., :2]
    predictions = Predictions(boxes[..., :1], boxes, boxes)
    assigner = YOLO(0.25, ignore_iou=0.4)
    together = assigner(anchors, targets, predictions).gt_index
    assert {BACKGROUND, IGNORED} < set(together.unique().tolist())
    for image, target in enumerate(targets):
        one = Predictions(boxes[image : image + 1, :, :1], boxes[image : image + 1], boxes[image : image + 1])
        assert torch.equal(assigner(anchors, [target], one).gt_index[0], together[image])
    monkeypatch.setattr(overlap, "PAIRS_AT_ONCE", 1)  # one image at a time
    assert torch.equal(assigner(anchors, targets, predictions).gt_index, together)


def boxes_of(boxes: list[list[float]], ignore: list[bool] | None = None) -> Targets:
    flags = None if ignore is None else torch.tensor(ignore)
    return Targets.of(torch.tensor(boxes), torch.zeros(len(boxes)), 1, ignore=flags)


def one_cell(*shapes: tuple[float, float]) -> Anchors:
    """The anchors of the one cell of a picture of 32 × 32 pixels."""
    return ShapeAnchors((5,), [list(shapes)])([(1, 1)], CPU)


def test_the_best_of_the_cell_alone_is_positive() -> None:
    """IoUs 1/2, 1 and 3/4 with a box of 16 × 16; the first of equals where two are alike."""
    anchors = one_cell((16, 8), (16, 16), (16, 12))
    assert YOLO(0.25)(anchors, [boxes_of([[8, 8, 24, 24]])]).gt_index.tolist() == [[-1, 0, -1]]
    anchors = one_cell((16, 8), (8, 16))
    assert YOLO(0.25)(anchors, [boxes_of([[8, 8, 24, 24]])]).gt_index.tolist() == [[0, -1]]


def test_the_threshold_must_be_exceeded() -> None:
    anchors = one_cell((16, 8))
    target = [boxes_of([[8, 8, 24, 24]])]  # IoU 1/2
    assert YOLO(0.5, low_quality=False)(anchors, target).gt_index.tolist() == [[-1]]
    assert YOLO(0.5, low_quality=True)(anchors, target).gt_index.tolist() == [[0]]
    assert YOLO(0.49, low_quality=False)(anchors, target).gt_index.tolist() == [[0]]


def test_an_anchor_goes_to_the_claim_of_highest_iou_at_equal_to_the_first() -> None:
    anchors = one_cell((16, 16))
    wide, exact = [8.0, 8, 32, 24], [8.0, 8, 24, 24]
    assert YOLO()(anchors, [boxes_of([wide, exact])]).gt_index.tolist() == [[1]]
    assert YOLO()(anchors, [boxes_of([exact, exact])]).gt_index.tolist() == [[0]]


def test_a_claim_below_the_threshold_gives_way() -> None:
    """The first object overlaps the anchor more, but has a better one; the second has no other."""
    anchors = ShapeAnchors((4,), [[(16, 16)]])([(1, 2)], CPU)
    first, second = [10.0, 0, 26, 16], [0.0, 0, 4, 16]
    second_best = YOLO(0.5)(anchors, [boxes_of([first, second])]).gt_index.tolist()
    assert second_best == [[1, 0]]


def test_center_only_asks_the_cell_that_holds_the_centre() -> None:
    """On the edge between two cells the right one, which begins there."""
    anchors = ShapeAnchors((3,), [[(16, 16)]])([(2, 4)], CPU)
    for left, column in ((0.0, 1), (-0.5, 0), (7.0, 1), (8.0, 2)):
        found = YOLO(0.0, center_only=True)(anchors, [boxes_of([[left, 0, left + 16, 8]])]).gt_index[0]
        assert found.nonzero().flatten().tolist() != []
        assert (found == 0).nonzero().flatten().tolist() == [column]
    everywhere = YOLO(0.0)(anchors, [boxes_of([[0, 0, 16, 8]])]).gt_index[0]
    assert (everywhere == 0).sum() > 1


def test_crowds_are_never_matched_and_ignore_what_lies_inside() -> None:
    anchors = ShapeAnchors((3,), [[(8, 8)]])([(1, 3)], CPU)
    targets = [boxes_of([[0, 0, 16, 8], [0, 0, 8, 8]], [True, False])]
    assert YOLO()(anchors, targets).gt_index.tolist() == [[1, IGNORED, BACKGROUND]]


def test_other_generators_will_do(random_targets: Any) -> None:
    """Three of RetinaNet's nine have one IoU only where they tie; each cell has at most one positive per object."""
    generator = torch.Generator().manual_seed(0)
    anchors = AnchorGenerator((3, 4))([(4, 4), (2, 2)], CPU)
    found = YOLO(0.2)(anchors, [random_targets(1, generator, crowd=0.0)]).gt_index[0]
    assert (found.view(-1, 9) >= 0).sum(1).max() == 1


def test_large_pictures_do_not_blur_the_cells() -> None:
    anchors = ShapeAnchors((3,), [[(955.3, 835.7), (10.1, 13.3), (33.3, 23.1)]])([(170, 260)], CPU)
    target = boxes_of([[2000.0, 1300, 2033, 1323]])
    found = YOLO(0.5, center_only=True)(anchors, [target]).gt_index[0].view(-1, 3)
    assert (found >= 0).sum() == 1
    assert found[163 * 260 + 252, 2] == 0  # floor(1311.5 / 8), floor(2016.5 / 8)


def test_broken_boxes_match_none_and_disturb_no_other() -> None:
    anchors = grid()
    nan = float("nan")
    usual = [[6.0, 6, 14, 14]]
    odd = [[7.0, 7, 7, 7], [9, 9, 3, 3], [nan] * 4, [500, 500, 510, 510]]
    for center_only in (False, True):
        plain = YOLO(center_only=center_only)(anchors, [boxes_of(usual)]).gt_index
        assert (plain == 0).any()
        assert torch.equal(YOLO(center_only=center_only)(anchors, [boxes_of(usual + odd)]).gt_index, plain)


def test_predictions_that_are_no_numbers_are_background() -> None:
    anchors = one_cell((16, 16), (4, 4))
    boxes = torch.full((1, 2, 4), float("nan"))
    found = YOLO(ignore_iou=0.0)(anchors, [boxes_of([[8, 8, 24, 24]])], Predictions(boxes[..., :1], boxes, boxes))
    assert found.gt_index.tolist() == [[0, BACKGROUND]]


def test_highest_iou_of_predictions(random_targets: Any) -> None:
    generator = torch.Generator().manual_seed(3)
    targets = [random_targets(count, generator) for count in (4, 0)]
    boxes = torch.cat([corner := torch.rand(2, 6, 2, generator=generator) * 20, corner + 9], -1)
    found = highest_iou(boxes, overlap.pad_targets(targets))
    for b in range(2):
        for a in range(6):
            rows = [box for box, crowd in zip(targets[b].boxes.tolist(), targets[b].ignore.tolist()) if not crowd]
            expected = max((float(iou(row, boxes[b, a].tolist())) for row in rows), default=0.0)
            assert float(found[b, a]) == pytest.approx(expected, abs=1e-6)


def test_nothing_at_all() -> None:
    nothing = torch.zeros(0, 4)
    none = Anchors(nothing, torch.zeros(0, dtype=torch.long), (0,))
    assert YOLO(center_only=True)(none, [boxes_of([[0, 0, 8, 8]])]).gt_index.shape == (1, 0)
    nobody = [boxes_of([]), boxes_of([])]
    assert (YOLO(center_only=True)(grid(), nobody).gt_index == BACKGROUND).all()
    empty = ShapeAnchors((2, 3), SHAPES)([(0, 4), (2, 2)], CPU)  # a level without cells
    assert (YOLO(center_only=True)(empty, [boxes_of([[0, 0, 16, 16]])]).gt_index >= 0).any()
    assert isinstance(YOLO(), Assigner)


def test_ignore_iou_needs_predictions() -> None:
    with pytest.raises(ValueError, match="Expected predictions for ignore_iou"):
        YOLO(ignore_iou=0.5)(grid(), [boxes_of([[0, 0, 8, 8]])])


@pytest.mark.parametrize(
    "arguments", [{"threshold": 1.0}, {"threshold": -0.1}, {"ignore_iou": 1.1}, {"ignore_ioa": 0.0}]
)
def test_refuses_impossible_thresholds(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="Expected"):
        YOLO(**arguments)  # type: ignore[arg-type]
