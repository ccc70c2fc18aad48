"""oLRP against the definition, one class and one threshold at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from detlab.metrics.coco_match import match, ranked_classes
from detlab.metrics.olrp import OptimalLRP, lrp_curve, optimal_lrp

NAN = float("nan")


def by_definition(counted, positives, tau):
    """{score threshold: (LRP, Loc, FP, FN)}, each threshold on its own (Eq. 6)."""
    result = {}
    for s in sorted({one.score for one in counted}, reverse=True):
        kept = [one for one in counted if one.score >= s]
        hits = [one for one in kept if one.correct]
        n_tp, n_fp, n_fn = len(hits), len(kept) - len(hits), positives - len(hits)
        errors = [(1 - one.iou) / (1 - tau) for one in hits]
        lrp = (n_fp + n_fn + sum(errors)) / (n_fp + n_fn + n_tp)
        loc = sum(1 - one.iou for one in hits) / n_tp if n_tp else NAN
        result[s] = (lrp, loc, 1 - n_tp / (n_tp + n_fp), 1 - n_tp / positives)
    return result


def optimum(counted, positives, tau):
    if not positives:
        return NAN, NAN, NAN, NAN
    curve = [values for values in by_definition(counted, positives, tau).values() if not math.isnan(values[1])]
    return min(curve, key=lambda values: round(values[0], 12)) if curve else (1.0, NAN, NAN, 1.0)


@pytest.mark.parametrize("tau", [0.5, 0.75])
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_definition(seed, tau, random_columns, looped_class):
    found, truth = random_columns(seed)
    truth.ignore[truth.label == 3] = True  # a class of crowds alone
    found.box[found.label == 2] += 500  # a class without a true positive
    ranked = list(ranked_classes(found, truth, match(found, truth, tau)))
    result = optimal_lrp(ranked, 5, tau)
    expected = [optimum(*looped_class(found, truth, label, tau), tau) for label in range(5)]
    assert np.array(result).T == pytest.approx(np.array(expected), abs=1e-12, nan_ok=True)
    assert np.isnan(expected[3]).all()
    assert np.isnan(expected[4]).all()
    assert expected[2][0] == 1.0
    assert 0.3 < expected[0][0] < 0.95
    for one in ranked:
        curve = lrp_curve(one.score, one.correct, one.iou, one.positives, tau)
        wanted = by_definition(*looped_class(found, truth, one.label, tau), tau)
        assert curve.threshold.tolist() == list(wanted)
        assert np.array(curve[1:]).T == pytest.approx(np.array(list(wanted.values())), abs=1e-12, nan_ok=True)
    means = result.means()
    assert means["oLRP"] == pytest.approx(np.mean([expected[k][0] for k in range(3)]))
    assert means["oLRP_Loc"] == pytest.approx(np.mean([expected[k][1] for k in range(2)]))
    assert means["oLRP_FP"] == pytest.approx(np.mean([expected[k][2] for k in range(2)]))
    assert means["oLRP_FN"] == pytest.approx(np.mean([expected[k][3] for k in range(3)]))


def as_dicts(found, truth, images):
    """The inputs of torchmetrics' MeanAveragePrecision."""
    preds, target = [], []
    for image in range(images):
        mine, there = found.rows(found.image == image), truth.rows(truth.image == image)
        tensors = (torch.from_numpy(np.ascontiguousarray(column)) for column in (mine.box, mine.score, mine.label))
        preds.append(
            dict(zip(("boxes", "scores", "labels"), (t.float() if t.is_floating_point() else t for t in tensors)))
        )
        tensors = (torch.from_numpy(np.ascontiguousarray(c)) for c in (there.box, there.label, there.ignore))
        target.append(dict(zip(("boxes", "labels", "iscrowd"), tensors)))
    return preds, target


def test_the_metric_equals_the_functions(random_columns):
    found, truth = random_columns(5)
    ranked = ranked_classes(found, truth, match(found, truth))
    expected = optimal_lrp(ranked, 4)
    found.label[:], truth.label[:] = found.label * 10 + 7, truth.label * 10 + 7
    preds, target = as_dicts(found, truth, 25)
    metric = OptimalLRP()
    for first in range(0, 25, 7):
        metric.update(preds[first : first + 7], target[first : first + 7])
    values = metric.compute()
    assert values["classes"].tolist() == [7, 17, 27, 37]
    for name, column in zip(("oLRP", "oLRP_Loc", "oLRP_FP", "oLRP_FN"), expected):
        assert values[f"{name}_per_class"].numpy() == pytest.approx(column, abs=1e-6)
        assert float(values[name]) == pytest.approx(expected.means()[name], abs=1e-6)
    metric.reset()
    alone = [float(metric(preds[n : n + 1], target[n : n + 1])["oLRP"]) for n in range(25)]  # values of each image
    assert len(set(alone)) > 5
    again = metric.compute()
    assert all(torch.equal(again[name], value) for name, value in values.items())
    metric.reset()
    metric.update(preds[:1], target[:1])
    assert float(metric.compute()["oLRP"]) != float(values["oLRP"])


