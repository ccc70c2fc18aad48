"""Candidates, their order, and the rows they are put in, against loops."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from detlab.assigners.candidates import (
    Candidates,
    as_rows,
    cheapest_per_level,
    find_candidates,
    objects_per_image,
    pairs_as_matched,
    rank_within,
)
from detlab.ops.matching import gather
from detlab.structures import BACKGROUND, Assignment, Targets
from tests.assigners.scored_images import CLASSES, random_image, random_predictions


@pytest.fixture
def batch(grid_anchors):
    """Anchors, three images' targets (of 3, 0 and 5 objects), predictions, and the object of half of the anchors."""
    generator = torch.Generator().manual_seed(0)
    anchors = grid_anchors(32, (8, 16))
    targets = [random_image(count, generator, size=32, unannotated=0.3) for count in (3, 0, 5)]
    predictions = random_predictions(anchors, 3, generator)
    index = torch.full((3, len(anchors.boxes)), BACKGROUND)
    for row, target in enumerate(targets):
        if len(target):
            chosen = torch.rand(len(anchors.boxes), generator=generator) < 0.5
            index[row, chosen] = torch.randint(len(target), (int(chosen.sum()),), generator=generator)
    return anchors, targets, predictions, index


def test_candidates_are_all_given_anchors_in_order_of_object_level_and_cost(batch) -> None:
    anchors, targets, predictions, index = batch
    costs = (torch.randint(5, index.shape, generator=torch.Generator().manual_seed(1)) / 4).flatten()  # many are equal
    asked = []

    def cost(matched) -> Tensor:
        asked.append(matched)
        return costs[(index >= 0).flatten()]

    found = find_candidates(index, anchors, targets, predictions, cost)
    wanted = []
    for image in range(3):
        for place in range(index.shape[1]):
            if index[image, place] >= 0:
                anchor = image * index.shape[1] + place
                number = image * 5 + int(index[image, place])  # padded to the 5 objects of the third image
                wanted.append((number, int(anchors.level[place]), float(costs[anchor]), anchor))
    wanted.sort()
    rows = zip(*(field.tolist() for field in (found.object, found.level, found.cost, found.anchor)), strict=True)
    assert list(rows) == wanted
    assert len(asked) == 1
    assert found.cost.dtype == torch.float32
    keep = found.cost > 0.5
    assert all(torch.equal(a[keep], b) for a, b in zip(found, found.select(keep), strict=True))


def test_pairs_equal_what_the_losses_see_of_the_same_positives(batch) -> None:
    """Where every class is annotated and every box weighs 1, `gather` gathers the same."""
    anchors, targets, predictions, index = batch
    asked = []
    find_candidates(
        index, anchors, targets, predictions, lambda matched: asked.append(matched) or matched.logits[0, :, 0]
    )
    matched, seen = gather(anchors, targets, Assignment(index), predictions), asked[0]
    rows = matched.positive
    assert seen.positive.tolist() == list(range(len(rows)))
    for name in ("boxes", "deltas", "anchor_boxes", "target_boxes", "quality", "level"):
        assert torch.equal(getattr(seen, name), getattr(matched, name)), name
    assert torch.equal(seen.logits[0], matched.logits.flatten(0, 1)[rows])
    assert torch.equal(seen.labels[0], matched.labels.flatten()[rows])
    weights = matched.class_weights.expand_as(matched.logits).flatten(0, 1)[rows]
    assert torch.equal(seen.class_weights[0], weights)
    assert (seen.class_weights == 0).any()
    assert seen.class_targets is None
    assert (seen.box_weights == 1).all()


