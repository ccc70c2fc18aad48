from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detlab.errors import UserError
from detlab.reporting.pages.comparison import comparison_page
from detlab.reporting.pages.markdown import comparison_markdown
from detlab.reporting.study.definition import EXPERIMENTS
from detlab.reporting.study.record import MOST_POINTS, common, merged, own, record_text, table_of_record, thinned
from detlab.reporting.study.table import Table


@pytest.mark.slow
def test_a_record_is_shown_as_the_runs_were(sample: Table, tmp_path: Path) -> None:
    path = tmp_path / "anchors-mini.json"
    path.write_text(record_text(sample))
    again = table_of_record(path)
    assert comparison_markdown(again) == comparison_markdown(sample)
    assert json.loads(record_text(again)) == json.loads(record_text(sample))
    assert "data:image" not in comparison_page(replace(again, rows=[replace(r, runs=r.runs[1:]) for r in again.rows]))
    for row, other in zip(sample.rows, again.rows):
        assert [run.config for run in other.runs] == [run.config for run in row.runs]
        assert other.by_seed("AP/car") == row.by_seed("AP/car")
        curves = [run.history["val/AP"] for run in other.runs if run.state == "finished"]
        expected = [run.history["val/AP"] for run in row.runs if run.state == "finished"]
        for curve, whole in zip(curves, expected):
            assert curve[np.isfinite(curve)] == pytest.approx(whole[np.isfinite(whole)], rel=1e-4)


@pytest.mark.parametrize("name", ["proxy/results/table1-bccd_halves"])
def test_recorded_commands_say_how_long_shipped_runs_of_other_data_were(name: str) -> None:
    """No scale and no data config knows how long."""
    path = EXPERIMENTS / f"{name}.json"
    iterations = json.loads(path.read_text())["common_config"]["schedule"]["iterations"]
    table = table_of_record(path)
    for command in (table.command.splitlines()[-1], *(row.command for row in table.rows)):
        assert f"schedule.iterations={iterations}" in command.split()
    assert table.command in path.with_suffix(".md").read_text()


def test_what_a_number_needs_to_be_believed(sample: Table) -> None:
    content = json.loads(record_text(sample))
    assert content["command"] == sample.command
    assert content["commits"][0].endswith("+changes")
    assert content["common_config"]["schedule"] == {"iterations": 1800, "lr": 0.002}
    row = content["rows"][3]
    values = [run.result["test"]["AP"] * 100 for run in sample.rows[3].finished]
    assert row["means"]["AP"] == {"mean": pytest.approx(sum(values) / 2), "sd": pytest.approx(abs(values[0] - values[1]) / 2**0.5, abs=1e-6), "seeds": 2}  # fmt: skip # noqa: E501
    assert row["differences_from_first_row"] == [
        "detector.anchors.octaves: 3 → 1",
        "loss.localization._target_: 'SmoothL1' → 'GIoU'",
    ]
    run, _, failed = row["runs"]
    assert {"seed", "state", "command", "commit", "config_hash", "minutes", "images_per_second", "memory_gib", "test"} <= set(run)  # fmt: skip # noqa: E501
    assert "pr_curves" not in run
    assert (failed["state"], failed["error"]) == ("failed", sample.failures[0][1].error)
    assert content["seed_noise"]["AP"]["degrees_of_freedom"] == 9
    assert content["claims"][1]["decision"] == "fails"
    assert len(record_text(sample)) < 100_000


def test_folders_below_are_written_as_seen_from_here(sample: Table, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    content = json.loads(record_text(sample))
    assert content["rows"][0]["runs"][0]["folder"] == "runs/baselines/anchors/nine_l1/mini/seed=0"
    assert str(tmp_path) not in record_text(sample)


def test_thinned_curves() -> None:
    history = {"step": np.arange(1000.0), "train/loss": np.ones(1000), "val/AP": np.where(np.arange(1000) % 100 == 99, 0.5, np.nan)}  # fmt: skip # noqa: E501
    curve = thinned(history, "train/loss")
    assert len(curve["step"]) == len(curve["value"]) == MOST_POINTS
    assert (curve["step"][0], curve["step"][-1]) == (0, 999)
    assert curve["value"] == [1.0] * MOST_POINTS
    assert thinned(history, "val/AP") == {"step": list(range(99, 1000, 100)), "value": [0.5] * 10}
    assert thinned({}, "val/AP") == thinned(history, "val/AP50") == {"step": [], "value": []}


A: dict[str, Any] = {"x": {"y": 1, "z": [1, 2]}, "e": {}, "n": None, "only": 3}
B: dict[str, Any] = {"x": {"y": 2, "z": [1, 2]}, "e": {}, "n": None, "x.y": 5}
C: dict[str, Any] = {"x": 7, "e": {}, "n": 0}


@pytest.mark.parametrize(
    ("configs", "shared"),
    [([A, B], {"x": {"z": [1, 2]}, "e": {}, "n": None}), ([A, B, C], {"e": {}}), ([A], A), ([], {}), ([A, {}], {})],
)
def test_configs_come_apart_and_together(configs: list[dict[str, Any]], shared: dict[str, Any]) -> None:
    assert common(configs) == shared
    for config in configs:
        assert merged(shared, own(config, shared)) == config


def test_what_is_shared_is_written_once() -> None:
    assert own(A, common([A, B])) == {"x": {"y": 1}, "only": 3}
    assert own(A, A) == {}


@pytest.mark.parametrize("content", ["{}", '{"rows": [], "claims": 3}', '{"rows": [1], "claims": []}'])
def test_other_json_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(UserError, match=r"x\.json: this is no comparison that detlab report has recorded"):
        table_of_record(tmp_path / "x.json")
