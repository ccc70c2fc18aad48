"""What a target of zero does to aLRP Loss (Oksuz et al. 2020, Appendix G), on scores that are learned directly."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from detlab.losses.ranking import alrp_loss

Target = Literal["localization", "zero"]


class Course(NamedTuple):
    """Each ``[steps]``: the loss (both parts), Σ |∂L/∂s| over positives and over negatives, and the mean score of the
    positives above that of the negatives."""

    loss: NDArray[np.float64]
    positives: NDArray[np.float64]
    negatives: NDArray[np.float64]
    margin: NDArray[np.float64]


def descend(target: Target, steps: int = 150, rate: float = 1.5, seed: int = 0) -> Course:
    """Gradient descent on the scores of 20 positives, whose localization errors (0.1 … 0.9) stay, and 400 negatives."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(420, generator=generator, dtype=torch.float64)
    targets = (torch.arange(420) < 20).long()
    errors = torch.linspace(0.1, 0.9, 20, dtype=torch.float64)[torch.randperm(20, generator=generator)]
    course = []
    for _ in range(steps):
        scores = scores.detach().requires_grad_()
        classification, localization = alrp_loss(scores, targets, errors, target=target)
        (gradient,) = torch.autograd.grad(classification, scores)
        loss = float((classification + localization).detach())
        margin = float((scores[:20].mean() - scores[20:].mean()).detach())
        course.append((loss, float(gradient[:20].abs().sum()), float(gradient[20:].abs().sum()), margin))
        scores = scores - rate * gradient
    return Course(*np.array(course).T)
