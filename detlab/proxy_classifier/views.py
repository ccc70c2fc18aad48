"""Several views of a crop, the mean of what is said of them (Eq. 1), and when the views to come need no look."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from detlab.proxy_classifier.cutting import flipped
from detlab.proxy_classifier.patch_drop import drop_patch


def mean_over_views(
    probabilities: Callable[[Tensor], Tensor],
    crops: Tensor,
    content: Tensor,
    drawn: Tensor,
    patches: int,
    flip: bool,
    threshold: float | None,
) -> Tensor:
    """Eq. 1 for crops ``[n, 3, h, w]`` with their content ``[n, 2]`` and patches to drop ``[copies, n]``.

    probabilities: crops → ``[n, K + 1]``, the last one reject. threshold: see `ProxyClassifier.classify`. Views that
    every crop is shown go through in one call, which costs as much as several crops. Returns float32 ``[n, K + 1]``.
    """
    views = 1 + len(drawn) + flip
    sure = at_least(views, threshold)
    total = probabilities(torch.cat([view(crops, content, drawn, patches, number) for number in range(sure)]))
    total = total.unflatten(0, (sure, len(crops))).sum(0)
    if threshold is None:
        return total / views
    seen = torch.full_like(total[:, :1], sure)
    left = torch.arange(len(crops), device=crops.device)
    for number in range(sure, views):
        left = left[still_open(total[left], views * threshold, views - number)]
        if not len(left):
            break
        total[left] += probabilities(view(crops[left], content[left], drawn[:, left], patches, number))
        seen[left] += 1
    return total / seen


def view(crops: Tensor, content: Tensor, drawn: Tensor, patches: int, number: int) -> Tensor:
    """View 0 is the crop as it is, then come the copies that lack a patch, then its mirror image."""
    if number == 0:
        return crops
    if number <= len(drawn):
        return drop_patch(crops, content, drawn[number - 1], patches)
    return flipped(crops, content)


def at_least(views: int, threshold: float | None) -> int:
    """So many of `views` every crop is shown: before, no answers, however sure, could settle anything (`still_open`).
    Without a threshold all."""
    if threshold is None:
        return views
    rejected = math.floor(views * (1 - threshold)) + 1  # by all of them: the rest does not reach the threshold
    outvoted = views // 2 + 1  # one output has more than the rest can give to another
    return min(rejected, outvoted)


def still_open(total: Tensor, least: float, to_come: int) -> Tensor:
    """Of sums ``total [n, K + 1]`` over views: whether `to_come` more could still change which class, if any, gets to
    `least` and is ahead of all other outputs. bool ``[n]``."""
    top, second = total.topk(2, dim=1).values.unbind(1)
    highest = total[:, :-1].amax(1)
    settled = (highest == top) & (top >= least) & (top - second >= to_come)
    return (highest + to_come >= top.clamp(min=least)) & ~settled
