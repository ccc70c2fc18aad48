from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from detlab.losses.quality import Centerness, PredictedIoU, centerness


@pytest.mark.parametrize(
    ("center", "expected"),
    [
        ((4.0, 4.0), 1.0),
        ((2.0, 4.0), math.sqrt(1 / 3)),
        ((2.0, 7.0), math.sqrt(1 / 3 * 1 / 7)),
        ((0.0, 4.0), 0.0),
        ((-1.0, 4.0), 0.0),
        ((-1.0, 9.0), 0.0),
    ],
)
def test_centerness_by_hand(center: tuple[float, float], expected: float) -> None:
    """Centres in a box of 8 × 8."""
    x, y = center
    anchor = torch.tensor([[x - 1, y - 2, x + 1, y + 2]])
    assert centerness(anchor, torch.tensor([[0.0, 0, 8, 8]])).tolist() == pytest.approx([expected])


def test_centerness_in_a_box_without_area_is_finite() -> None:
    box = torch.tensor([[3.0, 3, 3, 3], [5, 5, 1, 1]])
    assert centerness(box, box).isfinite().all()


def test_iou_target_is_a_constant(make_matched) -> None:
    matched = make_matched(4, quality=True)
    same = matched._replace(boxes=matched.target_boxes)
    assert PredictedIoU().target(same).tolist() == pytest.approx([1] * 4)
    assert not PredictedIoU().target(matched).requires_grad


@pytest.mark.parametrize("loss", [Centerness(), PredictedIoU()])
def test_loss_is_cross_entropy_against_the_target(make_matched, loss) -> None:
    matched = make_matched(4, quality=True)
    expected = F.binary_cross_entropy_with_logits(matched.quality, loss.target(matched), reduction="none")
    torch.testing.assert_close(loss(matched), expected)
    assert loss(matched._replace(quality=matched.quality.half())).dtype == torch.float32


@pytest.mark.parametrize("loss", [Centerness(), PredictedIoU()])
def test_no_positives_backpropagate_and_no_branch_is_refused(make_matched, loss) -> None:
    empty = loss(make_matched(0, quality=True))
    assert empty.shape == (0,)
    empty.sum().backward()
    with pytest.raises(ValueError, match="quality branch"):
        loss(make_matched(2))
