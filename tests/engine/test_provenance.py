from pathlib import Path

import pytest

from detlab.engine.provenance import learned_from, replaced


def test_models_are_told_by_what_their_checkpoints_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in {"a": b"one", "b": b"two"}.items():
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        (tmp_path / name / "checkpoints/last.ckpt").write_bytes(content)
    Path("h.ckpt").write_bytes(b"one")
    offline = {"pseudo": {"detectors": [{"run": "a"}, {"run": "b", "classes": ["car"]}, {"run": "gone"}]}}
    before = learned_from(offline)
    assert before.keys() == {"a", "b"}
    assert before["a"] == learned_from({"start_from": "h.ckpt"})["h.ckpt"] != before["b"]
    assert replaced(before, offline) == []
    Path("b/checkpoints/last.ckpt").write_bytes(b"three")
    assert replaced(before, offline) == ["b"]
    assert replaced(before, {"pseudo": {"detectors": [{"run": "a"}]}}) == []
    assert learned_from({"pseudo": {"classifier": "h.ckpt"}}).keys() == {"h.ckpt"}
    assert learned_from({"pseudo": None}) == learned_from({"pseudo": {"mode": "soft"}}) == {}
