"""What a comparison is made of: rows, the runs of each, and the verdict on each claim. No files are read here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detlab.reporting.files import Content

State = Literal["finished", "failed", "unfinished", "missing"]
Decision = Literal["holds", "fails", "undecided"]

HEADLINE_SEEDS = 5  # that a paper's main claims are judged on
IN_POINTS = ("AP", "AR", "mAP", "oLRP")  # beginnings of the metrics that papers print times 100


@dataclass(frozen=True)
class Run:
    """One training, from its folder. `result` is `metrics.json` (empty until finished), `history` the columns of
    `metrics.csv`, `config` the resolved config, `error` the sentence that a failed run ended with."""

    folder: Path
    seed: int
    state: State
    result: Content = field(default_factory=dict)
    history: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    config: Content = field(default_factory=dict)
    error: str = ""

    def value(self, metric: str) -> float | None:
        """A metric of the final evaluation, in points (times 100) where papers print it so; None if not there."""
        value = self.result.get("test", {}).get(metric)
        if value is None or not math.isfinite(value):
            return None
        return float(value) * points(metric)


def points(metric: str) -> float:
    """What a metric is multiplied by to read as papers print it: 100 for average precision and its kin, else 1."""
    return 100.0 if metric.startswith(IN_POINTS) else 1.0


@dataclass(frozen=True)
class TableRow:
    """One row: its name in claims, the words it is printed with, the paper's numbers, and one run per seed."""

    name: str
    title: str
    paper: Mapping[str, float] = field(default_factory=dict)
    runs: Sequence[Run] = ()
    command: str = ""  # trains the row

    @property
    def finished(self) -> list[Run]:
        return [run for run in self.runs if run.state == "finished"]

    def by_seed(self, metric: str) -> dict[int, float]:
        """Seed → value of a metric, of the finished runs that have it."""
        values = {run.seed: run.value(metric) for run in self.finished}
        return {seed: value for seed, value in values.items() if value is not None}

    def summary(self, metric: str) -> Summary | None:
        """Mean, sample standard deviation (nan for one seed) and number of seeds of a metric."""
        values = list(self.by_seed(metric).values())
        if not values:
            return None
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
        return Summary(float(np.mean(values)), spread, len(values))


class Summary(NamedTuple):
    mean: float
    sd: float
    seeds: int


@dataclass(frozen=True)
class Verdict:
    """What the runs say of one claim. `difference`: mean over seeds of the claim's margin (positive where it
    holds), `low` and `high` its bootstrap interval, `t_low` and `t_high` its t interval; None without a seed that every
    row of the claim has (and, of the t interval, in records of before it was there). headline: one of a paper's main
    claims, which want `HEADLINE_SEEDS` seeds."""

    claim: str
    source: str
    decision: Decision
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    seeds: int = 0
    reason: str = ""  # why undecided, in words
    t_low: float | None = None
    t_high: float | None = None
    headline: bool = False


@dataclass(frozen=True)
class Table:
    """A comparison: of a study's rows at one setting (mini, paper, one's own data), or of the runs in a folder."""

    title: str
    name: str
    setting: str
    metrics: Sequence[str]
    rows: Sequence[TableRow]
    verdicts: Sequence[Verdict] = ()
    source: str = ""  # where the paper's numbers stand
    notes: str = ""
    command: str = ""  # makes the whole table
    by_class: str = ""  # a metric that is told for each class, too

    @property
    def complete(self) -> bool:
        return all(row.runs and all(run.state == "finished" for run in row.runs) for row in self.rows)

    @property
    def failures(self) -> list[tuple[TableRow, Run]]:
        return [(row, run) for row in self.rows for run in row.runs if run.state == "failed"]
