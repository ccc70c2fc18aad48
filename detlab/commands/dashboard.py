"""`detlab dashboard`: the W&B workspace for runs of detlab, as code; built without a network, saved when logged in."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detlab.config.experiments import config_folders, rows_in
from detlab.config.launch import CONFIG_DIR, launch
from detlab.data.files import write_atomic
from detlab.errors import UserError, nearest

log = logging.getLogger(__name__)

STEP = "trainer/global_step"
PICTURES = 8  # of a run, by default (conf/logger/wandb.yaml)
COLUMNS = ("config:row", "config:setting", "config:seed", "summary:test/AP", "summary:test/AP50", "summary:test/AP75")


def build(entity: str, project: str, study: str | None = None, setting: str | None = None) -> Any:
    """The workspace (``wandb_workspaces.workspaces.Workspace``), not saved yet.

    Curves and bars show one line or bar per row, the mean over its seeds; without a `study` per run name, since rows of
    two tables may be called the same. study, setting: only these runs, by the config that each run carries.
    """
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces import expr

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


def sections(row: str) -> list[Any]:
    """The sections from top to bottom. row: the config key whose value the seeds of a row have in common."""
    import wandb_workspaces.reports.v2 as wr

    def curve(metric: str) -> Any:
        return wr.LinePlot(title=metric, x=STEP, y=[metric], **_mean_of(row), groupby_rangefunc="stddev")

    def curves(title: str, pattern: str) -> Any:
        return wr.LinePlot(title=title, x=STEP, metric_regex=pattern, **_mean_of(row))

    def bars(metric: str) -> Any:
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


def _section(name: str, panels: Sequence[Any], opened: bool = False) -> Any:
    import wandb_workspaces.workspaces as ws

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
    import wandb_workspaces.reports.v2 as wr

    return {"groupby": wr.Config(row), "groupby_aggfunc": "mean"}


def specification(workspace: Any) -> dict[str, Any]:
    """What saving sends: ``{entity, project, name, spec}``. The spec has passed the library's own models."""
    view = workspace._to_model()
    return {
        "entity": view.entity,
        "project": view.project,
        "name": view.display_name,
        "spec": json.loads(view.spec.model_dump_json(by_alias=True, exclude_none=True)),
    }


def outline(workspace: Any) -> str:
    """A line per section: its name and panels."""
    return "\n".join(f"  {section.name}: {', '.join(map(_called, section.panels))}" for section in workspace.sections)


def _called(panel: Any) -> str:
    return getattr(panel, "title", None) or "what differs between runs"


def save(workspace: Any) -> str:
    """Save the workspace to W&B as a new view and return its address. UserError where that is not possible."""
    import wandb

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


def dashboard(cfg: Any) -> None:
    """Run what `cfg` (conf/dashboard.yaml composed) asks for: write, save or describe the dashboard."""
    from detlab.config.schema import validate

    validate(cfg, "dashboard")
    os.environ["WANDB_SILENT"] = "true"
    _look_for(cfg.study)
    workspace = build(cfg.entity or "", cfg.project, cfg.study, cfg.setting)
    spec = specification(workspace)
    if cfg.output:
        write_atomic(Path(cfg.output), json.dumps(spec, indent=1))
        log.info("%s holds the dashboard '%s'.", cfg.output, workspace.name)
    if cfg.entity:
        log.info("Saved: %s", save(workspace))
    elif not cfg.output:
        log.info("The dashboard '%s' of project %s:\n%s", workspace.name, cfg.project, outline(workspace))
        log.info("To save it, `wandb login` and add entity=<your user or team>; output=dashboard.json writes it down.")


def _look_for(study: str | None) -> None:
    """Warn of a study that is no table here; runs elsewhere, or with a plain name, may belong to it all the same."""
    tables = {row.rpartition("/")[0] for row in rows_in(config_folders(sys.argv[1:], CONFIG_DIR))}
    if study and study not in tables:
        log.warning(
            "There is no table %s here%s; the dashboard will show runs of that name.", study, nearest(study, tables)
        )


def main() -> None:
    launch("dashboard", dashboard)


if __name__ == "__main__":
    main()
