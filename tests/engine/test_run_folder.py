import json
import os

import pytest

from detlab.data.files import write_atomic
from detlab.engine.run_folder import RunFolder, config_hash, differences, identity
from detlab.errors import UserError


def test_a_file_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    target = tmp_path / "sub" / "file.txt"
    write_atomic(target, "first")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(UserError, match="disk full"):
        write_atomic(target, "second")
    assert target.read_text() == "first"
    assert [p.name for p in target.parent.iterdir()] == ["file.txt"]


def test_a_folder_goes_from_new_over_unfinished_to_finished(tmp_path):
    folder = RunFolder(tmp_path / "run")
    config = {"name": "a", "schedule": {"lr": 0.1}}
    assert folder.open(config) == "new"
    assert folder.open(config) == "unfinished"
    write_atomic(folder.metrics, json.dumps({"status": "finished"}))
    assert folder.open(config) == "finished"


def test_a_changed_config_is_refused_with_the_difference(tmp_path):
    folder = RunFolder(tmp_path)
    folder.open({"name": "a", "schedule": {"lr": 0.1}})
    with pytest.raises(UserError, match=r"schedule\.lr: 0\.1 → 0\.2.*overwrite=true"):
        folder.open({"name": "a", "schedule": {"lr": 0.2}})
    folder.history.write_text("step\n")
    assert folder.open({"name": "a", "schedule": {"lr": 0.2}}, overwrite=True) == "new"
    assert not folder.history.exists()


def test_a_key_that_came_later_leaves_older_runs_what_they_were():
    older = {"pseudo": {"_target_": "Proxy", "beta": 0.0}}
    assert identity({"pseudo": {**older["pseudo"], "unsure": "background"}}) == identity(older)
    assert identity({"pseudo": {**older["pseudo"], "unsure": "spare"}}) != identity(older)


def test_where_a_run_lies_and_how_it_loads_is_not_its_identity():
    a = {"run_dir": "x", "overwrite": False, "loader": {"batch_size": 4, "num_workers": 0}, "seed": 1}
    b = {"run_dir": "y", "overwrite": True, "loader": {"batch_size": 4, "num_workers": 8}, "seed": 1}
    assert identity(a) == identity(b)
    assert config_hash(a) == config_hash(b)
    assert config_hash(a) != config_hash({**a, "seed": 2})


def test_differences_name_added_changed_and_removed_keys():
    assert differences({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"c": 5, "d": 3}, "e": 4}) == [
        "a: 1 → None", "b.c: 2 → 5", "e: None → 4",
    ]  # fmt: skip


@pytest.mark.parametrize("content", [None, ":\n  - [", "just text"])
def test_a_folder_without_a_readable_config_is_no_run(tmp_path, content):
    if content is not None:
        (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(UserError, match=str(tmp_path)):
        RunFolder(tmp_path).read_config()


def test_what_a_killed_process_left_half_written_goes_when_the_folder_is_opened_again(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.open({"a": 1})
    folder.release()
    (folder.checkpoints).mkdir()
    (folder.checkpoints / ".last.ckpt.abc.part").write_bytes(b"half")
    assert RunFolder(tmp_path / "run").open({"a": 1}) == "unfinished"
    assert list(folder.checkpoints.iterdir()) == []


def test_a_failure_is_kept_until_the_run_goes_on(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.open({"a": 1})
    folder.record_failure(ValueError("too hot"), command="detlab train")
    kept = json.loads(folder.failure.read_text())
    assert (kept["error"], kept["kind"], kept["command"]) == ("too hot", "ValueError", "detlab train")
    assert folder.state() == "unfinished"
    folder.open({"a": 1})
    assert not folder.failure.exists()


def test_what_a_killed_process_left_half_written_is_removed_files_and_folders(tmp_path):
    folder = RunFolder(tmp_path / "run")
    (folder.path / "labels" / ".coco.abc.part").mkdir(parents=True)
    (folder.path / "labels" / ".coco.abc.part" / "x.json").write_text("{}")
    (folder.path / ".metrics.json.xyz.part").write_text("{")
    folder.open({"name": "a"})
    folder.release()
    assert not list(folder.path.rglob("*.part"))
