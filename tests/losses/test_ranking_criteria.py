"""Criteria of ranking losses: what they hand to the losses, self-balancing, state."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from detlab.losses import self_balance as self_balance_module
from detlab.losses.alrp import ALRPCriterion
from detlab.losses.criterion import ClassificationLoss, Criterion
from detlab.losses.iou import IoULoss, iou_loss
from detlab.losses.quality import predicted_iou
from detlab.losses.rank_sort import RankSortCriterion
from detlab.losses.ranking import alrp_loss, ap_loss, ndcg_loss, rank_sort_loss
from detlab.losses.ranking_classification import APLoss, NDCGLoss, ranking_targets
from detlab.losses.regression import SmoothL1
from detlab.losses.self_balance import SelfBalance
from detlab.ops.boxes import BoxCoder
from detlab.structures import Matched


def literal_targets(matched: Matched) -> Tensor:
    targets = torch.zeros(matched.logits.shape, dtype=torch.int64)
    weights = matched.class_weights.expand_as(matched.logits)
    for b in range(targets.shape[0]):
        for a in range(targets.shape[1]):
            if matched.labels[b, a] >= 0:
                targets[b, a, matched.labels[b, a]] = 1
            for c in range(targets.shape[2]):
                if weights[b, a, c] == 0:
                    targets[b, a, c] = -1
    return targets


def partly_weighted(matched: Matched) -> Matched:
    """One ignored anchor, one class nobody looked for in the second image, one positive without weight."""
    weights = torch.ones(2, 7, 3)
    background = (matched.labels[0] < 0).nonzero()[0]
    weights[0, background] = 0
    weights[1, :, 2] = 0
    weights.flatten(0, 1)[matched.positive[1]] = 0
    return matched._replace(class_weights=weights)


@pytest.mark.parametrize("part", [False, True])
def test_targets(make_matched, part: bool) -> None:
    matched = partly_weighted(make_matched(5)) if part else make_matched(5)
    targets, kept = ranking_targets(matched)
    expected = literal_targets(matched)
    assert torch.equal(targets.long(), expected)
    assert int(kept.sum()) == int((expected == 1).sum())
    assert bool(kept.all()) != part


@pytest.mark.parametrize(
    ("loss", "function"), [(APLoss(), ap_loss), (APLoss(0.5, False), None), (NDCGLoss(), ndcg_loss)]
)
def test_in_the_criterion_the_mean_over_positives_remains(make_matched, loss: Any, function: Any) -> None:
    matched = make_matched(5)  # box weights that are not one
    assert isinstance(loss, ClassificationLoss)
    found = Criterion(loss, IoULoss())(matched)["classification"]
    targets = literal_targets(matched)
    expected = function(matched.logits, targets) if function else ap_loss(matched.logits, targets, 0.5, False)
    torch.testing.assert_close(found, expected)
    (slope,) = torch.autograd.grad(found, matched.logits)
    (wanted,) = torch.autograd.grad(expected, matched.logits)
    torch.testing.assert_close(slope, wanted)


@pytest.mark.parametrize("part", [False, True])
@pytest.mark.parametrize("kind", ["iou", "giou"])
@pytest.mark.parametrize("tau", [0.5, 0.25])
def test_alrp_takes_errors_of_the_positives_that_count(make_matched, part: bool, kind: Any, tau: float) -> None:
    matched = partly_weighted(make_matched(6)) if part else make_matched(6)
    found = ALRPCriterion(kind, self_balance=False, tau=tau)(matched)
    targets = literal_targets(matched)
    inside = targets.view(-1, 3)[matched.positive].max(1).values == 1
    errors = iou_loss(matched.boxes, matched.target_boxes, kind)[inside] / (1 - tau) / (2 if kind == "giou" else 1)
    expected = alrp_loss(matched.logits, targets, errors)
    assert list(found) == ["classification", "localization"]
    for value, wanted in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(value, wanted)


def test_self_balancing_scales_the_gradient_of_the_boxes_and_nothing_else(make_matched) -> None:
    matched = make_matched(5)
    plain, balanced = ALRPCriterion(self_balance=False)(matched), ALRPCriterion(initial=7.0)(matched)
    for name, value in plain.items():
        torch.testing.assert_close(balanced[name], value)
    (a,) = torch.autograd.grad(sum(plain.values()), matched.deltas, retain_graph=True)  # type: ignore[arg-type]
    (b,) = torch.autograd.grad(sum(balanced.values()), matched.deltas, retain_graph=True)  # type: ignore[arg-type]
    assert a.abs().sum() > 0
    torch.testing.assert_close(b, 7 * a)
    (a,) = torch.autograd.grad(sum(plain.values()), matched.logits)  # type: ignore[arg-type]
    (b,) = torch.autograd.grad(sum(balanced.values()), matched.logits)  # type: ignore[arg-type]
    torch.testing.assert_close(b, a)


def iteration(balance: SelfBalance, *seen: tuple[float, float]) -> list[float]:
    """The factors of the calls of one step of the optimizer, each with its L and L_loc."""
    factors = [float(balance(torch.tensor(total), torch.tensor(localization))) for total, localization in seen]
    balance.after_step()
    return factors


def test_the_factor_is_the_ratio_of_the_last_periods_means() -> None:
    """As the original code has it: the last iteration of a period takes the new factor already."""
    balance = SelfBalance(initial=50.0, period=3)
    seen = [(0.9, 0.1), (0.8, 0.3), (0.4, 0.1)]
    expected = sum(t for t, _ in seen) / sum(loc for _, loc in seen)
    assert [iteration(balance, values) for values in seen] == [[50], [50], [pytest.approx(expected)]]
    factors = [iteration(balance, (0.5, 0.25)) for _ in range(3)]
    assert factors == [[pytest.approx(expected)], [pytest.approx(expected)], [pytest.approx(2.0)]]
    for _ in range(3):  # a period without positives
        assert iteration(balance, (0.0, 0.0)) == [pytest.approx(2.0)]
    assert float(balance.weight) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("epoch", "iterations", "period"),
    [(3665, 366_500, 3665), (300, 1250, 12), (7, 1250, 7), (2, 60, 1), (440, 43_980, 439)],
)
def test_a_period_is_an_epoch_but_at_most_a_hundredth_of_the_training(epoch, iterations, period) -> None:
    balance = SelfBalance()
    balance.begin(epoch, iterations)
    assert balance.period == period
    given = SelfBalance(period=5)
    given.begin(epoch, iterations)
    assert given.period == 5


def test_iterations_are_steps_of_the_optimizer_however_many_calls_they_take() -> None:
    balance = SelfBalance(initial=5.0, period=2)
    assert iteration(balance, (0.9, 0.1), (0.6, 0.2)) == [5, 5]  # pictures with labels, and with pseudo-labels
    assert iteration(balance, (0.3, 0.3), (0.2, 0.2)) == [pytest.approx(1.8 / 0.6), pytest.approx(2.0 / 0.8)]
    assert iteration(balance, (0.6, 0.1), (0.6, 0.2)) == [pytest.approx(2.5)] * 2
    assert iteration(balance) == []  # whose pictures could not be read
    assert iteration(balance, (1.0, 0.1), (1.0, 0.1)) == [pytest.approx(4.0)] * 2
    assert iteration(balance, (1.0, 0.1)) == [pytest.approx(10.0)]


def test_the_state_survives_a_checkpoint_in_the_middle_of_a_period(make_matched) -> None:
    criterion = ALRPCriterion(period=2)
    criterion.begin(100, 1000)
    criterion(make_matched(5))
    criterion.after_step()
    again = ALRPCriterion(period=2)
    again.load_state_dict(criterion.state_dict())
    again.begin(100, 1000)
    for one in (criterion, again):
        one(make_matched(3))
        one.after_step()
    assert criterion.balance is not None
    assert again.balance is not None
    assert float(again.balance.weight) == float(criterion.balance.weight) != 50
    assert (again.balance.sums == 0).all()


def test_the_factor_is_equal_on_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    other = torch.tensor([0.5, 0.3])
    monkeypatch.setattr(self_balance_module, "reduce_mean", lambda value: (value + other) / 2)
    balance = SelfBalance(period=1)
    balance(torch.tensor(0.9), torch.tensor(0.1))
    assert float(balance.weight) == pytest.approx(1.4 / 0.4)


def test_evaluation_leaves_the_state_alone(make_matched) -> None:
    criterion = ALRPCriterion()
    assert criterion.balance is not None
    with torch.no_grad():
        criterion(make_matched(5))
    criterion.eval()(make_matched(5))
    assert (criterion.balance.sums == 0).all()


@pytest.mark.parametrize("kind", ["iou", "giou"])
def test_rank_and_sort(make_matched, kind: Any) -> None:
    matched = make_matched(6)
    found = RankSortCriterion(kind)(matched)
    targets = literal_targets(matched)
    expected = rank_sort_loss(matched.logits, targets, predicted_iou(matched))
    torch.testing.assert_close(found["classification"], expected)
    torch.testing.assert_close(found["localization"], expected)  # brought to its size
    scores = [
        1 / (1 + math.exp(-matched.logits.flatten(0, 1)[i, matched.labels.flatten()[i]].item()))
        for i in matched.positive.tolist()
    ]
    boxes = iou_loss(matched.boxes, matched.target_boxes, kind) * torch.tensor(scores)
    boxes = boxes.sum() / sum(scores)
    (slope,) = torch.autograd.grad(found["localization"], matched.deltas, retain_graph=True)
    (wanted,) = torch.autograd.grad(boxes, matched.deltas)
    torch.testing.assert_close(slope, wanted * (expected / boxes).item(), rtol=1e-5, atol=1e-7)
    assert torch.autograd.grad(found["localization"], matched.logits, allow_unused=True) == (None,)


CRITERIA = {
    "ap": lambda: Criterion(APLoss(), SmoothL1(BoxCoder())),
    "ndcg": lambda: Criterion(NDCGLoss(), SmoothL1(BoxCoder())),
    "alrp": ALRPCriterion,
    "alrp iou": lambda: ALRPCriterion("iou"),
    "rank and sort": RankSortCriterion,
}


@pytest.mark.parametrize("which", CRITERIA)
def test_without_positives_the_losses_are_zeros_that_reach_every_output(make_matched, which: str) -> None:
    matched = make_matched(0)
    all_deltas = torch.zeros(14, 4, requires_grad=True)
    deltas = all_deltas[matched.positive]
    matched = matched._replace(deltas=deltas, boxes=BoxCoder().decode(deltas, matched.anchor_boxes))
    losses = CRITERIA[which]()(matched)
    total = torch.stack(list(losses.values())).sum()
    assert total.item() == 0
    logits, boxes = torch.autograd.grad(total, [matched.logits, all_deltas])
    assert (logits == 0).all()
    assert (boxes == 0).all()


@pytest.mark.parametrize("which", CRITERIA)
def test_half_precision_logits(make_matched, which: str) -> None:
    matched = make_matched(6)
    half = matched._replace(logits=matched.logits.detach().bfloat16().requires_grad_())
    exact = matched._replace(logits=half.logits.detach().float())
    for name, value in CRITERIA[which]()(half).items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.detach(), CRITERIA[which]()(exact)[name].detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: APLoss(delta=0.0), "delta above 0"),
        (lambda: ALRPCriterion(kind="diou"), "kind iou or giou"),  # type: ignore[arg-type]
        (lambda: ALRPCriterion(delta=-1), "delta above 0"),
        (lambda: ALRPCriterion(tau=1.0), "tau in"),
        (lambda: ALRPCriterion(target="none"), "target localization or zero"),  # type: ignore[arg-type]
        (lambda: ALRPCriterion(initial=0), "initial and period above 0"),
        (lambda: ALRPCriterion(period=0), "initial and period above 0"),
        (lambda: RankSortCriterion(kind="ciou"), "kind iou or giou"),  # type: ignore[arg-type]
        (lambda: RankSortCriterion(delta=0), "delta above 0"),
    ],
)
def test_refuses_impossible_arguments(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("criterion", [ALRPCriterion(), RankSortCriterion()])
def test_refuses_a_quality_branch(make_matched, criterion: Any) -> None:
    with pytest.raises(ValueError, match="quality branch"):
        criterion(make_matched(2, quality=True))
