"""The W&B workspace for runs of detlab, as code; built without a network, saved when logged in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import wandb
import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws
from wandb_workspaces import expr

from detlab.errors import UserError

Panel = wr.LinePlot | wr.BarPlot | wr.MediaBrowser | wr.RunComparer

STEP = "trainer/global_step"
PICTURES = 8  # of a run, by default (conf/logger/wandb.yaml)
COLUMNS = ("config:row", "config:setting", "config:seed", "summary:test/AP", "summary:test/AP50", "summary:test/AP75")


def build(entity: str, project: str, study: str | None = None, setting: str | None = None) -> ws.Workspace:
    """The workspace, not saved yet.

    Curves and bars show one line or bar per row, the mean over its seeds; without a `study` per run name, since rows of
    two tables may be called the same. study, setting: only these runs, by the config that each run carries.
    """
    row = "row" if study else "name"
    wanted = [expr.Config(key) == value for key, value in (("table", study), ("setting", setting)) if value]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=" · ".join(["detlab", *filter(None, (study, setting))]),
        sections=sections(row),
        settings=ws.WorkspaceSettings(x_axis=STEP, max_runs=100),
        runset_settings=ws.RunsetSettings(
            filters=wanted,
            groupby=[expr.Config(row)],
            order=[expr.Ordering(expr.Summary("test/AP"), ascending=False)],
            pinned_columns=list(COLUMNS),
        ),
    )


def sections(row: str) -> list[ws.Section]:
    """The sections from top to bottom. row: the config key whose value the seeds of a row have in common."""

    def curve(metric: str) -> wr.LinePlot:
        return wr.LinePlot(title=metric, x=STEP, y=[metric], **_mean_of(row), groupby_rangefunc="stddev")

    def curves(title: str, pattern: str) -> wr.LinePlot:
        return wr.LinePlot(title=title, x=STEP, metric_regex=pattern, **_mean_of(row))

    def bars(metric: str) -> wr.BarPlot:
        return wr.BarPlot(title=metric, metrics=[metric], **_mean_of(row), groupby_rangefunc="stddev")

    return [
        _section("Learning curves", [curve(f"val/{name}") for name in ("AP", "AP50", "AP75", "AP90")], opened=True),
        _section("Test", [bars(f"test/{name}") for name in ("AP", "AP50", "AP75", "AP90")], opened=True),
        _section(
            "Training",
            [
                curve("train/loss"),
                curves("terms of the loss", "^train/loss_"),
                curves("learning rate", "^lr-"),
                curve("train/positives_per_object"),
                curve("train/unmatched_objects"),
                curve("train/skipped_images"),
            ],
        ),
        _section("Classes", [curves("AP", "^val/AP/"), curves("AP50", "^val/AP50/")]),
        _section(
            "Pseudo-labels",
            [
                curves("how many", "^pseudo/.*(boxes|image|ground_truth)"),
                curves("how good", "^pseudo/.*(precision|recall|iou)"),
                curves("scores and thresholds", "^pseudo/.*(score|threshold)"),
                curves("all", "^pseudo/"),
            ],
        ),
        _section(
            "Pictures",
            [
                wr.MediaBrowser(title=key, media_keys=[key], num_columns=2)
                for key in (f"test/example_{number:02d}" for number in range(PICTURES))
            ],
        ),
        _section("Cost", [bars(name) for name in ("minutes", "images_per_second", "memory_gib", "parameters_million")]),
        _section("Settings", [wr.RunComparer(diff_only="split")]),
    ]


def _section(name: str, panels: Sequence[Panel], opened: bool = False) -> ws.Section:
    layout = ws.SectionLayoutSettings(columns=min(len(panels), 4), rows=-(-len(panels) // 4))
    # A section has an x axis of its own, which the panels of media follow.
    return ws.Section(
        name=name,
        panels=list(panels),
        is_open=opened,
        layout_settings=layout,
        panel_settings=ws.SectionPanelSettings(x_axis=STEP),
    )


def _mean_of(row: str) -> dict[str, Any]:
    return {"groupby": wr.Config(row), "groupby_aggfunc": "mean"}


def specification(workspace: ws.Workspace) -> dict[str, Any]:
    """What saving sends: ``{entity, project, name, spec}``. The spec has passed the library's own models."""
    view = workspace._to_model()
    return {
        "entity": view.entity,
        "project": view.project,
        "name": view.display_name,
        "spec": json.loads(view.spec.model_dump_json(by_alias=True, exclude_none=True)),
    }


def outline(workspace: ws.Workspace) -> str:
    """A line per section: its name and panels."""
    return "\n".join(f"  {section.name}: {', '.join(map(_called, section.panels))}" for section in workspace.sections)


def _called(panel: object) -> str:
    return getattr(panel, "title", None) or "what differs between runs"


def save(workspace: ws.Workspace) -> str:
    """Save the workspace to W&B as a new view and return its address. UserError where that is not possible."""
    where = f"{workspace.entity}/{workspace.project}"
    try:
        workspace.save()
    except wandb.errors.UsageError as error:
        raise UserError(
            f"The dashboard of {where} was not saved, for W&B knows no key here: run `wandb login` (or set "
            "WANDB_API_KEY) and start the same command again; output=dashboard.json writes it to a file."
        ) from error
    except Exception as error:  # what W&B's service process raises has no common base
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(f"W&B did not take the dashboard of {where} ({reason}): check entity and project.") from error
    return str(workspace.url)