BOX = torch.tensor([[0.0, 0, 10, 10]])
NO_BOX = torch.zeros(0, 4)


def one_image(boxes, scores, objects, crowd=None):
    labels = torch.zeros(len(boxes), dtype=torch.int64)
    pred = {"boxes": torch.as_tensor(boxes), "scores": torch.tensor(scores), "labels": labels}
    target = {"boxes": torch.as_tensor(objects), "labels": torch.zeros(len(objects), dtype=torch.int64)}
    return [pred], [target | ({} if crowd is None else {"iscrowd": torch.tensor(crowd)})]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (one_image(BOX, [0.9], BOX), (0, 0, 0, 0)),
        (one_image(NO_BOX, [], BOX), (1, NAN, NAN, 1)),
        (one_image(BOX, [0.9], NO_BOX), (NAN, NAN, NAN, NAN)),
        (one_image(NO_BOX, [], NO_BOX), (NAN, NAN, NAN, NAN)),
        (one_image(BOX, [0.9], BOX, [1]), (NAN, NAN, NAN, NAN)),
        (one_image(BOX + 100, [0.9], BOX), (1, NAN, NAN, 1)),
        # half of the object: the worst true positive that there is, as bad as none, but with components
        (one_image([[0.0, 0, 10, 5]], [0.9], BOX), (1, 0.5, 0, 0)),
        # IoU 0.8, then a false positive that a threshold leaves out
        (one_image([[0.0, 0, 10, 8], [50, 50, 60, 60]], [0.9, 0.8], BOX), (0.4, 0.2, 0, 0)),
        # the false positive scores as high: no threshold parts them. (1 + 0.2 / 0.5) / 2
        (one_image([[0.0, 0, 10, 8], [50, 50, 60, 60]], [0.9, 0.9], BOX), (0.7, 0.2, 0.5, 0)),
        # two objects, one of them found. (1 + 0.4) / 2
        (one_image([[0.0, 0, 10, 8]], [0.9], [[0.0, 0, 10, 10], [50, 50, 60, 60]]), (0.7, 0.2, 0, 0.5)),
        # the second detection lies in a crowd and is none
        (
            one_image([[0.0, 0, 10, 8], [50, 50, 60, 60]], [0.8, 0.9], [[0.0, 0, 10, 10], [40, 40, 90, 90]], [0, 1]),
            (0.4, 0.2, 0, 0),
        ),
    ],
)  # fmt: skip
def test_by_hand(image, expected):
    metric = OptimalLRP()
    metric.update(*image)
    values = metric.compute()
    got = [float(values[name]) for name in ("oLRP", "oLRP_Loc", "oLRP_FP", "oLRP_FN")]
    assert got == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_empty_boxes_without_a_shape_and_no_images_at_all():
    metric = OptimalLRP()
    nothing = {"boxes": torch.tensor([]), "labels": torch.tensor([], dtype=torch.int64)}
    metric.update([nothing | {"scores": torch.tensor([])}], [nothing])
    metric.update([], [])
    values = metric.compute()
    assert math.isnan(values["oLRP"])
    assert values["classes"].shape == values["oLRP_per_class"].shape == (0,)


def test_refuses_bad_input():
    with pytest.raises(ValueError, match="0 < tau < 1, got 1"):
        OptimalLRP(tau=1.0)
    preds, target = one_image(BOX, [0.9], BOX)
    metric = OptimalLRP()
    with pytest.raises(ValueError, match="same length, but got 1 and 0"):
        metric.update(preds, [])
    with pytest.raises(ValueError, match="contain the `scores` key"):
        metric.update([{"boxes": BOX, "labels": torch.zeros(1)}], target)
    with pytest.raises(ValueError, match="iscrowd for each of 1 boxes of target 0, got 2"):
        metric.update(preds, [target[0] | {"iscrowd": torch.zeros(2)}])
