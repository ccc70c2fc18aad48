"""A Lightning logger that keeps the whole history in one CSV and survives resuming."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from detlab.data.files import write_atomic


class HistoryLogger(Logger):
    """Writes `metrics.csv`: a column per logged name, a row per step, empty where nothing was logged.

    Lightning's CSVLogger deletes an existing file on resume; this one reads it and drops only the rows past
    the step that training goes on from (`resume_at`). Numbers are written in full, so that a run that goes on
    reports what one left alone would. The file appears by write-then-rename.
    """

    def __init__(self, path: str | Path, resume_at: int | None = None) -> None:
        super().__init__()
        self.path = Path(path)
        self.rows: dict[int, dict[str, float]] = {}
        if resume_at is not None and self.path.exists():
            self.rows = {step: row for step, row in read_rows(self.path).items() if step <= resume_at}

    @property
    def name(self) -> str:
        return "history"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        row = self.rows.setdefault(0 if step is None else int(step), {})
        row.update({name: float(value) for name, value in metrics.items() if name != "epoch"})

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The config stands in `config.yaml`."""

    def take_training(self, path: Path) -> None:
        """Take over from another run's history what it logged while training, its evaluations left out."""
        for step, row in read_rows(path).items():
            kept = {name: value for name, value in row.items() if not name.startswith(("val/", "test/"))}
            if kept:
                self.rows[step] = kept | self.rows.get(step, {})

    def latest(self, prefix: str) -> dict[str, float]:
        """The newest values whose names begin with `prefix`: those of the last row that has any."""
        for step in sorted(self.rows, reverse=True):
            values = {name: value for name, value in self.rows[step].items() if name.startswith(prefix)}
            if values:
                return values
        return {}

    @rank_zero_only
    def save(self) -> None:
        names = sorted({name for row in self.rows.values() for name in row})
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, ["step", *names], lineterminator="\n")
        writer.writeheader()
        for step in sorted(self.rows):
            writer.writerow({"step": step, **{n: repr(v) for n, v in self.rows[step].items()}})
        write_atomic(self.path, buffer.getvalue())

    @rank_zero_only
    def finalize(self, status: str) -> None:  # noqa: ARG002
        self.save()


def read_rows(path: Path) -> dict[int, dict[str, float]]:
    """`metrics.csv` → {step: {name: value}}, empty cells left out."""
    with path.open(newline="") as file:
        return {
            int(row.pop("step")): {n: float(v) if v else math.nan for n, v in row.items() if v}
            for row in csv.DictReader(file)
        }
