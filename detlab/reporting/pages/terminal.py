"""A comparison in the terminal: the table, the claims, and what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from detlab.reporting.pages.content import Gap, ResultRow, failures, gaps, headline, mending, result_rows, with_paper
from detlab.reporting.pages.wording import counted, effect, remarks, t_interval
from detlab.reporting.study.table import Table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as Grid
    from rich.text import Text

COLOURS = {"holds": "green", "fails": "red", "undecided": "yellow"}
GAP = 2  # characters between two columns
WIDE_TITLE, STACKED_TITLE = 30, 20  # characters of a title that make such a table readable
NARROW = 72  # characters under which a claim's numbers stand below it


def new_console() -> Console:
    """Titles, claims and errors are printed as they are: brackets are no markup, numbers get no colour."""
    return Console(markup=False, emoji=False, highlight=False)


def print_comparison(table: Table, console: Console | None = None) -> None:
    """The table (the paper's numbers beside ours, below them where the terminal is narrow), the verdict on each
    claim, failed runs with their sentences, and missing runs with the command that makes them."""
    console = console or new_console()
    console.print(f"\n{table.title}", style="bold", soft_wrap=True)
    console.print(" · ".join(filter(None, [table.source, table.setting])), style="dim", soft_wrap=True)
    rows = result_rows(table)
    widths = _widths(table, rows)
    everything = list(range(len(table.metrics)))
    titles = max((len(row.title) for row in table.rows), default=0)
    names = max((len(row.name) + GAP for row in table.rows if row.name != row.title), default=0)
    seeds = len("2 of 3") + GAP
    if min(titles, WIDE_TITLE) + names + seeds + sum(ours + paper for ours, paper in widths) <= console.width:
        console.print(_wide(table, rows, everything, named=bool(names)))
    else:
        stacked = max((max(ours, paper + len("paper ")) for ours, paper in widths), default=1)
        size = max(1, (console.width - seeds - min(titles, STACKED_TITLE)) // stacked)
        for start in range(0, len(everything), size) or [0]:
            console.print(_stacked(table, rows, everything[start : start + size]))
    if table.verdicts:
        console.print(_claims(table, narrow=console.width < NARROW))
    failed = failures(table)
    _print_gaps(console, "failed", "red", failed, [f"in {gap.folder}" for gap in failed])
    _print_gaps(console, "not there yet", "yellow", gaps(table), [f"→ {command}" for command in mending(table)])
    console.print(headline(table), style="bold", soft_wrap=True)


def _widths(table: Table, rows: list[ResultRow]) -> list[tuple[int, int]]:
    """Of each metric: characters that ours and the paper's column take, with the gap before them."""
    paper = with_paper(table)
    result = []
    for position, metric in enumerate(table.metrics):
        ours = max([len(metric), *(len(row.cells[position].ours) for row in rows)])
        theirs = max([len("paper"), *(len(row.cells[position].paper) for row in rows)])
        result.append((ours + GAP, theirs + GAP if paper[position] else 0))
    return result


def _grid() -> Grid:
    return Grid(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)


def _seeds(result: ResultRow) -> Text:
    return Text(result.seeds, style="" if result.seeds == str(len(result.row.runs)) else "yellow")


def _wide(table: Table, rows: list[ResultRow], positions: list[int], *, named: bool) -> Grid:
    paper = with_paper(table)
    grid = _grid()
    grid.add_column("row", overflow="fold")
    if named:
        grid.add_column("name", no_wrap=True, style="dim", header_style="dim")
    grid.add_column("seeds", no_wrap=True)
    for position in positions:
        grid.add_column(table.metrics[position], justify="right", no_wrap=True)
        if paper[position]:
            grid.add_column("paper", justify="right", no_wrap=True, style="dim", header_style="dim")
    for result in rows:
        line = [Text(result.row.title), *([Text(result.row.name)] if named else []), _seeds(result)]
        for position in positions:
            cell = result.cells[position]
            line.append(Text(cell.ours, style="bold" if cell.best else ""))
            if paper[position]:
                line.append(Text(cell.paper, style="bold" if cell.best_paper else ""))
        grid.add_row(*line)
    return grid


def _stacked(table: Table, rows: list[ResultRow], positions: list[int]) -> Grid:
    grid = _grid()
    grid.add_column("row", overflow="fold")
    grid.add_column("seeds", no_wrap=True)
    for position in positions:
        grid.add_column(table.metrics[position], justify="right", no_wrap=True)
    for result in rows:
        title = Text(result.row.title)
        if result.row.name != result.row.title:
            title.append(f"\n{result.row.name}", style="dim")
        line = [title, _seeds(result)]
        for position in positions:
            cell = result.cells[position]
            ours = Text(cell.ours, style="bold" if cell.best else "")
            if cell.paper:
                ours.append(f"\npaper {cell.paper}", style="not bold dim")
            line.append(ours)
        grid.add_row(*line)
    return grid


def _claims(table: Table, *, narrow: bool) -> Grid:
    grid = _grid()
    grid.add_column("claim", overflow="fold")
    grid.add_column("verdict", no_wrap=True)
    for name in () if narrow else ("difference", "95 % bootstrap", "95 % t", "seeds"):
        grid.add_column(name, justify="right", no_wrap=True)
    for verdict in table.verdicts:
        numbers = [*effect(verdict), t_interval(verdict), str(verdict.seeds)]
        below = remarks(verdict)
        if narrow:
            below.insert(0, f"{numbers[0]} {numbers[1]}, t {numbers[2]}, {counted(verdict.seeds, 'seed')}")
        claim = Text(verdict.claim)
        for words in below:
            claim.append(f"\n{words}", style="dim")
        grid.add_row(claim, Text(verdict.decision, style=COLOURS[verdict.decision]), *([] if narrow else numbers))
    return grid


def _print_gaps(console: Console, title: str, colour: str, found: list[Gap], below: list[str]) -> None:
    if not found:
        return
    console.print(title, style=f"bold {colour}")
    for gap in found:
        console.print(f"  {gap.row.title}, {gap.words}", soft_wrap=True)
    for line in below:
        console.print(f"  {line}", style="dim", soft_wrap=True)
    console.print()


def print_index(tables: Sequence[Table], console: Console | None = None) -> None:
    """What came out of each of several tables, a line each."""
    console = console or new_console()
    console.print()
    for table in tables:
        console.print(f"{table.name}: {headline(table)}", soft_wrap=True)
