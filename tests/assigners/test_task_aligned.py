"""Task-aligned assignment against loops in float64 that follow section 3.2 of the paper."""

from __future__ import annotations

import math

import pytest
import torch

from detlab.assigners import Assigner, overlap
from detlab.assigners.task_aligned import TaskAligned, largest
from detlab.structures import BACKGROUND, IGNORED, Anchors, Predictions, Targets

CLASSES = 3


def iou(a: list[float], b: list[float]) -> float:
    both = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1]) for box in (a, b)]
    return both / (sum(areas) - both) if sum(areas) > both else 0.0


def reference(
    anchors: Anchors, targets: Targets, logits: list[list[float]], boxes: list[list[float]], topk: int
) -> list[int]:
    rows = anchors.boxes.tolist()
    claims: dict[int, list[tuple[float, int]]] = {}
    for g, (x1, y1, x2, y2) in enumerate(targets.boxes.tolist()):
        if targets.ignore[g]:
            continue
        aligned = []
        for a, (ax1, ay1, ax2, ay2) in enumerate(rows):
            x, y = (ax1 + ax2) / 2, (ay1 + ay2) / 2
            score = 1 / (1 + math.exp(-logits[a][int(targets.labels[g])]))
            t = score * iou(boxes[a], [x1, y1, x2, y2]) ** 6
            if x1 < x < x2 and y1 < y < y2 and t > 0:
                aligned.append((t, -a))
        for t, negative in sorted(aligned, reverse=True)[:topk]:
            claims.setdefault(-negative, []).append((t, -g))
    found = []
    for a, (ax1, ay1, ax2, ay2) in enumerate(rows):
        index = -max(claims[a])[1] if a in claims else BACKGROUND
        if index == BACKGROUND:
            for g, (x1, y1, x2, y2) in enumerate(targets.boxes.tolist()):
                inside = max(0.0, min(x2, ax2) - max(x1, ax1)) * max(0.0, min(y2, ay2) - max(y1, ay1))
                if targets.ignore[g] and inside >= (ax2 - ax1) * (ay2 - ay1) / 2:
                    index = IGNORED
        found.append(index)
    return found


def predictions_of(anchors: Anchors, images: int, seed: int = 0) -> Predictions:
    """Random scores, and boxes near the anchors."""
    generator = torch.Generator().manual_seed(seed)
    count = len(anchors.boxes)
    logits = torch.randn(images, count, CLASSES, generator=generator)
    shift = torch.randn(images, count, 4, generator=generator)
    return Predictions(logits, anchors.boxes + shift, shift)


def labeled(target: Targets, seed: int) -> Targets:
    labels = torch.randint(CLASSES, (len(target),), generator=torch.Generator().manual_seed(seed))
    return Targets.of(target.boxes, labels, CLASSES, ignore=target.ignore)


def a_target(boxes: list[list[float]], ignore: list[bool] | None = None) -> Targets:
    return Targets.of(
        torch.tensor(boxes), torch.zeros(len(boxes)), CLASSES, ignore=None if ignore is None else torch.tensor(ignore)
    )


@pytest.mark.parametrize("topk", [1, 4, 13, 1000])
@pytest.mark.parametrize("pairs_at_once", [1, 2**24])
def test_equals_the_literal_reference(grid_anchors, random_targets, monkeypatch, topk, pairs_at_once) -> None:
    monkeypatch.setattr(overlap, "PAIRS_AT_ONCE", pairs_at_once)
    generator, anchors = torch.Generator().manual_seed(0), grid_anchors()
    targets = [labeled(random_targets(count, generator), count) for count in (0, 1, 3, 7, 2)]
    predictions = predictions_of(anchors, len(targets))
    found = TaskAligned(topk=topk)(anchors, targets, predictions).gt_index
    assert found.tolist() == [
        reference(anchors, target, logits.double().tolist(), boxes.double().tolist(), topk)
        for target, logits, boxes in zip(targets, predictions.logits, predictions.boxes)
    ]
    assert len(found.unique()) > 4


