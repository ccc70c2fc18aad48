"""AnchorCost, −log of PAA's anchor score (Eq. 3), against its formula in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from detlab.losses.anchor_cost import AnchorCost
from detlab.losses.classification import CrossEntropy, Focal
from detlab.losses.iou import IoULoss
from detlab.losses.iou_balanced import IoUBalancedClassification, IoUBalancedLocalization
from detlab.losses.ranking_classification import APLoss
from detlab.losses.regression import SmoothL1
from detlab.ops.boxes import BoxCoder
from detlab.structures import Matched


def rows(matched: Matched) -> list[tuple[list[float], int, list[float]]]:
    """Logits, class and class weights of every positive."""
    logits, weights = matched.logits.flatten(0, 1), matched.class_weights.expand_as(matched.logits).flatten(0, 1)
    labels = matched.labels.flatten()
    return [
        (logits[i].double().tolist(), int(labels[i]), weights[i].double().tolist()) for i in matched.positive.tolist()
    ]


def literal_focal(matched: Matched, alpha: float | None, gamma: float) -> list[float]:
    """Σ over the classes of −α_t (1 − p_t)^γ log p_t."""
    result = []
    for logits, label, weights in rows(matched):
        total = 0.0
        for number, (logit, weight) in enumerate(zip(logits, weights, strict=True)):
            p = 1 / (1 + math.exp(-logit))
            p_t = p if number == label else 1 - p
            balance = 1.0 if alpha is None else alpha if number == label else 1 - alpha
            total -= weight * balance * (1 - p_t) ** gamma * math.log(p_t)
        result.append(total)
    return result


def literal_overlaps(matched: Matched) -> list[tuple[float, float]]:
    """IoU and GIoU of every positive."""
    result = []
    for a, b in zip(matched.boxes.double().tolist(), matched.target_boxes.double().tolist(), strict=True):
        both = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
        union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
        hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
        result.append((both / union, both / union - (hull - union) / hull))
    return result


def literal_smooth_l1(matched: Matched, weights: tuple[float, ...], beta: float) -> list[float]:
    result = []
    fields = (matched.deltas.double(), matched.anchor_boxes.double(), matched.target_boxes.double())
    for delta, a, t in zip(*(field.tolist() for field in fields), strict=True):
        width, height = a[2] - a[0], a[3] - a[1]
        true = (
            (t[0] + t[2] - a[0] - a[2]) / 2 / width,
            (t[1] + t[3] - a[1] - a[3]) / 2 / height,
            math.log((t[2] - t[0]) / width),
            math.log((t[3] - t[1]) / height),
        )
        total = 0.0
        for predicted, value, weight in zip(delta, true, weights, strict=True):
            gap = abs(predicted - weight * value)
            total += gap**2 / 2 / beta if gap < beta else gap - beta / 2
        result.append(total)
    return result


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (None, 2.0), (0.5, 1.5)])
@pytest.mark.parametrize("weight", [0.0, 1.0, 1.3])
def test_focal_and_giou(make_matched, alpha: float | None, gamma: float, weight: float) -> None:
    matched = make_matched(6, seed=1)
    found = AnchorCost(Focal(alpha, gamma), IoULoss("giou"), weight)(matched)
    wanted = [
        cost + weight * (1 - giou)
        for cost, (_, giou) in zip(literal_focal(matched, alpha, gamma), literal_overlaps(matched), strict=True)
    ]
    assert found.tolist() == pytest.approx(wanted, rel=1e-5)


def test_cross_entropy_and_iou_are_minus_the_log_of_the_score(make_matched) -> None:
    """Eq. 3 itself with −log IoU as the box loss: exp(−cost) is the score, a product."""

    class MinusLogIoU(nn.Module):
        def forward(self, matched: Matched) -> torch.Tensor:
            return -(1 - IoULoss("iou")(matched)).log()

    matched = make_matched(5, seed=2)
    found = (-AnchorCost(CrossEntropy(), MinusLogIoU(), 0.5)(matched)).exp()
    wanted = []
    for (logits, label, _), (iou, _) in zip(rows(matched), literal_overlaps(matched), strict=True):
        probabilities = [1 / (1 + math.exp(-logit)) for logit in logits]
        of_class = math.prod(p if number == label else 1 - p for number, p in enumerate(probabilities))
        wanted.append(of_class * iou**0.5)
    assert found.tolist() == pytest.approx(wanted, rel=1e-5)


def test_smooth_l1_needs_the_coder_and_the_offsets(make_matched) -> None:
    matched, weights = make_matched(5, seed=3), (10.0, 10.0, 5.0, 5.0)
    found = AnchorCost(CrossEntropy(), SmoothL1(BoxCoder(weights), beta=0.5))(matched)
    parts = zip(literal_focal(matched, None, 0.0), literal_smooth_l1(matched, weights, 0.5), strict=True)
    assert found.tolist() == pytest.approx([a + b for a, b in parts], rel=1e-4)


def test_box_loss_weighted_by_iou(make_matched) -> None:
    """IoU-balanced localisation, w_loc · IoU^λ · (1 − GIoU), as the cost of boxes."""
    matched = make_matched(5, seed=4)
    found = AnchorCost(Focal(), IoUBalancedLocalization(IoULoss("giou"), 1.5, weight=2.5))(matched)
    wanted = [
        cost + 2.5 * iou**1.5 * (1 - giou)
        for cost, (iou, giou) in zip(literal_focal(matched, 0.25, 2.0), literal_overlaps(matched), strict=True)
    ]
    assert found.tolist() == pytest.approx(wanted, rel=1e-5)


def test_classes_without_weight_cost_nothing(make_matched) -> None:
    matched = make_matched(4, seed=5)
    weights = (torch.rand(2, 7, 3, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    matched = matched._replace(class_weights=weights)
    found = AnchorCost(Focal(), IoULoss(), 0.0)(matched)
    assert found.tolist() == pytest.approx(literal_focal(matched, 0.25, 2.0), rel=1e-5, abs=1e-12)
    assert weights.flatten(0, 1)[matched.positive].sum() < 12


def test_each_anchor_as_if_it_were_the_only_one(make_matched) -> None:
    matched, cost = make_matched(6, seed=6), AnchorCost(Focal(), IoULoss())
    together = cost(matched)
    for i in range(6):
        fields = {
            name: getattr(matched, name)[i : i + 1]
            for name in ("positive", "boxes", "deltas", "anchor_boxes", "target_boxes", "box_weights", "level")
        }
        assert torch.equal(cost(matched._replace(**fields)), together[i : i + 1])


def test_box_weights_and_soft_targets_do_not_matter(make_matched) -> None:
    """A pseudo-label's weight is of the training loss; the class asked for is the box's own."""
    matched, cost = make_matched(4, seed=7), AnchorCost(Focal(), IoULoss())
    other = matched._replace(box_weights=matched.box_weights * 9, class_targets=torch.full((2, 7, 3), 1 / 3))
    assert torch.equal(cost(other), cost(matched))


def test_a_perfect_prediction_costs_nothing_and_a_hopeless_one_much(make_matched) -> None:
    matched, cost = make_matched(3, seed=8), AnchorCost(Focal(), IoULoss())
    logits = torch.full((14, 3), -30.0)
    logits[matched.positive, matched.labels.flatten()[matched.positive]] = 30.0
    perfect = matched._replace(logits=logits.view(2, 7, 3), boxes=matched.target_boxes)
    assert cost(perfect).tolist() == pytest.approx([0, 0, 0], abs=1e-6)
    hopeless = perfect._replace(logits=-perfect.logits, boxes=matched.target_boxes + 1e4)
    # 0.25 · 30 for the missed class, 0.75 · 30 for each of two wrong ones, almost 2 for a box far away
    assert cost(hopeless).tolist() == pytest.approx([54.5] * 3, abs=0.01)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_logits_are_scored_in_float32(make_matched, dtype: torch.dtype) -> None:
    matched = make_matched(5, seed=9)
    narrow = matched._replace(logits=matched.logits.detach().to(dtype))
    found = AnchorCost(Focal(), IoULoss(), 0.0)(narrow)
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx(literal_focal(narrow, 0.25, 2.0), rel=1e-5)


def test_no_positives_no_gradient(make_matched) -> None:
    cost = AnchorCost(Focal(), IoULoss())
    assert cost(make_matched(0)).shape == (0,)
    matched = make_matched(4)
    assert matched.logits.requires_grad
    assert not cost(matched).requires_grad


@pytest.mark.parametrize("loss", [APLoss(), IoUBalancedClassification(Focal())])
def test_refuses_losses_of_all_anchors_together(loss: nn.Module) -> None:
    with pytest.raises(ValueError, match=f"can be taken anchor by anchor .* got {type(loss).__name__}"):
        AnchorCost(loss, IoULoss())  # type: ignore[arg-type]


def test_refuses_a_negative_weight() -> None:
    with pytest.raises(ValueError, match="localization_weight of at least 0, got -1"):
        AnchorCost(Focal(), IoULoss(), -1.0)
    assert "1.3" in repr(AnchorCost(Focal(), IoULoss(), 1.3))
