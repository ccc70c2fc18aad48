"""The toy example of the aLRP paper (Oksuz et al. 2020, Fig. 1 and Appendix A): literal values, and the lab's losses.

Ten anchors in falling order of score, four of them positive, and five ground truths, one of which nobody finds. Three
regressors place the same IoUs on the positives in different order. H is the step function here.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from detlab.losses.classification import cross_entropy_elementwise
from detlab.losses.iou import iou_loss
from detlab.losses.ranking import alrp_loss, ap_loss
from detlab.losses.regression import smooth_l1

SCORES = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]
POSITIVE = [0, 2, 5, 9]  # a1, a3, a6, a10
IOUS = {"R1": [0.95, 0.8, 0.65, 0.5], "R2": [0.8, 0.65, 0.5, 0.95], "R3": [0.5, 0.65, 0.8, 0.95]}
GROUND_TRUTHS = 5

ALRP = {"R1": 0.5300, "R2": 0.6925, "R3": 0.8925}
# Table A.6: E_loc, its cumulative sum and the LRP error of each positive. Row a10 of C&R2 reads 0.40 and 2.50 there, a
# misprint for 0.10 and 2.20: R2 gives a10 an IoU of 0.95, and only so is the loss 0.69.
TABLE_A6 = {
    "R1": ([0.10, 0.40, 0.70, 1.00], [0.10, 0.50, 1.20, 2.20], [0.10, 0.50, 0.70, 0.82]),
    "R2": ([0.40, 0.70, 1.00, 0.10], [0.40, 1.10, 2.10, 2.20], [0.40, 0.70, 0.85, 0.82]),
    "R3": ([1.00, 0.70, 0.40, 0.10], [1.00, 1.70, 2.10, 2.20], [1.00, 0.90, 0.85, 0.82]),
}
# Table A.5: AP at the IoU thresholds 0.50, 0.65, 0.80 and 0.95; their mean is Fig. 1 (b).
TABLE_A5 = {
    "R1": ([0.51, 0.43, 0.33, 0.20], 0.37),
    "R2": ([0.51, 0.39, 0.24, 0.02], 0.29),
    "R3": ([0.51, 0.19, 0.08, 0.02], 0.20),
}


def ranks() -> list[tuple[int, int]]:
    """(number of negatives above, rank among all) of each positive, by counting (Eq. 3)."""
    found = []
    for i in POSITIVE:
        above = [j for j in range(10) if j != i and SCORES[j] >= SCORES[i]]
        found.append((sum(j not in POSITIVE for j in above), 1 + len(above)))
    return found


def literal_alrp(ious: list[float]) -> tuple[list[float], list[float], list[float]]:
    """E_loc, its sum over positives scored at least as high, and the LRP error of each positive (Eq. 10)."""
    errors = [(1 - iou) / (1 - 0.5) for iou in ious]
    sums = [sum(errors[k] for k in range(4) if SCORES[POSITIVE[k]] >= SCORES[i]) for i in POSITIVE]
    return errors, sums, [(above + total) / rank for (above, rank), total in zip(ranks(), sums)]


def literal_ap(ious: list[float], threshold: float) -> float:
    """Mean over recall 0.1, 0.2, …, 1.0 of the best precision at that recall or above (Appendix A.2)."""
    overlap = dict(zip(POSITIVE, ious))
    right, curve = 0, []
    for n in range(10):
        right += overlap.get(n, 0.0) >= threshold
        curve.append((right / GROUND_TRUTHS, right / (n + 1)))
    levels = [(k + 1) / 10 for k in range(10)]
    return float(np.mean([max((p for r, p in curve if r >= level - 1e-9), default=0.0) for level in levels]))


def boxes(ious: list[float]) -> torch.Tensor:
    """Boxes ``[4, 4]`` with these IoUs with the unit square, which differ in one side: by 0.05, 0.35 and 0.50 too short
    and, for 0.80, by 0.25 too long (Eqs. A.22–23)."""
    return torch.tensor([[0.0, 0.0, 1.0, 1.25 if iou == 0.8 else iou] for iou in ious], dtype=torch.float64)


def test_negatives_above_and_ranks_are_those_of_table_a6():
    assert ranks() == [(0, 1), (1, 3), (3, 6), (6, 10)]


@pytest.mark.parametrize("regressor", IOUS)
def test_every_step_of_alrp_is_that_of_table_a6(regressor):
    errors, sums, lrp = literal_alrp(IOUS[regressor])
    for ours, printed in zip((errors, sums, lrp), TABLE_A6[regressor]):
        assert ours == pytest.approx(printed, abs=0.005)
    assert np.mean(lrp) == pytest.approx(ALRP[regressor], abs=5e-5)


@pytest.mark.parametrize("regressor", IOUS)
def test_average_precision_is_that_of_table_a5(regressor):
    values = [literal_ap(IOUS[regressor], threshold) for threshold in (0.5, 0.65, 0.8, 0.95)]
    printed, mean = TABLE_A5[regressor]
    assert values == pytest.approx(printed, abs=0.005)
    assert np.mean(values) == pytest.approx(mean, abs=0.005)


def test_cross_entropy():
    probability = torch.tensor(SCORES, dtype=torch.float64).clamp(max=1 - 1e-12)
    targets = torch.zeros(10, dtype=torch.float64)
    targets[POSITIVE] = 1
    ours = cross_entropy_elementwise(probability.logit(), targets).mean()
    literal = [-math.log(s if n in POSITIVE else 1 - s) for n, s in enumerate(SCORES)]
    assert float(ours) == pytest.approx(sum(literal) / 10)
    assert float(ours) == pytest.approx(0.8732, abs=5e-5)


@pytest.mark.parametrize("regressor", IOUS)
def test_losses_of_each_box_by_itself_do_not_see_the_order(regressor):
    predicted, truth = boxes(IOUS[regressor]), boxes([1.0] * 4)
    assert float(smooth_l1(predicted, truth, beta=0).mean()) == pytest.approx(0.2875)
    assert float(iou_loss(predicted, truth, "iou").mean()) == pytest.approx(0.275)


def ranked() -> tuple[torch.Tensor, torch.Tensor]:
    """Logits ``[10]`` so far apart that the ramp of any half width below 100 is a step, and targets."""
    targets = torch.zeros(10, dtype=torch.int64)
    targets[POSITIVE] = 1
    return 1000 * torch.tensor(SCORES, dtype=torch.float64), targets


@pytest.mark.parametrize("delta", [1e-3, 1.0, 49.0])
@pytest.mark.parametrize("interpolate", [False, True])
def test_ap_loss(delta, interpolate):
    literal = 1 - np.mean([(rank - above) / rank for above, rank in ranks()])
    ours = ap_loss(*ranked(), delta=delta, interpolate=interpolate)
    assert literal == pytest.approx(0.3583, abs=5e-5)
    assert float(ours) == pytest.approx(literal)


@pytest.mark.parametrize("delta", [1e-3, 1.0, 49.0])
@pytest.mark.parametrize("regressor", IOUS)
def test_alrp_loss(regressor, delta):
    errors, sums, lrp = literal_alrp(IOUS[regressor])
    lost = iou_loss(boxes(IOUS[regressor]), boxes([1.0] * 4), "iou") / (1 - 0.5)
    classification, localization = alrp_loss(*ranked(), lost, delta=delta)
    assert float(classification) == pytest.approx(np.mean([above / rank for above, rank in ranks()]))
    assert float(localization) == pytest.approx(np.mean([total / rank for total, (_, rank) in zip(sums, ranks())]))
    assert float(classification + localization) == pytest.approx(np.mean(lrp))
    assert float(classification + localization) == pytest.approx(ALRP[regressor], abs=5e-5)
    assert lost.tolist() == pytest.approx(errors)


@pytest.mark.parametrize("regressor", IOUS)
def test_gradients_of_alrp_are_balanced_and_equal_a_loop(regressor):
    """Eq. 14 pair by pair, with the step for H."""
    errors, _, _ = literal_alrp(IOUS[regressor])
    expected = np.zeros(10)
    for i, (above, rank) in zip(POSITIVE, ranks()):
        others = sum(e for e, k in zip(errors, POSITIVE) if k != i and SCORES[k] >= SCORES[i])
        for j in range(10):
            if j not in POSITIVE and SCORES[j] >= SCORES[i]:
                update = -(above + others) / rank / above / 4
                expected[i] += update
                expected[j] -= update
    logits, targets = ranked()
    logits.requires_grad_()
    sum(alrp_loss(logits, targets, torch.tensor(errors, dtype=torch.float64), delta=1.0)).backward()
    assert logits.grad.tolist() == pytest.approx(expected)
    assert float(logits.grad.sum()) == pytest.approx(0)
