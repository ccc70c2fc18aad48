"""Every config is what it was; and what is told where one is not."""

from __future__ import annotations

import json

import pytest

from detlab.engine.aliases import MOVED_MODULES
from tests.golden import configs, renames


@pytest.fixture(scope="module")
def recorded() -> dict[str, configs.Flat]:
    return configs.read()


@pytest.mark.slow
def test_every_config_is_as_recorded(recorded) -> None:
    told = configs.report(recorded, configs.compose_all(configs.entries()))
    assert not told, f"{told}\n\nIf that is meant: python -m tests.golden.record configs"


def test_a_change_is_told_by_key_once_for_all_entries() -> None:
    old = {"a": {"x.lr": 0.1, "x.gone": 1}, "b": {"x.lr": 0.1}, "c": {"x.lr": 0.3}, "d": {"x.lr": 0.1}}
    new = {"a": {"x.lr": 0.2, "x.new": [1]}, "b": {"x.lr": 0.2}, "c": {"x.lr": 0.3}, "e": {"x.lr": 0.1}}
    assert configs.report(old, new).splitlines() == [
        "no longer composed   [d]",
        "not recorded   [e]",
        "x.gone: 1 -> (absent)   [a]",
        "x.lr: 0.1 -> 0.2   [a, b]",
        "x.new: (absent) -> [1]   [a]",
    ]
    assert configs.report(old, old) == ""


def test_types_and_empty_mappings_count() -> None:
    flat = configs.flatten({"a": {"b": 1, "c": {}}, "d": [{"e": 1.0}]})
    assert flat == {"a.b": 1, "a.c": {}, "d": [{"e": 1.0}]}
    for key, other in (("a.b", 1.0), ("a.b", True), ("a.c", None), ("d", [{"e": 1}])):
        assert len(configs.differences(flat, flat | {key: other})) == 1


def test_folders_of_this_machine_do_not_count() -> None:
    place = str(configs.CONFIG_DIR.parent / "data")
    assert configs.flatten({"root": place, "of": [place]}) == {"root": "<detlab>/data", "of": ["<detlab>/data"]}


def test_recordings_are_read_under_new_names(monkeypatch) -> None:
    monkeypatch.setitem(MOVED_MODULES, "detlab.old", "detlab.new.room")
    monkeypatch.setitem(renames.KEYS, "pseudo", "pseudo_labels")
    old = {
        "pseudo.tau": 0.5, "pseudonym": 1, "a._target_": "detlab.old.area", "b._target_": "detlab.older.area",
        "d": [{"_target_": "detlab.old.area", "other": "detlab.old.area"}],
    }  # fmt: skip
    assert renames.rename(old) == {
        "pseudo_labels.tau": 0.5, "pseudonym": 1, "a._target_": "detlab.new.room.area",
        "b._target_": "detlab.older.area", "d": [{"_target_": "detlab.new.room.area", "other": "detlab.old.area"}],
    }  # fmt: skip


def test_what_is_written_is_read_and_a_damaged_file_is_refused(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(configs, "FILE", tmp_path / "configs.json")
    kept = {"p": {"a": 1, "b": 2}, "q": {"a": 1, "b": 3}, "r": {"a": 1, "c": None}}
    configs.write(kept, {"p": [], "q": ["p"], "r": ["p", "q"]})
    assert configs.read() == kept
    content = json.loads(configs.FILE.read_text())
    assert content["q"]["set"] == {"b": 3}
    content["q"]["set"]["b"] = 4
    configs.FILE.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="q does not have its hash"):
        configs.read()
