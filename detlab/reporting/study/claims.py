"""What the runs say of a claim: it holds, it fails, or too few seeds, or too equal ones, leave it undecided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from detlab.reporting.study.expression import Measure
from detlab.reporting.study.grammar import Claim, Part, parse_claim
from detlab.reporting.study.statistics import t_interval
from detlab.reporting.study.table import Decision, TableRow, Verdict

__all__ = ["Claim", "judge", "parse_claim"]

FEWEST_SEEDS = 3
_DIGITS = 9  # values are written with 6 decimals; what is beyond is rounding, and must not decide at a border
_NUMBERS = ("no", "one", "two", "three", "four", "five")


def judge(claim: Claim, rows: Sequence[TableRow], source: str = "", headline: bool = False) -> list[Verdict]:
    """A verdict per comparison of the claim, over the seeds that all rows of that comparison have finished.

    The margin (left side less right side, turned so that it is positive where the claim holds) is taken of the rows'
    means over seeds, and its interval from resampled seeds, the same for every row (`bootstrap_interval`, which
    says how little three seeds prove). The claim holds where the whole interval is on its side (``>=`` and ``<=``
    count the border), fails where the whole interval is beyond the border, and is undecided else, and always with
    fewer than three common seeds. With three seeds the interval is the range of the three margins, so that "holds"
    means that all three agree. The t interval stands beside it and decides nothing. That a training fails holds where
    all runs of its row have failed, and fails where one has finished.
    """
    by_name = {row.name: row for row in rows}
    if claim.failing:
        verdicts = [_judge_failure(claim, by_name[claim.failing], source)]
    else:
        verdicts = [_judge_part(part, by_name, source) for part in claim.parts]
    return [replace(verdict, headline=headline) for verdict in verdicts]


def _judge_failure(claim: Claim, row: TableRow, source: str) -> Verdict:
    failed = sum(run.state == "failed" for run in row.runs)
    if row.finished:
        return Verdict(claim.text, source, "fails", seeds=failed + len(row.finished))
    if failed == len(row.runs) and failed >= FEWEST_SEEDS:
        return Verdict(claim.text, source, "holds", seeds=failed)
    waiting = len(row.runs) - failed
    reason = f"{waiting} of {len(row.runs)} runs have not ended" if waiting else f"{failed} seeds; three are needed"
    return Verdict(claim.text, source, "undecided", seeds=failed, reason=reason)


def _judge_part(part: Part, rows: Mapping[str, TableRow], source: str) -> Verdict:
    by_seed = {m: rows[m.row].by_seed(m.metric) if m.row in rows else {} for m in part.measures}
    seeds = sorted(set.intersection(*(set(values) for values in by_seed.values())))
    if not seeds:
        return Verdict(part.text, source, "undecided", reason=_absent(part.measures, by_seed, rows))
    values = {m: np.array([by_seed[m][seed] for seed in seeds]) for m in part.measures}
    difference, ends = _rounded(part.margin.mean(values)), part.margin.interval(values)
    low, high = (None, None) if ends is None else map(_rounded, ends)
    t_ends = part.margin.interval(values, t_interval)
    t_low, t_high = (None, None) if t_ends is None else map(_rounded, t_ends)
    decision: Decision = "undecided"
    reason = ""
    if low is None or high is None or len(seeds) < FEWEST_SEEDS:
        reason = f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}; {_NUMBERS[FEWEST_SEEDS]} are needed"
        lacking = _absent(part.measures, by_seed, rows)
        reason += f" ({lacking})" if lacking else ""
    elif low > 0 or (low == 0 and not part.strict):
        decision = "holds"
    elif high < 0:
        decision = "fails"
    else:
        reason = "the interval spans zero" if low < 0 < high else "the interval touches zero"
    return Verdict(part.text, source, decision, difference, low, high, len(seeds), reason, t_low, t_high)


def _rounded(value: float) -> float:
    return round(value, _DIGITS) + 0.0  # never -0.0


def _absent(
    measures: Sequence[Measure], by_seed: Mapping[Measure, Mapping[int, float]], rows: Mapping[str, TableRow]
) -> str:
    """What the claim lacks, of the first row that lacks something that another has; empty where none does."""
    known = sorted({seed for values in by_seed.values() for seed in values})
    for m in measures:
        row = rows.get(m.row)
        if row is None or not row.finished:
            wanted = known or sorted({run.seed for run in row.runs} if row else ())
            return f"no finished run of {m.row}" + _with(wanted)
        finished = {run.seed for run in row.finished}
        if unknown := finished - set(by_seed[m]):
            return f"no {m.metric} in the run{'s' if len(unknown) > 1 else ''} of {m.row}" + _with(sorted(unknown))
        if lacking := [seed for seed in known if seed not in by_seed[m]]:
            return f"no finished run of {m.row}" + _with(lacking)
    return ""


def _with(seeds: Sequence[int]) -> str:
    return f" with seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}" if seeds else ""
