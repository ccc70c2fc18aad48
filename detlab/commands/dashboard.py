"""`detlab dashboard`: a W&B dashboard for the runs of a study, written to a file or saved to W&B."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path

from omegaconf import DictConfig

from detlab.config.experiments import config_folders, rows_in
from detlab.config.groups import CONFIG_DIR
from detlab.config.launch import launch
from detlab.config.schema import validate
from detlab.data.files import write_atomic
from detlab.errors import nearest
from detlab.reporting.dashboard import build, outline, save, specification

log = logging.getLogger(__name__)


def dashboard(cfg: DictConfig) -> None:
    """Run what `cfg` (conf/dashboard.yaml composed) asks for: write, save or describe the dashboard."""
    validate(cfg, "dashboard")
    os.environ["WANDB_SILENT"] = "true"
    _warn_of_unknown(cfg.study)
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


def _warn_of_unknown(study: str | None) -> None:
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
