"""A comparison in GitHub's Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from detlab.reporting.pages import content
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
from detlab.reporting.study.table import Table, TableRow


def comparison_markdown(table: Table) -> str:
    """The table, the claims, what is missing, cost, seed noise, config differences, command and commits."""
    parts = [
        f"# {text(table.title)}",
        text(" · ".join(filter(None, [table.source, table.name if table.name != table.title else "", table.setting]))),
        content.headline(table),
        _results(table),
        _claims(table),
        _listed(
            "Failed", [f"{_label(gap.row)}: {text(gap.words)} ({code(gap.folder)})" for gap in content.failures(table)]
        ),
        _missing(table),
        _by_class(table),
        _costs(table),
        _noise(table),
        _differences(table),
        _made_by(table),
        f"## Notes\n\n{text(table.notes)}" if table.notes else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def text(words: str) -> str:
    """Words that stand for themselves, in a table's cell too."""
    return (
        re.sub(r"([\\|*_<>`\[\]~#$])", r"\\\1", " ".join(words.split())).replace("\\<", "&lt;").replace("\\>", "&gt;")
    )


def code(words: str) -> str:
    """Words as code, in a table's cell too."""
    if not words:
        return ""
    fence = "``" if "`" in words else "`"
    padding = " " if "`" in words else ""
    return f"{fence}{padding}{' '.join(words.split())}{padding}{fence}".replace("|", "\\|")


def grid(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A table whose first `left` columns are aligned left, the others right."""
    rule = ["---"] * left + ["---:"] * (len(header) - left)
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, rule, *rows])


def _label(row: TableRow) -> str:
    return text(row.title) + (f" {code(row.name)}" if row.name != row.title else "")


def _bold(words: str, wanted: bool) -> str:
    return f"**{words}**" if wanted else words


def _results(table: Table) -> str:
    paper = content.with_paper(table)
    header = ["row", "seeds"]
    for metric, given in zip(table.metrics, paper):
        header += [text(metric), "paper"] if given else [text(metric)]
    lines = []
    for result in content.result_rows(table):
        line = [_label(result.row), result.seeds]
        for cell, given in zip(result.cells, paper):
            line.append(_bold(cell.ours, cell.best))
            if given:
                line.append(_bold(cell.paper, cell.best_paper))
        lines.append(line)
    return grid(header, lines)


def _claims(table: Table) -> str:
    if not table.verdicts:
        return ""
    lines = [
        [
            code(v.claim),
            f"**{v.decision}**",
            text(" · ".join(remarks(v))),
            *effect(v),
            t_interval(v),
            str(v.seeds),
        ]
        for v in table.verdicts
    ]
    header = ["claim", "verdict", "", "difference", "95 % bootstrap", "95 % t", "seeds"]
    return "## Claims\n\n" + grid(header, lines, left=3)


def _listed(title: str, lines: Sequence[str]) -> str:
    return f"## {title}\n\n" + "\n".join(f"- {line}" for line in lines) if lines else ""


def _fenced(commands: Iterable[str]) -> str:
    return "```sh\n" + "\n".join(commands) + "\n```"


def _missing(table: Table) -> str:
    found = content.gaps(table)
    commands = content.mending(table)
    said = _listed("Not there yet", [f"{_label(gap.row)}: {text(gap.words)}" for gap in found])
    return f"{said}\n\n{_fenced(commands)}" if commands else said


def _by_class(table: Table) -> str:
    """Mean over seeds for each class, in a column per row, where the study names a metric for it."""
    names = content.class_names(table) if table.by_class else []
    rows = [row for row in table.rows if row.finished]
    if not names or not rows:
        return ""
    better = content.better_classes(table)
    lines = []
    for name in names:
        summaries = [row.summary(f"{table.by_class}/{name}") for row in rows]
        means = [summary.mean if summary else None for summary in summaries]
        best = content.best(means, table.by_class)
        lines.append([text(name), *(_bold(number(v, table.by_class), v is not None and v == best) for v in means)])
    if rows[0] is table.rows[0] and better:
        above = [f"{better[row.name][0]} of {better[row.name][1]}" if row.name in better else "" for row in rows]
        lines.append([f"above {code(rows[0].name)}", *above])
    return f"## {table.by_class} by class\n\n" + grid(["class", *(code(row.name) for row in rows)], lines)


def _costs(table: Table) -> str:
    lines = [
        [_label(row), duration(content.mean_of(row, "minutes"))]
        + [plain(content.mean_of(row, name), digits) for name, digits in content.COSTS]
        for row in table.rows
        if row.finished
    ]
    header = ["row", "time", "images/s", "memory, GiB", "parameters, M"]
    return "## Cost of a run\n\n" + grid(header, lines) if lines else ""


def _noise(table: Table) -> str:
    found = [(metric, pooled_sd(table.rows, metric)) for metric in table.metrics]
    said = [
        f"{text(metric)} {fine(pooled[0], metric)} ({counted(pooled[1], 'degree')} of freedom)"
        for metric, pooled in found
        if pooled
    ]
    return "Standard deviation between seeds, pooled over rows: " + ", ".join(said) + "." if said else ""


def _differences(table: Table) -> str:
    found = config_differences(table)
    lines = [
        f"{_label(row)}: {', '.join(code(change) for change in found[row.name])}"
        for row in table.rows
        if found.get(row.name)
    ]
    return _listed("What differs in the configs from the first row's", lines)


def _made_by(table: Table) -> str:
    made = [short_commit(commit) for commit in commits(table)]
    parts = [f"## Made by\n\n{_fenced([table.command])}"] if table.command else []
    if made:
        parts.append(f"At {'commits' if len(made) > 1 else 'commit'} {', '.join(code(commit) for commit in made)}.")
    return "\n\n".join(parts)
