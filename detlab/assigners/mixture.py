"""Mixtures of two Gaussians in one dimension, fitted for many sets of samples at once by EM (PAA, Eq. 4)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

# Iterations between looks at which sets are done: on CUDA a look makes the host wait, on the CPU it saves work.
_LOOK_EVERY = {"cpu": 1}
_LOOK_EVERY_ELSEWHERE = 10

# Keeps the weight of a component without samples above zero.
_EMPTY = 10 * torch.finfo(torch.float64).eps


class Mixture(NamedTuple):
    """Two Gaussians per set of samples, float64; component 0 is the one that began at the least sample.

    weights, means, variances ``[G, 2]``; log_likelihood ``[G, K]``: of each sample under the whole mixture, −∞ where
    there is none; responsibilities ``[G, K, 2]``: how probably a sample is of either component, 0 where there is none.
    """

    weights: Tensor
    means: Tensor
    variances: Tensor
    log_likelihood: Tensor
    responsibilities: Tensor


@torch.no_grad()
def fit_two_gaussians(
    values: Tensor,
    mask: Tensor,
    max_iterations: int = 100,
    tolerance: float = 1e-3,
    regularization: float = 1e-6,
) -> Mixture:
    """Fit a mixture to each row of ``values [G, K]``; the samples of a row are where ``mask [G, K]`` is true.

    The start is the paper's (section 4.1): means at the least and the greatest sample, precisions 1, weights ½. The
    iterations are those of scikit-learn's GaussianMixture: `regularization` is added to every variance, and a row
    stops, each by itself, after the first M-step before which the mean log-likelihood changed by less than
    `tolerance`, or after `max_iterations`. In float64 throughout, since float32 changes which samples end on which
    side. Rows without samples get two Gaussians at 0; K is at least 1.
    """
    x = values.double().masked_fill(~mask, 0.0)
    least = x.masked_fill(~mask, torch.inf).amin(1, keepdim=True)
    most = x.masked_fill(~mask, -torch.inf).amax(1, keepdim=True)
    some = mask.any(1)[:, None]
    means = torch.cat([least, most], 1).masked_fill(~some, 0.0)
    fitted = torch.stack([torch.full_like(means, 0.5), means, torch.ones_like(means)], 1)  # [G, 3, 2]
    _run(x, mask, fitted, max_iterations, tolerance, regularization)

    log_likelihood, low, high = _expect(x, fitted)
    return Mixture(
        weights=fitted[:, 0],
        means=fitted[:, 1],
        variances=fitted[:, 2],
        log_likelihood=log_likelihood.masked_fill(~mask, -torch.inf),
        responsibilities=torch.stack([low, high], -1) * mask[..., None],
    )


def _run(x: Tensor, mask: Tensor, fitted: Tensor, iterations: int, tolerance: float, regularization: float) -> None:
    """EM on ``fitted [G, 3, 2]`` (weights, means, variances) in place; rows that are done are set aside."""
    look_every = _LOOK_EVERY.get(x.device.type, _LOOK_EVERY_ELSEWHERE)
    rows = torch.arange(len(x), device=x.device)
    present, current = mask.double(), fitted.clone()
    previous = x.new_full((len(x),), -torch.inf)
    done = ~mask.any(1)
    for iteration in range(1, iterations + 1):
        log_likelihood, low, high = _expect(x, current)
        bound = (log_likelihood * present).sum(1) / present.sum(1)
        updated = _maximize(x, low * present, high * present, regularization)
        current = torch.where(done[:, None, None], current, updated)
        done = done | ((bound - previous).abs() < tolerance)
        previous = bound
        if iteration % look_every == 0 or iteration == iterations:
            fitted[rows] = current
            left = (~done).nonzero()[:, 0]
            if len(left) == 0:
                return
            if len(left) < len(rows):
                rows, x, present, current = rows[left], x[left], present[left], current[left]
                previous, done = previous[left], done[left]


def _expect(x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """E-step: log-likelihood of every sample ``[G, K]`` and the responsibilities of both components."""
    weights, means, variances = parameters.unbind(1)  # [G, 2]
    offset = weights.log() - 0.5 * (math.log(2 * math.pi) + variances.log())
    low = offset[:, :1] - 0.5 * (x - means[:, :1]).square() / variances[:, :1]
    high = offset[:, 1:] - 0.5 * (x - means[:, 1:]).square() / variances[:, 1:]
    gap = high - low
    return torch.maximum(low, high) + F.softplus(-gap.abs(), threshold=40.0), (-gap).sigmoid(), gap.sigmoid()


def _maximize(x: Tensor, low: Tensor, high: Tensor, regularization: float) -> Tensor:
    """M-step: ``[G, K]`` responsibilities of either component, 0 for what is no sample → parameters ``[G, 3, 2]``."""
    counts = torch.stack([low.sum(1), high.sum(1)], 1) + _EMPTY
    means = torch.stack([(low * x).sum(1), (high * x).sum(1)], 1) / counts
    spread = torch.stack([(low * (x - means[:, :1]).square()).sum(1), (high * (x - means[:, 1:]).square()).sum(1)], 1)
    return torch.stack([counts / counts.sum(1, keepdim=True), means, spread / counts + regularization], 1)
