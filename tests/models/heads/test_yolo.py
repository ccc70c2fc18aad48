from __future__ import annotations

import pytest
import torch
from torch import nn

from detlab.models.heads.yolo import YOLOHead


def test_every_number_has_its_place() -> None:
    """Outputs that name themselves: level, row, column, anchor, value."""
    head = YOLOHead(1, num_classes=2, anchors_per_location=3, num_levels=2, convs=0)
    sizes = [(2, 3), (1, 2)]
    features = [torch.arange(h * w).reshape(1, 1, h, w).float() for h, w in sizes]
    with torch.no_grad():
        for level in range(2):
            for outputs, values in ((head.boxes, 5), (head.logits, 2)):
                output = outputs[level]
                assert isinstance(output, nn.Conv2d)
                assert output.bias is not None
                output.weight.zero_()
                output.weight[:, :, 1, 1] = 100.0  # of the cell itself
                output.bias.copy_(torch.arange(3 * values) + 1000 * level)
    logits, deltas, objectness = head(features)

    def expected(values: int) -> torch.Tensor:
        rows = [
            [1000 * level + 100 * cell + values * anchor + value for value in range(values)]
            for level, (h, w) in enumerate(sizes)
            for cell in range(h * w)
            for anchor in range(3)
        ]
        return torch.tensor(rows).float()

    assert torch.equal(deltas[0], expected(5)[:, :4])
    assert objectness is not None
    assert torch.equal(objectness[0], expected(5)[:, 4])
    assert torch.equal(logits[0], expected(2))


def test_training_begins_with_the_prior_and_all_classes_alike() -> None:
    head = YOLOHead(4, 5, 3, 2, convs=1, channels=8, prior=0.02)
    logits, deltas, objectness = head([torch.zeros(2, 4, 4, 4), torch.zeros(2, 4, 2, 2)])
    assert objectness is not None
    torch.testing.assert_close(objectness.sigmoid(), torch.full((2, 60), 0.02))
    assert not logits.any()
    assert not deltas.any()


def test_levels_share_the_towers_and_classes_have_their_own() -> None:
    head = YOLOHead(4, 5, 3, 2, convs=1, channels=8)
    a, b = torch.randn(2, 4, 4, 4), torch.randn(2, 4, 2, 2)
    head([a, b]).logits[:, :48].sum().backward()  # of the first level
    reached = {name.rpartition(".")[0] for name, p in head.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {"logits.0", "class_tower.0", "class_tower.1"}


@pytest.mark.parametrize("arguments", [(0, 1, 1, 1), (1, 0, 1, 1), (1, 1, 1, 1, -1)])
def test_bad_counts_are_refused(arguments: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="Expected positive"):
        YOLOHead(*arguments)
    with pytest.raises(ValueError, match="prior"):
        YOLOHead(1, 1, 1, 1, prior=1.0)