def four_anchors() -> Anchors:
    """Four anchors with centers at 1, 3, 5 and 7 on a line."""
    boxes = torch.tensor([[2.0 * i, 0, 2.0 * i + 2, 2] for i in range(4)])
    return Anchors(boxes, torch.zeros(4, dtype=torch.long), (4,))


def same_predictions(box: list[float], logit: float = 0.0) -> Predictions:
    return Predictions(torch.full((1, 4, CLASSES), logit), torch.tensor(box).expand(1, 4, 4), torch.zeros(1, 4, 4))


def test_equal_alignment_goes_to_the_lower_index_and_the_first_object() -> None:
    box = [0.0, -1, 8, 3]
    found = TaskAligned(topk=2)(four_anchors(), [a_target([box, box])], same_predictions(box)).gt_index
    assert found.tolist() == [[0, 0, BACKGROUND, BACKGROUND]]


def test_a_contested_anchor_goes_to_the_larger_alignment() -> None:
    exact, other = [0.0, -1, 8, 3], [0.0, -1, 8, 4]
    found = TaskAligned()(four_anchors(), [a_target([other, exact])], same_predictions(exact)).gt_index
    assert found.tolist() == [[1, 1, 1, 1]]


def test_the_score_counts_as_well_as_the_box() -> None:
    box = [0.0, -1, 8, 3]
    predictions = same_predictions(box)
    predictions.logits[0, 2, 0] = 1.0
    assert TaskAligned(topk=1)(four_anchors(), [a_target([box])], predictions).gt_index.tolist() == [[-1, -1, 0, -1]]
    found = TaskAligned(alpha=0.0, topk=1)(four_anchors(), [a_target([box])], predictions).gt_index
    assert found.tolist() == [[0, -1, -1, -1]]


def test_only_centers_inside_with_an_overlap_are_positive() -> None:
    box = [0.0, 0, 3, 2]  # the second center is on its border
    found = TaskAligned()(four_anchors(), [a_target([box])], same_predictions(box)).gt_index
    assert found.tolist() == [[0, BACKGROUND, BACKGROUND, BACKGROUND]]
    away = same_predictions([50.0, 50, 60, 60])
    assert (TaskAligned()(four_anchors(), [a_target([[0.0, -1, 8, 3]])], away).gt_index == BACKGROUND).all()
    tiny = [1.5, 0.5, 2.5, 1.5]  # between two centers
    assert (TaskAligned()(four_anchors(), [a_target([tiny])], same_predictions(tiny)).gt_index == BACKGROUND).all()


def test_all_ignored_no_objects_no_anchors_and_broken_predictions(grid_anchors) -> None:
    anchors = grid_anchors()
    predictions = predictions_of(anchors, 2)
    assert (
        TaskAligned()(anchors, 2 * [a_target([[-99.0, -99, 99, 99]], [True])], predictions).gt_index == IGNORED
    ).all()
    found = TaskAligned()(anchors, 2 * [a_target([])], predictions).gt_index
    assert (found == BACKGROUND).all()
    assert found.dtype == torch.int64
    none = Anchors(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), ())
    assert TaskAligned()(none, [a_target([[0.0, 0, 8, 8]])], predictions_of(none, 1)).gt_index.shape == (1, 0)
    broken = predictions._replace(boxes=torch.full_like(predictions.boxes, torch.nan))
    assert (TaskAligned()(anchors, 2 * [a_target([[0.0, 0, 32, 32]])], broken).gt_index == BACKGROUND).all()
    assert isinstance(TaskAligned(), Assigner)


def test_without_predictions_there_is_no_alignment(grid_anchors) -> None:
    with pytest.raises(ValueError, match="Expected predictions"):
        TaskAligned()(grid_anchors(), [a_target([])])


def test_largest_breaks_ties_by_index() -> None:
    values = torch.tensor([[3.0, 1, 1, 4, 1, 1], [0, 0, 0, 0, 0, 0]])
    assert largest(values, 3).tolist() == [[3, 0, 1], [0, 1, 2]]


@pytest.mark.parametrize("arguments", [{"alpha": -1.0}, {"beta": -1.0}, {"topk": 0}, {"ignore_iof_thr": 2.0}])
def test_impossible_arguments_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="Expected"):
        TaskAligned(**arguments)  # type: ignore[arg-type]
