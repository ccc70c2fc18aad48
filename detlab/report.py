"""`detlab report`: one self-contained HTML page about a run."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

from detlab.launch import launch
from detlab.pages.run import write_report

log = logging.getLogger(__name__)


def report(cfg: Any) -> Path:
    """What `detlab report` does with conf/report.yaml composed."""
    from detlab.validate import validate

    validate(cfg, "report")
    path = write_report(cfg.run)
    log.info("Report: %s", path)
    return path


def main() -> None:
    """The run's folder may stand alone: ``detlab report runs/x`` is ``detlab report run=runs/x``."""
    if len(sys.argv) > 1 and not sys.argv[1].startswith(("-", "run=", "hydra.", "+", "~")):
        sys.argv[1] = f"run={sys.argv[1]}"
    launch("report", report)


if __name__ == "__main__":
    main()
