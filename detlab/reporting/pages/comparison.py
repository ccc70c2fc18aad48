"""One self-contained HTML page about a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from detlab.reporting.pages import content
from detlab.reporting.pages.pictures import examples
from detlab.reporting.pages.render import render
from detlab.reporting.pages.wording import (
    counted,
    duration,
    effect,
    fine,
    number,
    plain,
    remarks,
    short_commit,
    t_interval,
)
from detlab.reporting.study.differences import commits, config_differences
from detlab.reporting.study.statistics import pooled_sd
from detlab.reporting.study.table import Run, Table, TableRow, Verdict, points
from detlab.visualization.interval import interval_svg, reach
from detlab.visualization.output import svg_text
from detlab.visualization.seeds import seed_bands, seed_dots
from detlab.visualization.style import colour

if TYPE_CHECKING:
    from detlab.visualization.seeds import Curve


def comparison_page(table: Table) -> str:
    """The page's HTML. It needs no network and no other file; what is not there yet is left out, and said."""
    return render(
        "comparison.html.j2",
        table=table,
        colours=_colours(table),
        counts=content.counts(table),
        headline=content.headline(table),
        runs=content.finished_runs(table),
        rows=content.result_rows(table),
        paper=content.with_paper(table),
        failures=content.failures(table),
        gaps=content.gaps(table),
        mending=content.mending(table),
        claims=_claims(table),
        noise=_noise(table),
        dots=_dots(table),
        curves=_curves(table),
        per_class=_per_class(table),
        better=_better(table),
        costs=_costs(table),
        examples=examples(table),
        differences=_differences(table),
        commits=[short_commit(commit) for commit in commits(table)],
        attempts=[(row, _attempt(run, table)) for row in table.rows for run in row.runs],
        fewest=min((v.seeds for v in table.verdicts if v.difference is not None), default=0),
    )


def _colours(table: Table) -> dict[str, str]:
    """Row name → its colour in every figure, as CSS that a dark page may brighten."""
    shades = [colour(position) for position in range(len(table.rows))]
    return {row.name: f"var(--c{shade[1:]}, {shade})" for row, shade in zip(table.rows, shades)}


def _claims(table: Table) -> list[tuple[Verdict, str, str, str, str, str]]:
    """(verdict, remarks, difference, bootstrap and t interval, drawing) of each claim; all drawings share one axis."""
    ends = reach(value for v in table.verdicts for value in (v.difference, v.low, v.high))
    result = []
    for verdict in table.verdicts:
        difference, interval = effect(verdict)
        drawing = ""
        if verdict.difference is not None:
            words = f"{difference} {interval}"
            drawing = Markup(interval_svg(verdict.difference, verdict.low, verdict.high, ends, words))
        result.append((verdict, " · ".join(remarks(verdict)), difference, interval, t_interval(verdict), drawing))
    return result


def _noise(table: Table) -> list[tuple[str, str, int]]:
    """(metric, pooled standard deviation between seeds, degrees of freedom) of each metric that has one."""
    found = [(metric, pooled_sd(table.rows, metric)) for metric in table.metrics]
    return [(metric, fine(pooled[0], metric), pooled[1]) for metric, pooled in found if pooled]


def _dots(table: Table) -> str:
    """The first metric of every seed, as SVG; empty without a value."""
    values = [(row.title, list(row.by_seed(table.metrics[0]).values())) for row in table.rows]
    if not any(seeds for _, seeds in values):
        return ""
    return Markup(svg_text(seed_dots(values, f"test {table.metrics[0]}"), "dots"))


def _curves(table: Table) -> list[tuple[str, str, str]]:
    """(what it is, SVG, a word on reading it) of each curve that was logged."""
    result: list[tuple[str, str, str]] = []
    histories = [run.history for row in table.rows for run in row.runs]
    metric = next((m for m in (table.metrics[0], "AP") if any(f"val/{m}" in history for history in histories)), "AP")
    if logged := _logged(table, f"val/{metric}"):
        scaled = {number: [(x, y * points(metric)) for x, y in curves] for number, curves in logged.items()}
        figure = seed_bands(scaled, f"Validation {metric}", metric)
        caption = "The line is the mean over seeds, the band reaches from the lowest seed to the highest."
        result.append((f"validation {metric} over iterations", Markup(svg_text(figure, "validation")), caption))
    if logged := _logged(table, "train/loss"):
        figure = seed_bands(logged, "Training loss", "loss", smooth=True)
        caption = "A running mean of each seed. Losses of different kinds cannot be compared by their height."
        result.append(("training loss over iterations", Markup(svg_text(figure, "loss")), caption))
    return result


def _logged(table: Table, column: str) -> dict[int, list[Curve]]:
    """Row number → (steps, values) of each run that logged the column; unfinished runs only where none is finished."""
    found = {}
    for position, row in enumerate(table.rows):
        curves = [
            (run.history["step"], run.history[column])
            for run in row.finished or row.runs
            if column in run.history and "step" in run.history and np.isfinite(run.history[column]).any()
        ]
        if curves:
            found[position] = curves
    return found


def _per_class(table: Table) -> list[tuple[str, list[tuple[str, int | None, bool]]]]:
    """(class, (mean over seeds of AP, or of what the study names, its shade 0 … 100, whether it is the best) of each
    row) of each class; no shade where there is no value."""
    metric = table.by_class or "AP"
    means = {
        name: [summary.mean if (summary := row.summary(f"{metric}/{name}")) else None for row in table.rows]
        for name in content.class_names(table)
    }
    known = [value for values in means.values() for value in values if value is not None]
    least, most = min(known, default=0.0), max(known, default=0.0)
    result = []
    for name, values in means.items():
        best = content.best(values, "AP")
        shades = [None if v is None else round(100 * (v - least) / max(most - least, 1e-9)) for v in values]
        result.append(
            (name, [(number(v, "AP"), shade, v is not None and v == best) for v, shade in zip(values, shades)])
        )
    return result


def _better(table: Table) -> list[tuple[str, str]]:
    """(title, "n of N classes") of each row beside the first, where the study names a metric by class."""
    titles = {row.name: row.title for row in table.rows}
    found = content.better_classes(table) if table.by_class else {}
    return [(titles[name], f"{count} of {counted(of, 'class', 'classes')}") for name, (count, of) in found.items()]


def _costs(table: Table) -> list[tuple[TableRow, list[str]]]:
    result = []
    for row in table.rows:
        if not row.finished:
            continue
        devices = dict.fromkeys(str(run.result["device"]) for run in row.finished if run.result.get("device"))
        cells = [
            duration(content.mean_of(row, "minutes")),
            *(plain(content.mean_of(row, name), digits) for name, digits in content.COSTS),
            ", ".join(devices) or "–",
        ]
        result.append((row, cells))
    return result


def _differences(table: Table) -> list[tuple[TableRow, list[str]]]:
    found: Mapping[str, list[str]] = config_differences(table)
    return [(row, found[row.name]) for row in table.rows if row.name in found]


def _attempt(run: Run, table: Table) -> dict[str, object]:
    """A line of the list of runs."""
    return {
        "seed": run.seed,
        "state": run.state,
        "values": [number(run.value(metric), metric) for metric in table.metrics],
        "commit": short_commit(str(run.result.get("commit") or "")),
        "command": str(run.result.get("command") or ""),
        "hash": str(run.result.get("config_hash") or ""),
        "folder": str(run.folder),
    }
