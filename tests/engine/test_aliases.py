from __future__ import annotations

import pytest

from detlab.engine.aliases import modernize, modernize_target


@pytest.mark.parametrize(
    ("stored", "today"),
    [
        ("detlab.boxes.BoxCoder", "detlab.ops.boxes.BoxCoder"),
        ("detlab.pseudo.treatment.Treatment", "detlab.pseudo_labels.base.PseudoLabelCallback"),
        ("detlab.pseudo_labels.base.Treatment", "detlab.pseudo_labels.base.PseudoLabelCallback"),
        ("torch.optim.SGD", "torch.optim.SGD"),
        ("range", "range"),
    ],
)
def test_targets_of_earlier_code(stored: str, today: str) -> None:
    assert modernize_target(stored) == today
    assert modernize({"pseudo": [{"_target_": stored, "name": stored}]}) == {
        "pseudo": [{"_target_": today, "name": stored}]
    }
