"""YOLO's losses against a literal loop in float64."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from detlab.losses.iou import IoULoss
from detlab.losses.regression import SmoothL1
from detlab.losses.yolo import SquaredError, YOLOCriterion, class_losses
from detlab.ops.boxes import BoxCoder
from detlab.structures import Matched

B, A, C = 2, 7, 4


def make(
    positives: int = 5, pseudo: int = 0, masked: bool = False, seed: int = 0, dtype: Any = torch.float64
) -> Matched:
    """Leaves of the graph are the logits, the objectness and the deltas; pseudo-labels stand on anchors without an
    object, and a third of the others count less or not at all."""
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    order = torch.randperm(B * A, generator=generator)
    positive, extra = order[:positives].sort().values, order[positives : positives + pseudo]
    labels = torch.full((B * A,), -1)
    labels[positive] = torch.randint(C, (positives,), generator=generator)
    object_targets = torch.zeros(B * A, dtype=torch.float64)
    object_targets[positive] = 1.0
    object_weights = torch.randint(0, 3, (B * A,), generator=generator).double() / 2
    class_targets = None
    class_weights = torch.ones(B * A, C if masked else 1, dtype=torch.float64)
    box_weights = rand(positives) + 0.5
    object_weights[positive] = box_weights
    class_weights[positive] = box_weights[:, None]
    if masked:
        keep = torch.rand(B * A, C, generator=generator) > 0.4
        keep[positive, labels[positive]] = True
        class_weights *= keep
    if pseudo:
        class_targets = torch.zeros(B * A, C, dtype=torch.float64)
        class_targets[positive, labels[positive]] = 1.0
        class_targets[positive[:1]] = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)  # a soft box
        class_targets[extra] = rand(pseudo, C).softmax(1) * 0.9  # in all less than 1
        object_targets[extra] = rand(pseudo)
        object_weights[extra] = 1.0
        if pseudo > 1:
            class_weights[extra[0]] = 0.0
        class_targets = class_targets.view(B, A, C)
    corner = rand(positives, 2) * 20
    anchors = torch.cat([corner, corner + 4 + rand(positives, 2) * 8], 1)
    deltas = ((rand(B * A, 4) - 0.5) * 0.4).requires_grad_()
    center, size = (anchors[:, :2] + anchors[:, 2:]) / 2, anchors[:, 2:] - anchors[:, :2]
    middle, half = center + deltas[positive, :2] * size, deltas[positive, 2:].exp() * size / 2
    return Matched(
        logits=(rand(B, A, C) * 4 - 2).to(dtype).requires_grad_(),
        labels=labels.view(B, A),
        class_weights=class_weights.view(B, A, -1),
        class_targets=class_targets,
        positive=positive,
        boxes=torch.cat([middle - half, middle + half], 1),
        deltas=deltas[positive],
        anchor_boxes=anchors,
        target_boxes=anchors + (rand(positives, 4) - 0.5) * 2,
        quality=None,
        box_weights=box_weights,
        level=positive % A // 3,
        objectness=(rand(B, A) * 4 - 2).to(dtype).requires_grad_(),
        object_targets=object_targets.view(B, A),
        object_weights=object_weights.view(B, A),
    )


def reference(matched: Matched, classes: str, exclusive: bool, normalize: str, side: float) -> dict[str, float]:
    assert matched.objectness is not None
    assert matched.object_targets is not None
    assert matched.object_weights is not None
    total = {"objectness": 0.0, "classification": 0.0, "localization": 0.0}
    images = 0
    for b in range(B):
        images += bool((matched.object_weights[b] > 0).any())
        for a in range(A):
            p = 1 / (1 + math.exp(-matched.objectness[b, a].item()))
            t = matched.object_targets[b, a].item()
            bce = -(t * math.log(p) + (1 - t) * math.log(1 - p))  # Eq. 9, with the minus sign
            total["objectness"] += matched.object_weights[b, a].item() * bce
            weights = matched.class_weights[b, a].expand(C).tolist()
            if matched.class_targets is not None:
                targets = matched.class_targets[b, a].tolist()
            else:
                targets = [float(c == matched.labels[b, a].item()) for c in range(C)]
            if not any(targets):
                continue
            if exclusive:
                weights = [max(weights)] * C
            logits = matched.logits[b, a].tolist()
            if classes == "sigmoid":
                for w, t, x in zip(weights, targets, logits):
                    p = 1 / (1 + math.exp(-x))
                    for said, found in ((t, p), (1 - t, 1 - p)):
                        total["classification"] += w * said * math.log(said / found) if said else 0.0
                continue
            those = [c for c in range(C) if weights[c] > 0]
            mass = sum(targets[c] for c in those)
            if not mass:
                continue
            evidence = sum(math.exp(logits[c]) for c in those)
            for c in those:
                t, p = targets[c] / mass, math.exp(logits[c]) / evidence
                total["classification"] += max(weights) * t * math.log(t / p) if t else 0.0
    for box, true, weight in zip(matched.boxes.tolist(), matched.target_boxes.tolist(), matched.box_weights.tolist()):
        parts = [
            ((box[0] + box[2]) - (true[0] + true[2])) / 2,
            ((box[1] + box[3]) - (true[1] + true[3])) / 2,
            (box[2] - box[0]) - (true[2] - true[0]),
            (box[3] - box[1]) - (true[3] - true[1]),
        ]
        total["localization"] += weight * sum((part / side) ** 2 for part in parts)  # Eq. 8
    number = max(1.0, images if normalize == "images" else matched.box_weights.sum().item())
    return {name: value / number for name, value in total.items()}


@pytest.mark.parametrize("normalize", ["positives", "images"])
@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("classes", ["softmax", "sigmoid"])
@pytest.mark.parametrize(
    "content",
    [
        {},
        {"pseudo": 3},
        {"masked": True},
        {"pseudo": 4, "masked": True},
        {"positives": 0},
        {"positives": 1, "pseudo": 1},
    ],
)
def test_equals_the_loop(content: dict[str, Any], classes: Any, exclusive: bool, normalize: Any) -> None:
    for seed in range(3):
        matched = make(**content, seed=seed)
        criterion = YOLOCriterion(SquaredError(30.0), classes, exclusive, 0.5, 2.0, 3.0, normalize)
        found = criterion(matched)
        expected = reference(matched, classes, exclusive, normalize, 30.0)
        factors = {"objectness": 0.5, "classification": 2.0, "localization": 3.0}
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert found[name].item() == pytest.approx(factors[name] * value, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("classes", ["softmax", "sigmoid"])
def test_the_gradient_of_a_pseudo_label_is_that_of_soft_cross_entropy(classes: Any) -> None:
    matched = make(3, pseudo=4)
    YOLOCriterion(SquaredError(), classes)(matched)["classification"].backward()
    assert matched.class_targets is not None
    expected = torch.zeros(B * A, C, dtype=torch.float64)
    for row in range(B * A):
        targets = matched.class_targets.flatten(0, 1)[row]
        if targets.any():
            x = matched.logits.detach().flatten(0, 1)[row]
            p = x.softmax(0) if classes == "softmax" else x.sigmoid()
            t = targets / targets.sum() if classes == "softmax" else targets
            expected[row] = matched.class_weights.flatten(0, 1)[row] * (p - t) / matched.box_weights.sum()
    torch.testing.assert_close(matched.logits.grad.flatten(0, 1), expected)  # type: ignore[union-attr]
    background = (matched.labels < 0) & ~matched.class_targets.any(-1)
    assert not matched.logits.grad[background].any()  # type: ignore[index]


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("classes", ["softmax", "sigmoid"])
def test_weights_of_zero_give_no_gradient_at_all(classes: Any, exclusive: bool) -> None:
    matched = make(5, pseudo=4, masked=True)
    assert matched.object_weights is not None
    assert matched.objectness is not None
    silent = matched.class_weights == 0
    silent[:, ::2] = True  # half of the anchors in all their classes
    matched = matched._replace(class_weights=matched.class_weights * ~silent)
    torch.stack(list(YOLOCriterion(IoULoss(), classes, exclusive)(matched).values())).sum().backward()
    quiet = silent if not exclusive else silent.all(-1, keepdim=True).expand_as(silent)
    assert matched.logits.grad is not None
    assert torch.equal(matched.logits.grad[quiet], torch.zeros_like(matched.logits.grad[quiet]))
    assert matched.logits.grad[~quiet].any()
    nothing = matched.object_weights == 0
    assert matched.objectness.grad is not None
    assert nothing.any()
    assert not matched.objectness.grad[nothing].any()
    assert (matched.objectness.grad[~nothing] != 0).all()


def test_an_object_is_of_no_other_class_unless_told() -> None:
    """Whose annotators looked for the others or not."""
    matched = make(4, masked=True)
    rows = matched.class_weights.flatten(0, 1)[matched.positive]
    assert (rows == 0).any()
    whole = matched._replace(class_weights=matched.box_weights.new_ones(B * A, 1).view(B, A, 1))
    whole.class_weights.view(-1)[matched.positive] = matched.box_weights
    told, exclusive = YOLOCriterion(IoULoss(), exclusive=False), YOLOCriterion(IoULoss())
    assert exclusive(matched)["classification"] == exclusive(whole)["classification"]
    assert told(matched)["classification"] < told(whole)["classification"]


def test_without_positives_every_output_still_gets_a_gradient() -> None:
    matched = make(0)
    losses = YOLOCriterion(SmoothL1(BoxCoder()))(matched)
    assert losses["classification"] == losses["localization"] == 0
    leaves = (matched.logits, matched.objectness, matched.deltas)
    assert all(leaf is not None and leaf.requires_grad for leaf in leaves)
    torch.stack(list(losses.values())).sum().backward()
    assert matched.logits.grad is not None
    assert not matched.logits.grad.any()


def test_all_ignored() -> None:
    matched = make(0)
    assert matched.object_weights is not None
    matched = matched._replace(object_weights=matched.object_weights * 0, class_weights=matched.class_weights * 0)
    for normalize in ("positives", "images"):
        losses = YOLOCriterion(IoULoss(), normalize=normalize)(matched)  # type: ignore[arg-type]
        assert all(loss == 0 for loss in losses.values())


@pytest.mark.parametrize("classes", ["softmax", "sigmoid"])
def test_half_precision_is_computed_in_float32(classes: Any) -> None:
    half = make(5, pseudo=3, dtype=torch.float16)
    exact = half._replace(
        logits=half.logits.detach().double(),
        objectness=None if half.objectness is None else half.objectness.detach().double(),
    )
    criterion = YOLOCriterion(IoULoss(), classes)
    found, expected = criterion(half), criterion(exact)
    for name, loss in found.items():
        torch.testing.assert_close(loss.double(), expected[name], rtol=1e-5, atol=1e-5)
    torch.stack([loss.float() for loss in found.values()]).sum().backward()
    assert half.logits.grad is not None
    assert half.logits.grad.dtype == torch.float16
    assert half.logits.grad.isfinite().all()


@pytest.mark.parametrize("classes", ["softmax", "sigmoid"])
def test_extreme_logits_stay_finite(classes: Any) -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]], requires_grad=True)
    targets = torch.tensor([[0.0, 1.0, 0.0], [0.5, 0.0, 0.5]])
    losses = class_losses(logits, targets, torch.tensor([[1.0], [0.5]]), classes)
    assert losses.isfinite().all()
    losses.sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_squares_in_units_of_the_anchor_or_of_a_side() -> None:
    matched = make(2)._replace(
        boxes=torch.tensor([[0.0, 0, 10, 10], [3, 0, 13, 8]]),
        target_boxes=torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10]]),
        anchor_boxes=torch.tensor([[0.0, 0, 4, 4], [0, 0, 5, 20]]),
    )
    # Middle 3 to the right and 1 up, 2 lower: 9 + 1 + 4.
    torch.testing.assert_close(SquaredError(2.0)(matched), torch.tensor([0.0, 14 / 4]))
    torch.testing.assert_close(SquaredError()(matched), torch.tensor([0.0, 14 / 100]))


def test_any_localisation_loss_will_do() -> None:
    matched = make(3)
    for loss in (IoULoss("ciou"), SmoothL1(BoxCoder()), SquaredError()):
        found = YOLOCriterion(loss)(matched)["localization"]
        expected = (loss(matched) * matched.box_weights).sum() / matched.box_weights.sum()
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": "softmin"}, "softmax or sigmoid"),
        ({"normalize": "anchors"}, "positives or images"),
        ({"objectness_weight": -1.0}, "at least 0"),
    ],
)
def test_bad_options_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        YOLOCriterion(IoULoss(), **arguments)
    with pytest.raises(ValueError, match="side"):
        SquaredError(0.0)


def test_a_detector_without_objectness_is_refused() -> None:
    with pytest.raises(ValueError, match="Expected predictions with objectness"):
        YOLOCriterion(IoULoss())(make()._replace(objectness=None))