def test_weights_of_boxes_and_a_missing_quality_branch_do_not_matter(batch) -> None:
    """How much a pseudo-label weighs in the loss says nothing about which anchor suits it."""
    anchors, targets, predictions, _ = batch
    light = [Targets.of(t.boxes, t.labels, CLASSES, weights=torch.full((len(t),), 0.1)) for t in targets]
    anchor, image, number = torch.tensor([3, 50]), torch.tensor([0, 2]), torch.tensor([2, 4])
    seen = pairs_as_matched(anchor, image, number, anchors, light, predictions._replace(quality=None))
    assert seen.quality is None
    assert (seen.class_weights == 1).all()
    assert torch.equal(seen.target_boxes, torch.stack([targets[0].boxes[2], targets[2].boxes[4]]))
    assert torch.equal(seen.anchor_boxes, anchors.boxes[[3, 10]])  # 20 anchors per image


def test_no_candidates(batch) -> None:
    anchors, targets, predictions, index = batch
    nothing = torch.full_like(index, BACKGROUND)
    found = find_candidates(nothing, anchors, targets, predictions, lambda matched: matched.logits[0, :, 0])
    assert [len(field) for field in found] == [0] * 4
    costs, mask, place = as_rows(found, torch.zeros(0, dtype=torch.bool), 15, 4)
    assert costs.shape == mask.shape == (15, 4)
    assert not mask.any()
    assert len(place) == 0


def test_objects_per_image_is_at_least_one() -> None:
    empty, three = (random_image(count, torch.Generator().manual_seed(0)) for count in (0, 3))
    assert objects_per_image([empty]) == 1
    assert objects_per_image([empty, three]) == 3


@pytest.mark.parametrize(
    ("groups", "ranks"),
    [
        ([], []),
        ([7], [0]),
        ([1, 1, 1], [0, 1, 2]),
        ([0, 2, 3], [0, 0, 0]),
        ([0, 0, 4, 4, 4, 9, 10, 10], [0, 1, 0, 1, 2, 0, 0, 1]),
    ],
)
def test_rank_within_groups(groups: list[int], ranks: list[int]) -> None:
    assert rank_within(torch.tensor(groups, dtype=torch.long)).tolist() == ranks


def random_candidates(generator: torch.Generator, objects: int = 7, levels: int = 3, count: int = 60) -> Candidates:
    number = torch.randint(objects, (count,), generator=generator)
    number[number == 2] = 3  # one object without any
    level, cost = torch.randint(levels, (count,), generator=generator), torch.rand(count, generator=generator)
    rows = sorted(zip(number.tolist(), level.tolist(), cost.tolist(), strict=True))
    number, level, cost = (torch.tensor(column) for column in zip(*rows, strict=True))
    return Candidates(torch.randperm(count, generator=generator), number, level, cost)


@pytest.mark.parametrize("topk", [1, 2, 100])
def test_rows_hold_the_cheapest_of_every_level(topk: int) -> None:
    generator, objects, levels = torch.Generator().manual_seed(2), 7, 3
    for _ in range(10):
        candidates = random_candidates(generator)
        near = cheapest_per_level(candidates, topk, levels)
        costs, mask, place = as_rows(candidates, near, objects, topk * levels)
        assert costs.shape == mask.shape == (objects, topk * levels)
        assert place.shape == near.shape
        for number in range(objects):
            wanted = []
            for level in range(levels):
                here = (candidates.object == number) & (candidates.level == level)
                wanted += sorted(candidates.cost[here].tolist())[:topk]
            assert costs[number][mask[number]].tolist() == wanted
            assert mask[number].tolist() == [True] * len(wanted) + [False] * (topk * levels - len(wanted))
        assert torch.equal(costs.flatten()[place[near]], candidates.cost[near])
        assert ((place >= 0) & (place < mask.numel())).all()


def test_annotated_of_another_number_of_classes_is_refused(batch) -> None:
    anchors, targets, predictions, index = batch
    wrong = [Targets.of(t.boxes, t.labels, CLASSES + 1) for t in targets]
    with pytest.raises(ValueError, match=f"Expected `annotated` for {CLASSES} classes, got {CLASSES + 1}"):
        find_candidates(index, anchors, wrong, predictions, lambda matched: matched.logits[0, :, 0])
