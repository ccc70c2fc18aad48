"""A comparison as JSON, small enough to commit: what a number needs to be believed, and to be shown again."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detlab.engine.aliases import modernize
from detlab.errors import UserError
from detlab.reporting.files import Content, read_json
from detlab.reporting.study.differences import commits, config_differences
from detlab.reporting.study.statistics import pooled_sd
from detlab.reporting.study.table import Run, Table, TableRow, Verdict
from detlab.visualization.curves import running_mean

MOST_POINTS = 40  # of a curve
DIGITS = 6
# Of `metrics.json`; `val` is the end of the history, curves are drawn anew from predictions, classes stand in `test`.
KEPT = (
    "config_hash", "command", "commit", "device", "minutes", "images_per_second", "memory_gib", "parameters_million",
    "iterations", "skipped_images", "dataset", "test",
)  # fmt: skip


def record_text(table: Table) -> str:
    """The JSON of a comparison: each run with its test metrics, thinned history, cost, command and commit, the config
    that all runs share once and what each has of its own, and the verdicts."""
    differences = config_differences(table)
    shared = common([run.config for row in table.rows for run in row.runs if run.config])
    noise = {metric: pooled_sd(table.rows, metric) for metric in table.metrics}
    content = {
        "title": table.title,
        "name": table.name,
        "setting": table.setting,
        "source": table.source,
        "notes": table.notes,
        "command": table.command,
        "commits": commits(table),
        "metrics": list(table.metrics),
        **({"by_class": table.by_class} if table.by_class else {}),
        "seed_noise": {m: {"sd": _rounded(p[0]), "degrees_of_freedom": p[1]} for m, p in noise.items() if p},
        "claims": [_claim(verdict) for verdict in table.verdicts],
        "rows": [
            {
                "name": row.name,
                "title": row.title,
                "paper": dict(row.paper),
                "command": row.command,
                "means": _means(row, table.metrics),
                "differences_from_first_row": differences.get(row.name, []),
                "runs": [_run(run, table.metrics, shared) for run in row.runs],
            }
            for row in table.rows
        ],
        "common_config": shared,
    }
    return _one_line_lists(json.dumps(content, indent=1, ensure_ascii=False, default=str)) + "\n"


def table_of_record(path: str | Path) -> Table:
    """The comparison that `record_text` wrote, with the verdicts of then. Raises UserError for any other file."""
    path = Path(path)
    content = read_json(path)
    try:
        rows = [
            TableRow(
                row["name"],
                row["title"],
                row["paper"],
                [_read_run(run, content["common_config"]) for run in row["runs"]],
                row["command"],
            )
            for row in content["rows"]
        ]
        verdicts = [Verdict(**claim) for claim in content["claims"]]
        words = {key: content[key] for key in ("title", "name", "setting", "metrics", "source", "notes", "command")}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path}: this is no comparison that detlab report has recorded ({type(error).__name__}: {error})."
        ) from None
    return Table(rows=rows, verdicts=verdicts, by_class=content.get("by_class", ""), **words)


def _rounded(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), DIGITS)


def _claim(verdict: Verdict) -> dict[str, object]:
    return {
        "claim": verdict.claim,
        "source": verdict.source,
        "decision": verdict.decision,
        "difference": _rounded(verdict.difference),
        "low": _rounded(verdict.low),
        "high": _rounded(verdict.high),
        "t_low": _rounded(verdict.t_low),
        "t_high": _rounded(verdict.t_high),
        "seeds": verdict.seeds,
        **({"headline": True} if verdict.headline else {}),
        "reason": verdict.reason,
    }


def _means(row: TableRow, metrics: Sequence[str]) -> dict[str, object]:
    """As printed: in points where papers print points."""
    found = {metric: row.summary(metric) for metric in metrics}
    return {m: {"mean": _rounded(s.mean), "sd": _rounded(s.sd), "seeds": s.seeds} for m, s in found.items() if s}


def _run(run: Run, metrics: Sequence[str], shared: Content) -> dict[str, object]:
    columns = ["train/loss", *dict.fromkeys(f"val/{metric}" for metric in ("AP", *metrics))]
    curves = {name: thinned(run.history, name) for name in columns}
    return {
        "seed": run.seed,
        "state": run.state,
        **({"error": run.error} if run.error else {}),
        "folder": _place(run.folder),
        **{key: run.result[key] for key in KEPT if key in run.result},
        "history": {name: curve for name, curve in curves.items() if curve["step"]},
        "config": own(run.config, shared),
    }


def _place(folder: Path) -> str:
    """The run's folder as seen from here, where it lies below; what lies above is nobody else's concern."""
    relative = os.path.relpath(folder)
    return str(folder) if relative.startswith("..") else relative


def thinned(history: Mapping[str, NDArray[np.float64]], column: str) -> dict[str, list[float]]:
    """At most 40 points of a column, evenly spread, with its ends; a long one (a training loss) as a running mean."""
    steps, values = history.get("step", np.empty(0)), history.get(column, np.empty(0))
    if len(steps) != len(values):
        return {"step": [], "value": []}
    logged = np.isfinite(values) & np.isfinite(steps)
    steps, values = steps[logged], values[logged]
    if len(values) > MOST_POINTS:
        chosen = np.linspace(0, len(values) - 1, MOST_POINTS).round().astype(int)
        steps, values = steps[chosen], running_mean(values)[chosen]
    return {"step": [int(step) for step in steps], "value": [float(f"{value:.5g}") for value in values]}


def _read_run(content: Content, shared: Content) -> Run:
    finished = content["state"] == "finished"
    return Run(
        folder=Path(content["folder"]),
        seed=content["seed"],
        state=content["state"],
        result={"seed": content["seed"], **{key: content[key] for key in KEPT if key in content}} if finished else {},
        history=_joined(content["history"]),
        config=modernize(merged(shared, content["config"])) if content["config"] or finished else {},
        error=content.get("error", ""),
    )


def _joined(curves: Mapping[str, Mapping[str, list[float]]]) -> dict[str, NDArray[np.float64]]:
    """Curves, each with steps of its own, as columns over all steps, nan in empty cells."""
    steps = sorted({step for curve in curves.values() for step in curve["step"]})
    columns = {name: np.full(len(steps), np.nan) for name in curves}
    for name, curve in curves.items():
        columns[name][np.searchsorted(steps, curve["step"])] = curve["value"]
    return {"step": np.array(steps, float), **columns} if steps else {}


def common(configs: Sequence[Content]) -> dict[str, object]:
    """What all configs have alike."""
    if not configs:
        return {}
    result: dict[str, object] = {}
    for key in configs[0]:
        values = [config.get(key) for config in configs]
        if all(isinstance(value, Mapping) and value for value in values):
            inner = common([value for value in values if isinstance(value, Mapping)])
            if inner:
                result[key] = inner
        elif all(key in config for config in configs) and all(value == values[0] for value in values):
            result[key] = values[0]
    return result


def own(config: Content, shared: Content) -> dict[str, object]:
    """What a config has beyond the shared part; `merged` puts both together again."""
    result: dict[str, object] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value and isinstance(shared.get(key), Mapping):
            inner = own(value, shared[key])
            if inner:
                result[key] = inner
        elif key not in shared:
            result[key] = value
    return result


def merged(shared: Content, config: Content) -> dict[str, object]:
    result = dict(shared)
    for key, value in config.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result


def _one_line_lists(text: str) -> str:
    """Lists of numbers on one line each: a curve is one line of a difference between two versions."""
    number = r"-?[\d.eE+-]+"
    return re.sub(rf"\[\s+({number}(?:,\s+{number})*)\s+\]", lambda m: "[" + re.sub(r"\s+", " ", m[1]) + "]", text)
