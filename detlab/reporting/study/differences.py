"""What tells the rows of a table apart: their configs, and the commits that they were trained at."""

from __future__ import annotations

from detlab.engine.run_folder import differences, identity
from detlab.reporting.files import Content
from detlab.reporting.study.table import Table


def recipe(config: Content) -> Content:
    """What a config computes, whatever the seed."""
    return {key: value for key, value in identity(config).items() if key != "seed"}


def config_differences(table: Table) -> dict[str, list[str]]:
    """Row name → ``key: first row's → this row's``, of the first config of each; seed, name and place left out. A row
    of another task (a classifier among detectors) is compared with the first of its own.

    A row whose own runs were trained with different configs says so too, as ``seed=2: key: … → …``: its mean is then
    no mean over seeds. Rows without a readable config do not appear.
    """
    found: dict[str, list[str]] = {}
    firsts: dict[str | None, Content] = {}
    for row in table.rows:
        recipes = [(run.seed, recipe(run.config)) for run in row.runs if run.config]
        if not recipes:
            continue
        own = recipes[0][1]
        first = firsts.setdefault((own.get("task") or {}).get("_target_"), own)
        within = [f"seed={seed}: {change}" for seed, other in recipes[1:] for change in differences(own, other)]
        found[row.name] = differences(first, own) + within
    return found


def commits(table: Table) -> list[str]:
    """The commits that the finished runs were trained at, in order of first use."""
    written = [str(run.result.get("commit") or "") for row in table.rows for run in row.finished]
    return list(dict.fromkeys(commit for commit in written if commit))
