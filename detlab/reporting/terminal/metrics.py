"""What `detlab eval` prints."""

from __future__ import annotations

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from detlab.reporting.pages.wording import lower_is_better, number
from detlab.reporting.study.table import points


def print_metrics(metrics: dict[str, float], title: str) -> None:
    """The metric table on the terminal: the summary, then AP and AP50 per class."""

    def cell(name: str) -> str:
        return number(metrics.get(name, float("nan")) * points(name), name)

    console = Console(markup=False, emoji=False, highlight=False)  # class names may hold brackets
    console.print(title)
    names = [name for name in metrics if "/" not in name]
    precision = [name for name in names if points(name) > 1 and not lower_is_better(name)]
    for columns in (precision, [name for name in names if name not in precision]):
        summary = Table(box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)  # fits 80 columns, as in a log
        for name in columns:
            summary.add_column(name, justify="right")
        summary.add_row(*map(cell, columns))
        console.print(summary)
    per_class = Table("class", "AP", "AP50", box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for name in (name for name in metrics if name.startswith("AP/")):
        label = name.removeprefix("AP/")
        per_class.add_row(label, cell(name), cell(f"AP50/{label}"))
    console.print(per_class)
