from __future__ import annotations

import pytest
import torch

from detlab.losses import normalizer as module
from detlab.losses.classification import CrossEntropy, Focal
from detlab.losses.criterion import ClassificationLoss, Criterion, LocalizationLoss
from detlab.losses.iou import IoULoss
from detlab.losses.quality import Centerness, PredictedIoU
from detlab.losses.regression import SmoothL1
from detlab.ops.boxes import BoxCoder


def test_terms_are_weighted_sums_over_one_normaliser(make_matched) -> None:
    matched = make_matched(4, quality=True)
    focal, giou, quality = Focal(), IoULoss("giou"), PredictedIoU()
    found = Criterion(focal, giou, quality, 1.0, 2.0, 0.5)(matched)
    count = matched.box_weights.sum()
    assert count > 1
    classes = focal(matched)
    expected = {
        "classification": classes / count,
        "localization": 2 * (giou(matched) * matched.box_weights).sum() / count,
        "quality": 0.5 * (quality(matched) * matched.box_weights).sum() / count,
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


def test_normaliser_is_at_least_one(make_matched) -> None:
    matched = make_matched(1)._replace(box_weights=torch.tensor([0.25]))
    loss = IoULoss("iou")
    found = Criterion(CrossEntropy(), loss)(matched)["localization"]
    assert found.item() == pytest.approx(0.25 * loss(matched).item())


def test_normaliser_is_the_mean_over_processes(make_matched, monkeypatch: pytest.MonkeyPatch) -> None:
    matched = make_matched(4, quality=True)
    criterion = Criterion(Focal(), IoULoss(), Centerness(), box_weighting="quality")
    alone = criterion(matched)
    monkeypatch.setattr(module, "reduce_mean", lambda value: value * 2)  # the other process had three times as many
    for name, value in criterion(matched).items():
        torch.testing.assert_close(value, alone[name] / 2)


def test_quality_weighting_divides_by_its_own_sum(make_matched) -> None:
    matched = make_matched(4, quality=True)
    found = Criterion(Focal(), IoULoss(), Centerness(), box_weighting="quality")(matched)["localization"]
    weights = Centerness().target(matched) * matched.box_weights
    torch.testing.assert_close(found, (weights * IoULoss()(matched)).sum() / weights.sum())


def test_quality_weighting_of_one_poor_positive_is_not_held_down(make_matched) -> None:
    """The only weight cancels, however small."""
    matched = make_matched(1, quality=True)._replace(box_weights=torch.tensor([0.01]))
    found = Criterion(Focal(), IoULoss(), Centerness(), box_weighting="quality")(matched)["localization"]
    assert found.item() == pytest.approx(IoULoss()(matched).item(), rel=1e-4)


@pytest.mark.parametrize("localization", [IoULoss("ciou"), SmoothL1(BoxCoder())])
@pytest.mark.parametrize("box_weighting", ["none", "quality"])
def test_no_positives_still_reach_every_output(make_matched, localization, box_weighting) -> None:
    matched = make_matched(0, quality=True)
    criterion = Criterion(Focal(), localization, PredictedIoU(), box_weighting=box_weighting)
    losses = criterion(matched)
    assert losses["localization"].item() == 0
    assert losses["quality"].item() == 0
    assert losses["classification"].item() > 0
    for name in ("localization", "quality"):
        assert losses[name].requires_grad
    torch.stack(list(losses.values())).sum().backward()
    assert matched.logits.grad is not None
    assert (matched.logits.grad != 0).all()


def test_everything_ignored_costs_nothing(make_matched) -> None:
    matched = make_matched(0)._replace(class_weights=torch.zeros(2, 7, 1))
    losses = Criterion(Focal(), IoULoss())(matched)
    torch.stack(list(losses.values())).sum().backward()
    assert losses["classification"].item() == 0
    assert matched.logits.grad is not None
    assert (matched.logits.grad == 0).all()


def test_half_precision_gives_float32_losses(make_matched) -> None:
    matched = make_matched(4, quality=True)
    half = matched._replace(
        logits=matched.logits.bfloat16(), deltas=matched.deltas.bfloat16(), quality=matched.quality.bfloat16()
    )
    criterion = Criterion(Focal(), SmoothL1(BoxCoder()), PredictedIoU())
    for name, value in criterion(half).items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, criterion(matched)[name], rtol=0.05, atol=1e-3)


def test_parts_fit_their_protocols() -> None:
    assert isinstance(Focal(), ClassificationLoss)
    assert isinstance(IoULoss(), LocalizationLoss)


def test_branch_and_quality_loss_must_go_together(make_matched) -> None:
    with pytest.raises(ValueError, match="quality loss"):
        Criterion(Focal(), IoULoss())(make_matched(2, quality=True))
    with pytest.raises(ValueError, match="quality branch"):
        Criterion(Focal(), IoULoss(), Centerness())(make_matched(2))


@pytest.mark.parametrize(
    "arguments", [{"localization_weight": -1.0}, {"box_weighting": "quality"}, {"box_weighting": "iou"}]
)
def test_refuses_impossible_arguments(arguments) -> None:
    with pytest.raises(ValueError, match="Expected"):
        Criterion(Focal(), IoULoss(), **arguments)
