"""What `detlab bounds` prints."""

from __future__ import annotations

from collections.abc import Mapping

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from detlab.reporting.pages.wording import number
from detlab.reporting.study.table import points

NOTE = (
    "Bounds: in each class the true positives at IoU 0.5 keep their scores and their overlaps, but the best-scored one "
    "lies worst (lower) or best (upper), and so on down. COCO matches detections anew at every IoU, where a second "
    "detection of an object may be right; the bounds match once, at 0.5, as does the second row."
)
COLUMNS = ("rho", "AP", "AP50", "AP75", "AP90")


def print_bounds(rows: Mapping[str, Mapping[str, float]], title: str) -> None:
    """The table on the terminal, and what its rows are."""
    console = Console(markup=False, emoji=False, highlight=False)
    console.print(title, soft_wrap=True)
    table = Table("", box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for column in COLUMNS:
        table.add_column(column, justify="right")
    for name, row in rows.items():
        table.add_row(name, *(number(row[column] * points(column), column) for column in COLUMNS))
    console.print(table)
    console.print(NOTE, width=min(console.width, 100))
