"""What `detlab balance` prints."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from detlab.engine.loss_weight import Estimate
from detlab.losses.iou_balanced import W_LOC


def print_estimates(estimates: Sequence[Estimate]) -> None:
    """A line per λ beside the paper's value, and how to use one."""
    table = Table(box=SIMPLE, header_style="bold")
    for title in ("lambda_", "w_loc", "single batches", "paper's"):
        table.add_column(title, justify="right")
    for e in estimates:
        paper = f"{W_LOC[e.lambda_]:g}" if e.lambda_ in W_LOC else "–"
        table.add_row(f"{e.lambda_:g}", f"{e.weight:.3f}", f"{e.low:.3f}–{e.high:.3f}", paper)
    console = Console(highlight=False)
    console.print(table)
    last = estimates[-1]
    print(
        f"Use: loss=iou_balanced_loc loss.localization.lambda_={last.lambda_:g} "
        f"loss.localization.weight={last.weight:.3f}"
    )
