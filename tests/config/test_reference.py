"""`conf/README.md` says what there is."""

from __future__ import annotations

import pytest

from detlab.config.launch import CONFIG_DIR, groups
from detlab.config.reference import main, reference


def test_the_reference_is_up_to_date():
    text = (CONFIG_DIR / "README.md").read_text()
    assert text == reference(), "conf/README.md is not what `python -m detlab.config.reference` writes"


def test_the_reference_has_each_option_and_the_type_and_remark_of_a_key():
    text = reference()
    for group, options in groups().items():
        section = text.partition(f"\n### {group}\n")[2].partition("\n### ")[0]
        assert all(f"`{group}={option}`" in section or f"| `{option}` |" in section for option in options)
    assert "| `box_weighting` | `none` | `Literal['none', 'quality']` | or quality: " in text
    assert "| `resnet101_dcn` | `resnet101` | `deformable_stages: [3, 4, 5]` |" in text
    assert "| `focal_giou` | `dense`, `localization=giou` | `localization_weight: 2.0` |" in text


@pytest.mark.slow
def test_the_command_writes_the_reference(monkeypatch, tmp_path):
    monkeypatch.setattr("detlab.config.reference.WRITTEN", tmp_path / "README.md")
    main()
    assert (tmp_path / "README.md").read_text() == reference()
