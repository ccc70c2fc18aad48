"""What every form of a comparison says: its cells, its headline and what is missing. Pure functions of a Table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from detlab.reporting.files import Content
from detlab.reporting.pages.wording import counted, listed, lower_is_better, mean_sd, printed, progress, seeds_of
from detlab.reporting.study.table import Decision, Run, Table, TableRow

# Numbers of `metrics.json` that say what a run costs beside its minutes, and their decimals.
COSTS = (("images_per_second", 1), ("memory_gib", 2), ("parameters_million", 3))
DECISIONS: tuple[Decision, ...] = ("holds", "fails", "undecided")


class Cell(NamedTuple):
    """One metric of one row."""

    ours: str
    paper: str  # empty: the paper gives none
    best: bool  # of our column
    best_paper: bool


class ResultRow(NamedTuple):
    row: TableRow
    seeds: str
    cells: list[Cell]  # one per metric of the table


def result_rows(table: Table) -> list[ResultRow]:
    """Ours beside the paper's, row by row; the best of a column is marked, unless all are equal."""
    columns = [_column(table.rows, metric) for metric in table.metrics]
    return [
        ResultRow(row, seeds_of(row), [column[position] for column in columns])
        for position, row in enumerate(table.rows)
    ]


def _column(rows: Sequence[TableRow], metric: str) -> list[Cell]:
    ours = [row.summary(metric) for row in rows]
    papers = [row.paper.get(metric) for row in rows]
    best_ours = best([summary.mean if summary else None for summary in ours], metric)
    best_paper = best(papers, metric)
    cells = []
    for row, summary, paper in zip(rows, ours, papers):
        text = mean_sd(summary, metric)
        if summary and summary.seeds != len(row.finished):
            text += f" ({summary.seeds})"  # not all of the row's seeds have this metric
        mean = summary.mean if summary else None
        cells.append(Cell(text, printed(paper), _same(mean, best_ours), _same(paper, best_paper)))
    return cells


def best(values: Sequence[float | None], metric: str) -> float | None:
    """The best of the values that are known; None where there are not two that differ."""
    known = [value for value in values if value is not None]
    if len(set(known)) < 2:
        return None
    return min(known) if lower_is_better(metric) else max(known)


def _same(value: float | None, wanted: float | None) -> bool:
    return wanted is not None and value == wanted


def with_paper(table: Table) -> list[bool]:
    """Of each metric, whether the paper gives a number in any row."""
    return [any(metric in row.paper for row in table.rows) for metric in table.metrics]


def counts(table: Table) -> dict[str, int]:
    """Decision → number of claims."""
    return {decision: sum(v.decision == decision for v in table.verdicts) for decision in DECISIONS}


def headline(table: Table) -> str:
    """One sentence: how many claims hold, fail, are undecided; of how many runs."""
    words = [f"{n} {'are undecided' if d == 'undecided' and n != 1 else _verb(d, n)}" for d, n in counts(table).items()]
    said = f"Of {counted(len(table.verdicts), 'claim')} {listed(words)}; " if table.verdicts else ""
    return f"{said}{finished_runs(table)}."


def _verb(decision: str, count: int) -> str:
    if decision == "undecided":
        return "is undecided"
    return decision if count == 1 else decision.removesuffix("s")


def finished_runs(table: Table) -> str:
    runs = [run for row in table.rows for run in row.runs]
    done = sum(run.state == "finished" for run in runs)
    bare = sum(not row.runs for row in table.rows)
    if not runs:
        return "no run is there yet"
    rest = f", {counted(bare, 'row')} without any" if bare else ""
    return f"{done} of {counted(len(runs), 'run')} finished{rest}"


class Gap(NamedTuple):
    """What keeps a row from being complete, in words."""

    row: TableRow
    words: str
    command: str = ""  # makes what is missing
    folder: str = ""  # of the failed run


def failures(table: Table) -> list[Gap]:
    return [Gap(row, f"seed {run.seed}: {run.error}", row.command, str(run.folder)) for row, run in table.failures]


def gaps(table: Table) -> list[Gap]:
    """Unfinished and missing runs, row by row, and what a finished run lacks."""
    found = []
    for row in table.rows:
        if not row.runs:
            found.append(Gap(row, "not trained yet", row.command))
        unfinished = [run for run in row.runs if run.state == "unfinished"]
        found += [Gap(row, f"seed {run.seed} is unfinished: {progress(run)}", row.command) for run in unfinished]
        missing = [str(run.seed) for run in row.runs if run.state == "missing"]
        odd = [run for run in row.finished if run.error]
        found += [Gap(row, f"seed {run.seed} is finished, but: {run.error}") for run in odd]
        if missing:
            plural = "s" if len(missing) > 1 else ""
            found.append(Gap(row, f"seed{plural} {listed(missing)} missing", row.command))
    return found


def mending(table: Table) -> list[str]:
    """The commands that close the gaps: the row's own for one row, else the table's, which skips what is finished."""
    commands = list(dict.fromkeys(gap.command for gap in gaps(table) if gap.command))
    return table.command.splitlines() if len(commands) > 1 and table.command else commands


def mean_of(row: TableRow, name: str) -> float | None:
    """Mean over the finished runs of a number of `metrics.json`, such as minutes."""
    values = [run.result.get(name) for run in row.finished]
    known = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    return sum(known) / len(known) if known else None


def first_run(row: TableRow) -> Run | None:
    """The finished run with the lowest seed."""
    return min(row.finished, key=lambda run: run.seed, default=None)


def better_classes(table: Table) -> dict[str, tuple[int, int]]:
    """Of each row but the first, in how many classes it is better than the first, and of how many; by `by_class`."""
    names = [f"{table.by_class}/{name}" for name in class_names(table)]
    first, *others = ([row.summary(name) for name in names] for row in table.rows)
    found = {}
    for row, summaries in zip(table.rows[1:], others):
        pairs = [(a.mean, b.mean) for a, b in zip(first, summaries) if a and b]
        if pairs:
            found[row.name] = sum(own > base for base, own in pairs), len(pairs)
    return found


def class_names(table: Table) -> list[str]:
    """The classes that finished runs were evaluated on, in the order of the first run that names them."""
    names: dict[str, None] = {}
    for row in table.rows:
        for run in row.finished:
            test: Content = run.result.get("test") or {}
            names.update(dict.fromkeys(run.result.get("classes") or []))
            names.update(dict.fromkeys(key[3:] for key in test if key.startswith("AP/")))
    return [name for name in names if any(row.summary(f"AP/{name}") for row in table.rows)]
