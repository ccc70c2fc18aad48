"""Numbers and states as every form of a comparison prints them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from detlab.reporting.study.table import HEADLINE_SEEDS, Run, Summary, TableRow, Verdict, points

LOWER_IS_BETTER = ("oLRP", "LRP", "IoU_error", "ECE")  # beginnings of metrics that are errors


def number(value: float | None, metric: str) -> str:
    """A mean: one decimal in points, three otherwise; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.1f}" if points(metric) > 1 else f"{value:.3f}"


def fine(value: float, metric: str) -> str:
    """A number one digit finer: a noise that others are held against."""
    return f"{value:.2f}" if points(metric) > 1 else f"{value:.4f}"


def plain(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def mean_sd(summary: Summary | None, metric: str) -> str:
    """``48.2 ± 0.5``; one seed has no ±."""
    if summary is None:
        return "–"
    mean = number(summary.mean, metric)
    return mean if math.isnan(summary.sd) else f"{mean} ± {number(summary.sd, metric)}"


def printed(value: float | None) -> str:
    """A paper's number with the decimals it was given with; empty where it has none."""
    return "" if value is None else str(value)


def lower_is_better(metric: str) -> bool:
    return metric.startswith(LOWER_IS_BETTER)


def effect(verdict: Verdict) -> tuple[str, str]:
    """(difference, interval) of a claim, signed: ``+1.42`` and ``[+0.90, +1.81]``; dashes where not known."""
    known = [abs(v) for v in (verdict.difference, verdict.low, verdict.high) if v is not None and math.isfinite(v)]
    digits = 2 if max(known, default=1.0) >= 0.5 else 4
    if verdict.difference is None:
        return "–", "–"
    difference = f"{verdict.difference:+.{digits}f}"
    if verdict.low is None or verdict.high is None:
        return difference, "–"
    return difference, f"[{verdict.low:+.{digits}f}, {verdict.high:+.{digits}f}]"


def t_interval(verdict: Verdict) -> str:
    """The t interval of a claim's difference, with the decimals of `effect`; a dash where not known."""
    return effect(replace(verdict, low=verdict.t_low, high=verdict.t_high))[1]


def remarks(verdict: Verdict) -> list[str]:
    """What is to be said of a claim beside its verdict: where it stands, why it is undecided, and how far a decision
    may be trusted."""
    said = [verdict.source, verdict.reason]
    low, high = verdict.t_low, verdict.t_high
    if verdict.decision != "undecided" and low is not None and high is not None and low <= 0 <= high and low < high:
        said.append(f"the t interval includes zero: {counted(verdict.seeds, 'seed')} may agree by chance")
    if verdict.headline and verdict.seeds < HEADLINE_SEEDS:
        said.append(f"headline claim, {verdict.seeds} of the {HEADLINE_SEEDS} seeds that it wants")
    return [words for words in said if words]


def seeds_of(row: TableRow) -> str:
    """``3``, or ``2 of 3`` where some have not finished."""
    done, wanted = len(row.finished), len(row.runs)
    return str(done) if done == wanted else f"{done} of {wanted}"


def counted(count: int, singular: str, plural: str = "") -> str:
    return f"{count} {singular if count == 1 else plural or singular + 's'}"


def listed(words: Sequence[str]) -> str:
    """``a, b and c``"""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def short_commit(commit: str) -> str:
    """Ten digits, and ``+changes`` where the code differed from the commit."""
    digits, plus, changes = commit.partition("+")
    return digits[:10] + plus + changes


def duration(minutes: float | None) -> str:
    if minutes is None:
        return "–"
    return f"{minutes / 60:.1f} h" if minutes >= 90 else f"{minutes:.1f} min"


def progress(run: Run) -> str:
    """How far an unfinished run has come, from its history and its schedule."""
    steps = run.history.get("step", np.empty(0))
    reached = int(np.nanmax(steps)) + 1 if np.isfinite(steps).any() else 0
    schedule = run.config.get("schedule")
    length = schedule.get("iterations") if isinstance(schedule, dict) else None
    return f"reached iteration {reached:,}" + (f" of {length:,}" if isinstance(length, int) else "")
