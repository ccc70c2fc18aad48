"""Focal loss and cross-entropy, one sigmoid per class.

Focal loss: Lin et al. 2017, Eq. 5 (https://arxiv.org/abs/1708.02002). Cross-entropy is focal loss with γ = 0 and
no α, and both share one code path.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from detlab.structures import Matched

# Elements worked on together: on a CPU the temporaries of a chunk stay in the cache, on CUDA memory stays bounded.
_CHUNK = {"cpu": 2**16}
_CHUNK_ELSEWHERE = 2**25


def focal_elementwise(logits: Tensor, targets: Tensor, alpha: float | None = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal loss of every element: ``logits [...]``, ``targets [...]`` in [0, 1] (broadcast) → ``[...]``, float32.

    For a soft target t it is |t − p|^γ · BCE(p, t), with the class balance α · t + (1 − α) · (1 − t) (quality focal
    loss, Li et al. 2020, https://arxiv.org/abs/2006.04388, Eq. 2, which knows no α): focal loss where t is 0 or 1, and
    least at p = t, which t · FL(1) + (1 − t) · FL(0) is not.
    """
    logits = _at_least_float32(logits)
    targets = targets.to(logits.dtype)
    p = logits.sigmoid()
    entropy = targets * F.softplus(-logits) + (1 - targets) * F.softplus(logits)
    balance = 1.0 if alpha is None else alpha * targets + (1 - alpha) * (1 - targets)
    # |x|^γ has no finite derivative at 0 for γ < 1.
    distance = (targets - p).abs() if gamma >= 1 or gamma == 0 else (targets - p).abs().clamp(min=1e-12)
    return balance * distance.pow(gamma) * entropy


def cross_entropy_elementwise(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy of every element: ``logits [...]``, ``targets [...]`` in [0, 1] → ``[...]``, float32."""
    logits = _at_least_float32(logits)
    return F.softplus(logits) - logits * targets.to(logits.dtype)


def focal_loss(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor,
    class_targets: Tensor | None = None,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    own_weights: Tensor | None = None,
) -> Tensor:
    """Weighted sum of focal losses over anchors and classes, a scalar of float32 or wider.

    ``logits [B, A, C]``, ``labels [B, A]`` (−1: none), ``class_weights`` broadcastable to the logits.
    ``class_targets [B, A, C]`` replace the labels where given. ``own_weights [P]`` multiply the loss of each positive
    anchor (label ≥ 0, in the order of the flattened labels) at its own class.
    """
    if class_targets is None:
        return _FocalSum.apply(logits, labels, class_weights, alpha, gamma, own_weights)
    # Few rows have targets of their own: those one by one, the background in one pass.
    flat, flat_labels, width = logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), class_weights.shape[-1]
    weights = class_weights.expand(*logits.shape[:-1], width).reshape(-1, width)
    targets = class_targets.reshape(-1, logits.shape[-1])
    row = ((flat_labels >= 0) | (targets != 0).any(-1)).nonzero()[:, 0]
    own = weights[row].expand(-1, logits.shape[-1])
    if own_weights is not None:
        positive = (flat_labels[row] >= 0).nonzero()[:, 0]
        own = own.clone()
        own[positive, flat_labels[row][positive]] *= own_weights.to(own.dtype)
    background = weights.index_fill(0, row, 0.0)
    none = torch.full_like(flat_labels, -1)
    return (
        _FocalSum.apply(flat, none, background, alpha, gamma, None)
        + (focal_elementwise(flat[row], targets[row], alpha, gamma) * own).sum()
    )


@torch.no_grad()
def focal_of_positives(
    logits: Tensor, labels: Tensor, class_weights: Tensor, alpha: float | None = 0.25, gamma: float = 2.0
) -> Tensor:
    """What each of P anchors costs as a positive: focal loss summed over its classes ``[P]``, float32 or wider.

    ``logits [P, C]``, ``labels [P]``, ``class_weights [P, C]`` or ``[P, 1]``.
    """
    on, off = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
    dtype = _at_least_float32(logits[:0]).dtype
    total = logits.new_zeros(len(logits), dtype=dtype)
    step = max(1, _CHUNK.get(logits.device.type, _CHUNK_ELSEWHERE) // max(1, logits.shape[1]))
    for start in range(0, len(logits), step):
        rows = slice(start, start + step)
        weights, label = class_weights[rows].to(dtype), labels[rows, None]
        value = background_loss(logits[rows].to(dtype), gamma)[0].mul_(weights)
        own = logits[rows].gather(1, label).to(dtype)
        own_weight = weights if weights.shape[1] == 1 else weights.gather(1, label)
        own_value = on * own_weight * background_loss(-own, gamma)[0]
        total[rows] = off * value.scatter_(1, label, 0.0).sum(1) + own_value[:, 0]
    return total


class Focal(nn.Module):
    """Focal loss over anchors and classes: `Matched` → weighted sum, unnormalised.

    Raises ValueError for alpha outside [0, 1] (None: no class balance) or a negative gamma.
    """

    provides = frozenset({"soft_weights"})

    def __init__(self, alpha: float | None = 0.25, gamma: float = 2.0) -> None:
        super().__init__()
        if alpha is not None and not 0 <= alpha <= 1:
            raise ValueError(f"Expected alpha in [0, 1] or None, got {alpha}.")
        if gamma < 0:
            raise ValueError(f"Expected gamma of at least 0, got {gamma}.")
        self.alpha = alpha
        self.gamma = gamma

    def forward(self, matched: Matched, own_weights: Tensor | None = None) -> Tensor:
        return focal_loss(
            matched.logits,
            matched.labels,
            matched.class_weights,
            matched.class_targets,
            self.alpha,
            self.gamma,
            own_weights,
        )

    def elementwise(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss of every element: ``logits [...]``, ``targets [...]`` in [0, 1] → ``[...]``."""
        return focal_elementwise(logits, targets, self.alpha, self.gamma)

    def of_positives(self, logits: Tensor, labels: Tensor, class_weights: Tensor) -> Tensor:
        """See `focal_of_positives`."""
        return focal_of_positives(logits, labels, class_weights, self.alpha, self.gamma)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}, gamma={self.gamma}"


