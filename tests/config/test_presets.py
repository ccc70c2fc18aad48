"""Options that are another option with a few values of their own."""

from __future__ import annotations

import pytest
from hydra import compose, initialize_config_dir

from detlab.config.groups import groups, options_of
from detlab.config.launch import CONFIG_DIR
from detlab.config.presets import Preset, read_presets

COUNT = 140  # files below conf/ that are no rows of tables


def test_a_preset_is_what_its_file_would_be(tmp_path):
    (tmp_path / "presets.yaml").write_text(
        "backbone:\n  resnet101: {defaults: [resnet], name: resnet101}\n"
        "recipe@_global_:\n  second: first\nloss/localization:\n  1: {weight: 2}\n"
    )
    assert read_presets(tmp_path) == (
        Preset("backbone", "resnet101", None, {"defaults": ["resnet"], "name": "resnet101"}),
        Preset("recipe", "second", "_global_", {"defaults": ["first"]}),
        Preset("loss/localization", "1", None, {"weight": 2}),
    )


def test_a_preset_with_the_name_of_a_file_is_refused(tmp_path):
    (tmp_path / "backbone").mkdir()
    (tmp_path / "backbone/small.yaml").touch()
    (tmp_path / "presets.yaml").write_text("backbone:\n  small: resnet\n")
    with pytest.raises(ValueError, match=r"presets.yaml: backbone: small"):
        read_presets(tmp_path)


def test_presets_are_chosen_like_files_and_take_values():
    assert {"resnet", "resnet101", "small"} <= set(options_of("backbone")) == set(groups()["backbone"])
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        preset = compose("train", ["scale=paper", "backbone=resnet101_dcn", "backbone.weights=null"]).backbone
        spelled = compose(
            "train",
            ["scale=paper", "backbone=resnet", "backbone.name=resnet101", "backbone.deformable_stages=[3,4,5]",
             "backbone.weights=null"],
        ).backbone  # fmt: skip
    assert preset == spelled


def test_the_tree_is_a_table_of_contents():
    files = [path for path in CONFIG_DIR.rglob("*") if path.is_file() and CONFIG_DIR / "experiment" not in path.parents]
    assert len(files) <= COUNT
