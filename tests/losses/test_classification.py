"""Focal loss and cross-entropy against the formula, autograd and torch's own binary cross-entropy."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from detlab.losses import classification
from detlab.losses.classification import CrossEntropy, Focal, cross_entropy_elementwise, focal_elementwise, focal_loss

cross_entropy_loss = partial(focal_loss, alpha=None, gamma=0.0)


def literal_focal(logit: float, target: float, alpha: float | None, gamma: float) -> float:
    """Eq. 5 of the paper, in plain floats."""
    p = 1 / (1 + math.exp(-logit))
    on, off = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
    return -on * target * (1 - p) ** gamma * math.log(p) - off * (1 - target) * p**gamma * math.log(1 - p)


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    return F.one_hot(labels + 1, num_classes + 1)[..., 1:]


def inputs(seed: int = 0, batch: int = 2, anchors: int = 9, num_classes: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, anchors, num_classes, generator=generator, dtype=torch.float64) * 4
    return logits.requires_grad_(), torch.randint(-1, num_classes, (batch, anchors), generator=generator)


@pytest.mark.parametrize("alpha", [0.25, None, 1.0])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 3.7])
def test_sum_equals_the_literal_formula(alpha: float | None, gamma: float) -> None:
    logits, labels = inputs()
    weights = torch.rand(2, 9, 4, dtype=torch.float64)
    expected = sum(
        float(weights[b, a, c]) * literal_focal(logits[b, a, c].item(), float(int(labels[b, a]) == c), alpha, gamma)
        for b in range(2)
        for a in range(9)
        for c in range(4)
    )
    assert focal_loss(logits, labels, weights, None, alpha, gamma).item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 3.7])
@pytest.mark.parametrize("width", [1, 4])
def test_analytic_gradient_is_the_numerical_one(gamma: float, width: int) -> None:
    logits, labels = inputs()
    weights = torch.rand(2, 9, width, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: focal_loss(x, labels, weights, None, 0.25, gamma), (logits,))


@pytest.mark.parametrize("chunk", [1, 8, 12])
def test_chunks_change_neither_value_nor_gradient(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    logits, labels = inputs()
    weights = torch.rand(2, 9, 1)
    loss = focal_loss(logits, labels, weights)
    (slope,) = torch.autograd.grad(loss, logits)
    monkeypatch.setitem(classification._CHUNK, "cpu", chunk)
    again = focal_loss(logits, labels, weights)
    torch.testing.assert_close(again, loss)
    torch.testing.assert_close(torch.autograd.grad(again, logits)[0], slope)


def test_elementwise_equals_torchvision() -> None:
    logits, labels = inputs()
    targets = one_hot(labels, 4).double()
    torch.testing.assert_close(focal_elementwise(logits, targets), sigmoid_focal_loss(logits, targets))
    torch.testing.assert_close(
        focal_elementwise(logits, targets, None, 1.5), sigmoid_focal_loss(logits, targets, -1, 1.5)
    )


def test_without_gamma_and_alpha_it_is_binary_cross_entropy() -> None:
    logits, labels = inputs()
    expected = F.binary_cross_entropy_with_logits(logits, one_hot(labels, 4).double(), reduction="sum")
    weights = torch.ones(2, 9, 1)
    torch.testing.assert_close(cross_entropy_loss(logits, labels, weights), expected)
    torch.testing.assert_close(cross_entropy_elementwise(logits, one_hot(labels, 4)).sum(), expected)


@pytest.mark.parametrize("loss", [focal_loss, cross_entropy_loss])
def test_hard_class_targets_equal_labels(loss: Callable[..., Tensor]) -> None:
    logits, labels = inputs()
    weights = torch.rand(2, 9, 4)
    hard = one_hot(labels, 4)
    expected = loss(logits, labels, weights)
    found = loss(logits, labels, weights, hard)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, logits)[0], torch.autograd.grad(expected, logits)[0])


@pytest.mark.parametrize("alpha", [0.25, None])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("target", [0.02, 0.3, 0.9])
def test_soft_targets_are_where_the_loss_is_least(alpha: float | None, gamma: float, target: float) -> None:
    def literal(logit: float) -> float:
        p = 1 / (1 + math.exp(-logit))
        balance = 1.0 if alpha is None else alpha * target + (1 - alpha) * (1 - target)
        return -balance * abs(target - p) ** gamma * (target * math.log(p) + (1 - target) * math.log(1 - p))

    logits = torch.linspace(-6, 6, 25, dtype=torch.float64)
    found = focal_elementwise(logits, torch.full_like(logits, target), alpha, gamma)
    assert found.tolist() == pytest.approx([literal(logit) for logit in logits.tolist()])
    best = torch.tensor(target, dtype=torch.float64).logit().requires_grad_()
    value = focal_elementwise(best, torch.tensor(target, dtype=torch.float64), alpha, gamma)
    assert float(value) <= float(found.min()) + 1e-9
    if gamma != 0.5:
        assert float(torch.autograd.grad(value, best)[0]) == pytest.approx(0, abs=1e-9)


def test_a_soft_target_of_cross_entropy() -> None:
    soft = cross_entropy_loss(
        torch.zeros(1, 1, 1), torch.zeros(1, 1).long(), torch.ones(1, 1, 1), torch.full((1, 1, 1), 0.5)
    )
    assert soft.item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("loss", [focal_loss, cross_entropy_loss])
@pytest.mark.parametrize("soft", [False, True])
def test_zero_weight_means_zero_gradient(loss: Callable[..., Tensor], soft: bool) -> None:
    logits, labels = inputs()
    weights = torch.ones(2, 9, 4)
    weights[..., 2] = 0
    weights[1] = 0
    targets = one_hot(labels, 4) if soft else None
    (slope,) = torch.autograd.grad(loss(logits, labels, weights, targets), logits)
    assert (slope[..., 2] == 0).all()
    assert (slope[1] == 0).all()
    assert (slope[0][..., [0, 1, 3]] != 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("loss", [focal_loss, cross_entropy_loss])
def test_half_precision_logits_are_summed_in_float32(dtype: torch.dtype, loss: Callable[..., Tensor]) -> None:
    logits, labels = inputs(anchors=500)
    half = logits.detach().to(dtype).requires_grad_()
    weights = torch.ones(2, 500, 1)
    expected = loss(half.detach().double(), labels, weights)
    found = loss(half, labels, weights)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=0)
    found.backward()
    assert half.grad is not None
    assert half.grad.dtype == dtype


def test_small_gradients_survive_float16_under_a_loss_scale() -> None:
    """At p = 0.001 the slope is 2e-9: nothing in float16, but not after scaling by 2 ** 16."""
    logits = torch.full((1, 1, 1), -6.9, dtype=torch.float16, requires_grad=True)
    loss = focal_loss(logits, torch.tensor([[-1]]), torch.ones(1, 1, 1))
    (loss * 2**16).backward()
    p = 1 / (1 + math.exp(6.9))
    assert logits.grad is not None
    assert logits.grad.item() == pytest.approx(0.75 * 3 * p**3 * 2**16, rel=0.01)


def test_autocast_stays_in_float32() -> None:
    logits, labels = inputs()
    weights = torch.ones(2, 9, 1)
    expected = focal_loss(logits.float(), labels, weights)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = focal_loss(logits.bfloat16().float(), labels, weights)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0)


@pytest.mark.parametrize("loss", [focal_loss, cross_entropy_loss, partial(focal_loss, gamma=0.5)])
def test_extreme_logits_stay_finite(loss: Callable[..., Tensor]) -> None:
    logits = torch.tensor([[[-1e4, 1e4, -200.0, 200.0]]], requires_grad=True)
    for label in (-1, 0, 1):
        value = loss(logits, torch.tensor([[label]]), torch.ones(1, 1, 1))
        (slope,) = torch.autograd.grad(value, logits)
        assert value.isfinite()
        assert slope.isfinite().all()


@pytest.mark.parametrize("shape", [(0, 5, 3), (2, 0, 3)])
def test_nothing_to_classify_backpropagates(shape: tuple[int, int, int]) -> None:
    logits = torch.zeros(shape, requires_grad=True)
    loss = focal_loss(logits, torch.full(shape[:2], -1), torch.ones(*shape[:2], 1))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None


def test_backward_twice_over_a_kept_graph() -> None:
    logits, labels = inputs()
    loss = focal_loss(logits, labels, torch.ones(2, 9, 1))
    first = torch.autograd.grad(loss, logits, retain_graph=True)[0].clone()
    torch.testing.assert_close(torch.autograd.grad(loss, logits)[0], first)


def test_without_gradient() -> None:
    logits, labels = inputs()
    with torch.no_grad():
        value = focal_loss(logits, labels, torch.ones(2, 9, 1))
    assert not value.requires_grad


@pytest.mark.parametrize("arguments", [{"alpha": -0.1}, {"alpha": 1.1}, {"gamma": -1.0}])
def test_refuses_impossible_arguments(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="Expected"):
        Focal(**arguments)


@pytest.mark.parametrize("loss", [Focal(0.3, 1.5), CrossEntropy()])
@pytest.mark.parametrize("soft", [False, True])
def test_modules_hand_on_what_matched_holds(make_matched, loss: Focal, soft: bool) -> None:
    matched = make_matched(4)
    if soft:
        matched = matched._replace(class_targets=torch.rand_like(matched.logits))
    expected = focal_loss(
        matched.logits, matched.labels, matched.class_weights, matched.class_targets, loss.alpha, loss.gamma
    )
    assert loss(matched).item() == expected.item() != 0
    targets = torch.rand_like(matched.logits)
    each = focal_elementwise(matched.logits, targets, loss.alpha, loss.gamma)
    assert torch.equal(loss.elementwise(matched.logits, targets), each)