class CrossEntropy(Focal):
    """Binary cross-entropy over anchors and classes: `Matched` → weighted sum, unnormalised."""

    def __init__(self) -> None:
        super().__init__(alpha=None, gamma=0.0)


class _FocalSum(torch.autograd.Function):
    """The sum and its analytic gradient in one pass, without one-hot targets.

    Every element is taken as background, then the few (anchor, own class) elements are corrected. Autograd would
    keep half a dozen tensors of ``[B, A, C]`` alive; this keeps one, the gradient (in float32: times the loss scale
    it may be representable in float16 when it is not without).
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        labels: Tensor,
        class_weights: Tensor,
        alpha: float | None,
        gamma: float,
        own_weights: Tensor | None,
    ) -> Tensor:
        on, off = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
        flat = logits.reshape(-1, logits.shape[-1])
        dtype = _at_least_float32(flat[:0]).dtype
        width = class_weights.shape[-1]
        weights = class_weights.to(dtype).expand(*logits.shape[:-1], width).reshape(-1, width)
        slopes = torch.empty_like(flat, dtype=dtype) if ctx.needs_input_grad[0] else None
        total = torch.zeros((), dtype=dtype, device=flat.device)
        step = max(1, _CHUNK.get(flat.device.type, _CHUNK_ELSEWHERE) // max(1, flat.shape[1]))
        for start in range(0, len(flat), step):
            rows = slice(start, start + step)
            value, slope = background_loss(flat[rows].to(dtype), gamma)
            total += value.mul_(weights[rows]).sum() * off
            if slopes is not None:
                torch.mul(slope, weights[rows] * off, out=slopes[rows])

        row = (labels.reshape(-1) >= 0).nonzero()[:, 0]
        column = labels.reshape(-1)[row]
        own = flat[row, column].to(dtype)
        weight = weights[row, column if width > 1 else torch.zeros_like(column)]
        off_value, _ = background_loss(own, gamma)
        on_value, on_slope = background_loss(-own, gamma)
        on_weight = on * weight if own_weights is None else on * weight * own_weights
        total += (on_weight * on_value - off * weight * off_value).sum()
        if slopes is not None:
            slopes[row, column] = -(on_weight * on_slope).to(dtype)
            ctx.save_for_backward(slopes.view(logits.shape))
            ctx.dtype = logits.dtype
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        (slopes,) = ctx.saved_tensors
        return (slopes * grad_output).to(ctx.dtype), None, None, None, None, None


def background_loss(logits: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """Focal loss (without α) of elements whose target is 0, and its derivative.

    L = −p^γ · log(1 − p), dL/dx = p^γ · (γ (1 − p) · (−log(1 − p)) + p), p = sigmoid(x), −log(1 − p) = softplus(x).
    The loss for target 1 is L(−x), its derivative −L'(−x).
    """
    p = logits.sigmoid()
    value = F.softplus(logits)
    if gamma == 0:
        return value, p
    slope = torch.addcmul(p, (1 - p).mul_(gamma), value)
    modulation = p.square_() if gamma == 2 else p.pow_(gamma)
    return value.mul_(modulation), slope.mul_(modulation)


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
