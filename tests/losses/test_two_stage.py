"""The losses of two stages against loops, and that what nobody looked for is never pushed down."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from detlab.losses.regression import SmoothL1
from detlab.losses.two_stage import TwoStageCriterion, background_losses, region_losses
from detlab.models.detectors.faster_rcnn import SecondStage
from detlab.models.heads.box import BoxOutput
from detlab.models.roi_sampler import RoIs
from detlab.ops.boxes import BoxCoder
from detlab.ops.matching import gather_objects
from detlab.pseudo_labels.none import AllBackground
from detlab.structures import Anchors, Assignment, Matched, Predictions, Targets

CLASSES = 3


def literal(logits: Tensor, labels: Tensor, annotated: Tensor, rows: Tensor, weights: Tensor) -> list[float]:
    """Region by region, in float64 and probabilities."""
    result, number = [], 0
    for z, label, looked in zip(logits.double().tolist(), labels.tolist(), annotated.tolist(), strict=True):
        e = [math.exp(value) for value in z]
        if label < 0:
            result.append(-math.log((e[0] + sum(e[1 + c] for c in range(CLASSES) if not looked[c])) / sum(e)))
            continue
        q = rows[number].double().tolist()
        part = [c for c in range(CLASSES) if looked[c] or q[c] > 0]
        total = e[0] + sum(e[1 + c] for c in part)
        q = [value / sum(q) for value in q]
        divergence = sum(q[c] * (math.log(q[c]) - math.log(e[1 + c] / total)) for c in part if q[c] > 0)
        result.append(float(weights[number]) * divergence)
        number += 1
    return result


def regions(count: int = 40) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(count, 1 + CLASSES, generator=generator) * 4
    labels = torch.randint(-1, CLASSES, (count,), generator=generator)
    annotated = torch.rand(count, CLASSES, generator=generator) > 0.4
    own = labels[labels >= 0]
    rows = F.one_hot(own, CLASSES).float()
    rows[::2] = torch.rand(len(rows[::2]), CLASSES, generator=generator) * 0.5
    return logits, labels, annotated, rows, torch.rand(len(own), generator=generator)


def test_losses_of_regions_are_those_of_a_loop() -> None:
    given = regions()
    torch.testing.assert_close(region_losses(*given), torch.tensor(literal(*given)), rtol=1e-4, atol=1e-5)


def test_with_every_class_looked_for_it_is_cross_entropy() -> None:
    logits, labels, annotated, _, _ = regions()
    own = labels[labels >= 0]
    found = region_losses(logits, labels, annotated | True, F.one_hot(own, CLASSES).float(), torch.ones(len(own)))
    torch.testing.assert_close(found, F.cross_entropy(logits, labels + 1, reduction="none"), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 30.0, 1e4])
def test_what_nobody_looked_for_is_never_pushed_down_by_background(scale) -> None:
    logits, _, annotated, _, _ = regions(200)
    logits = (logits * scale).requires_grad_()
    loss = background_losses(logits, annotated)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert loss.isfinite().all()
    assert gradient.isfinite().all()
    assert (gradient[:, 1:][~annotated] <= 0).all()  # exactly: descent raises it or leaves it
    assert (gradient[:, 1:][annotated] >= 0).all()
    assert (gradient[:, 1:][annotated] > 0).any()


def test_background_where_nobody_looked_says_nothing() -> None:
    logits = torch.randn(5, 1 + CLASSES, requires_grad=True)
    loss = background_losses(logits, torch.zeros(5, CLASSES, dtype=torch.bool))
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert not loss.any()
    assert not gradient.any()


def test_an_object_gives_classes_that_nobody_looked_for_exactly_no_gradient() -> None:
    logits = torch.randn(2, 1 + CLASSES, requires_grad=True)
    annotated = torch.tensor([[True, False, True], [True, False, False]])
    rows = torch.tensor([[1.0, 0, 0], [0, 1, 0]])  # the second one's own class was not looked for, either
    loss = region_losses(logits, torch.tensor([0, 1]), annotated, rows, torch.ones(2))
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert gradient[0, 2] == 0
    assert gradient[1, 3] == 0
    assert (gradient[0, [0, 3]] > 0).all()  # background, and a class that was looked for
    assert (gradient[1, [0, 1]] > 0).all()
    assert (gradient[[0, 1], [1, 2]] < 0).all()


def test_no_region_at_all() -> None:
    logits = torch.zeros(0, 1 + CLASSES, requires_grad=True)
    none = torch.zeros(0, CLASSES)
    loss = region_losses(logits, torch.zeros(0, dtype=torch.int64), none > 0, none, torch.zeros(0))
    assert loss.shape == (0,)
    loss.sum().backward()


def first_stage(targets: list[Targets], gt_index: Tensor, logits: Tensor) -> Matched:
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 40, 40], [60, 60, 90, 90], [5, 5, 15, 15]])
    anchors = Anchors(boxes, torch.zeros(4, dtype=torch.int64), (4,))
    deltas = torch.full((len(targets), 4, 4), 0.5, requires_grad=True)
    predictions = Predictions(logits, boxes.expand(len(targets), 4, 4), deltas)
    return gather_objects(anchors, targets, Assignment(gt_index), predictions)


def second_stage() -> SecondStage:
    """Two regions of background, and no object."""
    none = torch.zeros(0, CLASSES)
    rois = RoIs(
        [torch.tensor([[0.0, 0, 9, 9], [9, 9, 20, 20]])], torch.tensor([-1, -1]),
        torch.ones(2, CLASSES, dtype=torch.bool), torch.zeros(0, dtype=torch.int64), torch.zeros(0), none,
        torch.zeros(0, 4), torch.zeros(0),
    )  # fmt: skip
    output = BoxOutput(torch.zeros(2, 1 + CLASSES, requires_grad=True), torch.zeros(2, CLASSES, 4))
    return SecondStage(output, rois, torch.zeros(0))


def targets_of(annotated: list[bool], weight: float = 1.0) -> Targets:
    return Targets.of(
        torch.tensor([[21.0, 20, 40, 41]]), torch.tensor([2]), CLASSES,
        weights=torch.tensor([weight]), annotated=torch.tensor(annotated),
    )  # fmt: skip


def test_background_counts_as_much_as_the_share_of_classes_that_were_looked_for() -> None:
    """Of three pictures the second's annotators left one class of three out, the third's all: its background gets
    exactly no gradient."""
    logits = torch.randn(3, 4, 1, requires_grad=True)
    index = torch.tensor([[-1, 0, -1, -2]] * 3)
    targets = [targets_of([True] * 3), targets_of([True, False, True], 0.5), targets_of([False] * 3)]
    losses = TwoStageCriterion(SmoothL1(BoxCoder()))(first_stage(targets, index, logits), second_stage())
    (gradient,) = torch.autograd.grad(losses["objectness"], logits)
    some, one = [True, True, True, False], [False, True, False, False]
    assert (gradient[..., 0] != 0).tolist() == [some, some, one]
    p = logits.detach().double().sigmoid()[..., 0]
    objects = p[0, 1].log() + 0.5 * p[1, 1].log() + p[2, 1].log()
    background = (1 - p[0, [0, 2]]).log().sum() + 2 / 3 * (1 - p[1, [0, 2]]).log().sum()
    assert float(losses["objectness"].detach()) == pytest.approx(float(-(objects + background) / 7), rel=1e-5)
    offsets = BoxCoder().encode(targets[0].boxes, torch.tensor([[20.0, 20, 40, 40]]))
    each = F.smooth_l1_loss(torch.full((1, 4), 0.5), offsets, reduction="sum", beta=1 / 9)
    assert float(losses["proposals"].detach()) == pytest.approx(2.5 * float(each) / 7, rel=1e-5)
    assert float(losses["classification"].detach()) == pytest.approx(math.log(4), rel=1e-5)


def test_without_a_treatment_of_missing_labels_it_is() -> None:
    """pseudo=none: what nobody labelled is background."""
    logits = torch.randn(1, 4, 1, requires_grad=True)
    targets = AllBackground().transform_targets([targets_of([True, False, True])])
    first = first_stage(targets, torch.tensor([[-1, 0, -1, -2]]), logits)
    losses = TwoStageCriterion(SmoothL1(BoxCoder()))(first, second_stage())
    (gradient,) = torch.autograd.grad(losses["objectness"], logits)
    assert (gradient[0, :, 0] != 0).tolist() == [True, True, True, False]


def test_no_more_than_so_many_anchors_are_drawn() -> None:
    logits = torch.randn(1, 4, 1, requires_grad=True)
    first = first_stage([targets_of([True] * 3)], torch.tensor([[0, 0, -1, -1]]), logits)
    losses = TwoStageCriterion(SmoothL1(BoxCoder()), samples=2)(first, second_stage())
    (gradient,) = torch.autograd.grad(losses["objectness"], logits)
    drawn = gradient[0, :, 0] != 0
    assert (drawn[:2].sum(), drawn[2:].sum()) == (1, 1)


def test_weights_of_the_terms() -> None:
    given = first_stage([targets_of([True] * 3)], torch.tensor([[0, -1, -1, -1]]), torch.zeros(1, 4, 1)), second_stage()
    plain = TwoStageCriterion(SmoothL1(BoxCoder()))(*given)
    weighted = TwoStageCriterion(SmoothL1(BoxCoder()), 256, 0.5, 2, 3, 4, 5)(*given)
    assert {name: float(value.detach()) for name, value in weighted.items()} == pytest.approx(
        {name: factor * float(plain[name].detach()) for name, factor in zip(plain, (2, 3, 4, 5), strict=True)}
    )
