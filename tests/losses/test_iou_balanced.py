"""IoU-balanced losses against Eqs. 1–6 written out in plain floats."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor

from detlab.config.launch import CONFIG_DIR
from detlab.losses.classification import CrossEntropy, Focal
from detlab.losses.criterion import ClassificationLoss, Criterion, LocalizationLoss
from detlab.losses.iou import IoULoss
from detlab.losses.iou_balanced import (
    W_LOC,
    IoUBalancedClassification,
    IoUBalancedLocalization,
    balanced_weights,
)
from detlab.losses.quality import predicted_iou
from detlab.losses.regression import SmoothL1
from detlab.ops.boxes import BoxCoder
from detlab.structures import Matched


def literal_iou(box: list[float], target: list[float]) -> float:
    width = min(box[2], target[2]) - max(box[0], target[0])
    height = min(box[3], target[3]) - max(box[1], target[1])
    inter = max(width, 0.0) * max(height, 0.0)
    areas = (box[2] - box[0]) * (box[3] - box[1]) + (target[2] - target[0]) * (target[3] - target[1])
    return inter / (areas - inter)


def ious(matched: Matched) -> list[float]:
    return [literal_iou(b, t) for b, t in zip(matched.boxes.tolist(), matched.target_boxes.tolist(), strict=True)]


def literal_cross_entropy(x: float) -> float:
    return math.log1p(math.exp(-x))


def literal_focal(x: float) -> float:
    p = 1 / (1 + math.exp(-x))
    return -0.25 * (1 - p) ** 2 * math.log(p)


@pytest.mark.parametrize("eta", [0.0, 1.0, 1.5])
@pytest.mark.parametrize(("base", "literal"), [(CrossEntropy(), literal_cross_entropy), (Focal(), literal_focal)])
@pytest.mark.parametrize("positives", [1, 2, 6])
def test_classification_follows_equations_1_and_2(make_matched, eta: float, base: Any, literal, positives: int) -> None:
    matched = make_matched(positives)
    own = [matched.logits.flatten(0, 1)[i, matched.labels.flatten()[i]].item() for i in matched.positive.tolist()]
    losses = [literal(x) for x in own]
    powers = [iou**eta for iou in ious(matched)]
    weights = [w * sum(losses) / sum(v * loss for v, loss in zip(powers, losses)) for w in powers]

    found = IoUBalancedClassification(base, eta)(matched)
    assert found.item() == pytest.approx(base(matched).item(), rel=1e-6)  # the sum stays as it was
    (slope,) = torch.autograd.grad(found, matched.logits)
    (plain,) = torch.autograd.grad(base(matched), matched.logits)
    expected = plain.clone()
    for weight, i in zip(weights, matched.positive.tolist(), strict=True):
        expected.flatten(0, 1)[i, matched.labels.flatten()[i]] *= weight  # w is a constant of the optimisation
    torch.testing.assert_close(slope, expected, rtol=1e-5, atol=1e-7)


def test_no_gradient_reaches_the_box_through_the_weights(make_matched) -> None:
    matched = make_matched(4)
    value = IoUBalancedClassification(Focal())(matched)
    assert torch.autograd.grad(value, matched.deltas, allow_unused=True) == (None,)


@pytest.mark.parametrize("lambda_", [0.5, 1.5])
@pytest.mark.parametrize("base", [SmoothL1(BoxCoder(), 0.111), IoULoss("giou"), IoULoss("iou")])
@pytest.mark.parametrize("normalize", [False, True])
def test_localization_follows_equations_3_to_6(make_matched, lambda_: float, base: Any, normalize: bool) -> None:
    matched = make_matched(5)
    plain = base(matched)
    powers = torch.tensor([iou**lambda_ for iou in ious(matched)])
    weight = None if normalize or isinstance(base, SmoothL1) else 1.3
    factor = torch.tensor(W_LOC[lambda_] if weight is None else weight)
    if normalize:
        counted = plain.detach() * matched.box_weights
        factor = counted.sum() / (powers * counted).sum()
    loss = IoUBalancedLocalization(base, lambda_, weight, normalize=normalize)
    torch.testing.assert_close(loss(matched), factor * powers * plain)
    (slope,) = torch.autograd.grad(loss(matched).sum(), matched.deltas, retain_graph=True)
    (expected,) = torch.autograd.grad((factor * powers * plain).sum(), matched.deltas)  # weights without gradient
    torch.testing.assert_close(slope, expected)


def test_the_normalised_form_keeps_the_criterions_sum(make_matched) -> None:
    matched = make_matched(5)
    base = SmoothL1(BoxCoder(), 0.111)
    plain = Criterion(Focal(), base)(matched)["localization"]
    found = Criterion(Focal(), IoUBalancedLocalization(base, normalize=True))(matched)["localization"]
    torch.testing.assert_close(found, plain)


def test_levels_are_normalised_by_themselves(make_matched) -> None:
    matched = make_matched(9)
    base = SmoothL1(BoxCoder(), 0.111)
    assert len(matched.level.unique()) > 1
    found = IoUBalancedLocalization(base, normalize=True, per_level=True)(matched) * matched.box_weights
    plain = base(matched) * matched.box_weights
    for level in matched.level.unique():
        of = matched.level == level
        torch.testing.assert_close(found[of].sum(), plain[of].sum())
    together = IoUBalancedLocalization(base, normalize=True)(matched) * matched.box_weights
    assert not torch.allclose(together, found)
    one = IoUBalancedClassification(Focal(), per_level=True)
    (a,) = torch.autograd.grad(one(matched), matched.logits)
    (b,) = torch.autograd.grad(IoUBalancedClassification(Focal())(matched), matched.logits)
    assert not torch.allclose(a, b)


@pytest.mark.parametrize("per_level", [False, True])
def test_edges(make_matched, per_level: bool) -> None:
    for matched in (make_matched(0), make_matched(3)._replace(target_boxes=torch.full((3, 4), 1e6) + torch.arange(4))):
        classification = IoUBalancedClassification(Focal(), per_level=per_level)
        localization = IoUBalancedLocalization(IoULoss(), normalize=True, per_level=per_level)
        losses = Criterion(classification, localization)(matched)
        assert losses["classification"].item() == pytest.approx(
            Criterion(Focal(), IoULoss())(matched)["classification"].item(), rel=1e-6
        )
        sum(losses.values()).backward()  # type: ignore[union-attr]
        assert matched.logits.grad is not None
        assert matched.logits.grad.isfinite().all()
    assert (IoUBalancedLocalization(IoULoss(), weight=2.0)(matched) == 0).all()  # nothing overlaps: w = w_loc · 0


def test_pseudo_label_weights_and_soft_targets_stay(make_matched) -> None:
    matched = make_matched(4)
    weights = torch.rand(2, 7, 3)
    matched = matched._replace(class_weights=weights, class_targets=torch.rand(2, 7, 3))
    (slope,) = torch.autograd.grad(IoUBalancedClassification(Focal())(matched), matched.logits)
    (plain,) = torch.autograd.grad(Focal()(matched), matched.logits)
    own = torch.zeros(14, 3, dtype=torch.bool)
    own[matched.positive, matched.labels.flatten()[matched.positive]] = True
    torch.testing.assert_close(slope.flatten(0, 1)[~own], plain.flatten(0, 1)[~own])
    iou = predicted_iou(matched)
    ratio = slope.flatten(0, 1)[own] / plain.flatten(0, 1)[own]
    order = matched.positive.argsort()
    torch.testing.assert_close(ratio / ratio[0], (iou[order] / iou[order][0]) ** 1.5)


def test_half_precision(make_matched) -> None:
    matched = make_matched(4)
    half = matched._replace(logits=matched.logits.detach().bfloat16().requires_grad_())
    full = matched._replace(logits=half.logits.detach().float().requires_grad_())
    found, expected = (IoUBalancedClassification(Focal())(m) for m in (half, full))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, half.logits)[0].float(), torch.autograd.grad(expected, full.logits)[0],
        rtol=0.02, atol=1e-4,
    )  # fmt: skip


def test_balanced_weights_keep_the_sum() -> None:
    losses, weights = torch.rand(50).double(), torch.rand(50).double()
    found = balanced_weights(losses, weights)
    assert (found * losses).sum().item() == pytest.approx(losses.sum().item())
    torch.testing.assert_close(found / weights, (found / weights)[:1].expand(50))
    empty: Tensor = balanced_weights(torch.zeros(0), torch.zeros(0), torch.zeros(0, dtype=torch.long))
    assert empty.shape == (0,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lambda_": -1.0}, "at least 0"),
        ({"lambda_": 0.7}, "detlab balance"),
        ({"weight": 2.0, "normalize": True}, "no weight"),
        ({"per_level": True}, "normalize=true"),
    ],
)
def test_refuses_impossible_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        IoUBalancedLocalization(IoULoss(), **arguments)
    with pytest.raises(ValueError, match="eta"):
        IoUBalancedClassification(Focal(), eta=-0.1)


def test_protocols() -> None:
    assert isinstance(IoUBalancedClassification(Focal()), ClassificationLoss)
    assert isinstance(IoUBalancedLocalization(IoULoss(), weight=2.0), LocalizationLoss)


def test_the_weights_of_smooth_l1_are_of_no_other_loss() -> None:
    with pytest.raises(ValueError, match=r"weight for lambda_=1\.5: .* smooth-L1, not of IoULoss"):
        IoUBalancedLocalization(IoULoss("giou"))
    with pytest.raises(ValueError, match="smooth-L1"):
        IoUBalancedLocalization(IoULoss("giou"), 0.7)
    assert IoUBalancedLocalization(IoULoss("giou"), weight=2.5).weight == 2.5
    assert IoUBalancedLocalization(IoULoss("giou"), 0.0).weight == 1.0  # no weighting at all
    assert IoUBalancedLocalization(IoULoss("giou"), normalize=True).weight == 1.0


def test_a_weight_may_be_given_by_lambda() -> None:
    base, known = SmoothL1(BoxCoder(), 0.111), {0.5: 1.6, 1.5: 4.0}
    assert IoUBalancedLocalization(base, 1.5, known).weight == 4.0
    with pytest.raises(ValueError, match=r"weight for lambda_=1: there is one for 0\.5, 1\.5 only"):
        IoUBalancedLocalization(base, 1.0, known)
    with pytest.raises(ValueError, match="at least 0, got -1"):
        IoUBalancedLocalization(base, 0.5, {0.5: -1.0})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("row", "scale", "expected"),
    [
        ("table2/loc", "mini", 4.032),
        ("table2/both", "mini_2x", 4.032),
        ("table4/lambda_0_5", "mini", 1.649),
        ("table4/lambda_1_0", "mini", 2.616),
        ("table4/lambda_1_8", "mini", 5.170),
        ("table4/lambda_1_8", "paper", 3.649),
        ("table2/loc", "small", 3.049),
        ("table4/lambda_1_5_normalized", "mini", 1.0),
    ],
)
def test_rows_take_the_weight_of_their_scale(row: str, scale: str, expected: float) -> None:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("train", [f"experiment=iou_balanced/{row}", f"scale={scale}"])
    loss = instantiate(cfg.loss.localization, _convert_="all")
    assert loss.weight == expected
    assert loss.normalize == row.endswith("normalized")


def test_known_weights_are_no_weight_beside_the_normalized_form() -> None:
    base = SmoothL1(BoxCoder(), 0.111)
    assert IoUBalancedLocalization(base, 1.5, {1.5: 4.0}, normalize=True).weight == 1.0
    with pytest.raises(ValueError, match="no weight with normalize"):
        IoUBalancedLocalization(base, 1.5, 4.0, normalize=True)
