"""The dashboard: each panel shows what runs log, none of it needs a network, and saving says what is wrong."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
import wandb_workspaces.workspaces as ws

from detlab.reporting.dashboard import build, save, specification

TABLE = "baselines/anchors"


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args: Any, **_: Any) -> None:
        raise AssertionError(f"reached for the network: {args}")

    for name in ("create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def no_key(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def panels(spec: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(section, the panel's config) of each panel."""
    for section in spec["section"]["panelBankConfig"]["sections"]:
        for panel in section["panels"]:
            yield section["name"], panel["config"]


@pytest.mark.slow
def test_every_panel_shows_what_a_run_logs(detlab, toy):
    data = ["data.train=4", "data.val=4", "data.test=8", "data.size=64", "loader.eval_batch_size=8"]
    name = [f"name={TABLE}/row", "logger.pictures=8"]
    result = detlab("train", *toy, *data, *name, "report=false", "schedule.iterations=2")
    assert result.status == 0, result.err
    folder = next(Path(f"runs/{TABLE}/row/mini/seed=0/wandb").glob("offline-run-*"))
    command = [Path(sys.executable).parent / "wandb", "leet", "inspect", "--json", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    history, summary, config = set[str](), dict[str, Any](), dict[str, Any]()
    for record in map(json.loads, done.stdout.splitlines()):
        if record["type"] == "history":  # a picture is printed as several fields: test/example_00._type, …
            history |= {name.removesuffix("._type") for name in record["history"]["item"]}
        summary |= record["summary"].get("update", {}) if record["type"] == "summary" else {}
        config |= record["run"]["config"]["update"] if record["type"] == "run" else {}

    spec = specification(build("", "detlab", TABLE, "mini"))["spec"]
    shown = 0
    for section, panel in panels(spec):
        if section == "Pseudo-labels":
            assert panel["metricRegex"].startswith("^pseudo/")
            assert not panel["metrics"]
            continue
        known = summary.keys() if section in ("Test", "Cost") else history
        names = [*panel.get("metrics", []), *panel.get("mediaKeys", [])]
        assert set(names) <= known, section
        if "metricRegex" in panel:
            assert any(re.search(panel["metricRegex"], name) for name in known), panel
        assert panel.get("xAxis", "trainer/global_step") in history
        assert panel.get("groupBy", "row.value").removesuffix(".value") in config
        shown += len(names)
    assert shown > 20
    runs = spec["section"]["runSets"][0]
    wanted = {entry["key"]["name"]: entry["value"] for entry in runs["filters"]["filters"]}
    assert wanted == {key: config[key] for key in ("table", "setting")}
    for column in runs["runFeed"]["columnOrder"][1:]:
        place, _, name = column.partition(":")
        assert name in {"summary": summary, "config": config}[place], column


@pytest.mark.usefixtures("no_network")
def test_it_is_built_and_written_without_a_network(detlab):
    result = detlab("dashboard", "output=dashboard.json", "project=mine", "setting=mini")
    assert result.status == 0, result.err
    assert "dashboard.json holds the dashboard 'detlab · mini'" in result.out
    written = json.loads(Path("dashboard.json").read_text())
    assert (written["project"], written["name"]) == ("mine", "detlab · mini")
    assert {section for section, _ in panels(written["spec"])} >= {"Learning curves", "Pseudo-labels", "Pictures"}
    assert {panel["groupBy"] for _, panel in panels(written["spec"]) if "groupBy" in panel} == {"name.value"}


@pytest.mark.usefixtures("no_network")
def test_what_was_written_reads_back_as_the_same_dashboard():
    """The library's reading direction, which W&B's answers go through, is independent of the one that writes."""
    first = build("me", "detlab", TABLE)._to_model()
    again = ws.Workspace._from_model(type(first).model_validate_json(first.model_dump_json(by_alias=True)))
    assert again.runset_settings.filters == f"Config(\"table\") == '{TABLE}'"
    assert [len(section.panels) for section in again.sections] == [4, 4, 6, 2, 4, 8, 4, 1]
    assert again.sections[0].panels[0].y[0].name == "val/AP"


@pytest.mark.usefixtures("no_network")
def test_it_says_what_would_be_saved_and_how(detlab):
    result = detlab("dashboard", f"study={TABLE}x")
    assert result.status == 0, result.err
    assert f"There is no table {TABLE}x here" in result.out
    assert "Learning curves: val/AP, val/AP50, val/AP75, val/AP90" in result.out
    assert "wandb login" in result.out
    assert not list(Path().iterdir())


@pytest.mark.usefixtures("no_key")
def test_without_a_key_one_sentence_says_how_to_log_in(detlab):
    result = detlab("dashboard", "entity=me")
    assert result.status == 1
    assert result.err.count("\n") == 1
    assert "wandb login" in result.err
    assert "Traceback" not in result.err


def test_it_is_saved_once_with_its_whole_spec(monkeypatch):
    sent = []

    def upsert(view: Any) -> dict[str, Any]:
        sent.append(view)
        return {"upsertView": {"view": {"name": "nw-abc-v", "id": "1"}}}

    monkeypatch.setattr("wandb_workspaces.workspaces.internal.upsert_view2", upsert)
    monkeypatch.setattr("wandb_workspaces.workspaces.interface.get_app_url", lambda _: "https://wandb.ai")
    monkeypatch.setattr(wandb, "Api", object)
    workspace = build("me", "detlab", TABLE)
    assert save(workspace) == "https://wandb.ai/me/detlab?nw=abc"
    (view,) = sent
    assert (view.entity, view.project, view.display_name) == ("me", "detlab", f"detlab · {TABLE}")
    assert view.spec == workspace._to_model().spec


@pytest.mark.parametrize(
    ("problem", "answer"),
    [
        (wandb.errors.CommError("project not found"), r"did not take .* me/detlab \(project not found\)"),
        (TypeError("'NoneType' object is not subscriptable"), "check entity and project"),
    ],
)
def test_what_wandb_refuses_becomes_a_sentence(monkeypatch, problem, answer):
    def refuse(_: Any) -> None:
        raise problem

    monkeypatch.setattr("wandb_workspaces.workspaces.internal.upsert_view2", refuse)
    with pytest.raises(ValueError, match=answer):
        save(build("me", "detlab"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "answer"),
    [("stduy=x", "did you mean 'study'?"), ("project=''", "project"), ("entity=[a]", "entity")],
)
def test_wrong_words_are_named(detlab, override, answer):
    result = detlab("dashboard", override)
    assert result.status == 1
    assert answer in result.err
