"""What `detlab anchors` prints."""

from __future__ import annotations

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from detlab.models.anchor_clusters import AnchorShapes


def print_anchor_shapes(found: AnchorShapes) -> None:
    """A line per level, how well the shapes fit, and how to use them."""
    table = Table(box=SIMPLE, header_style="bold")
    for title in ("stride", "anchors (width × height, pixels)", "boxes nearest"):
        table.add_column(title, justify="right")
    for level, shapes, boxes in zip(found.levels, found.shapes, found.boxes):
        text = ", ".join(f"{w} × {h}" for w, h in shapes)
        table.add_row(str(2**level), text, ", ".join(map(str, boxes)))
    console = Console(highlight=False)
    console.print(table)
    print(
        f"Mean best IoU {found.iou:.3f}, above 0.5 for {found.matched:.1%} of the boxes; "
        f"with the config's anchors {found.iou_now:.3f}, {found.matched_now:.1%}."
    )
    text = ",".join("[" + ",".join(f"[{w},{h}]" for w, h in level) + "]" for level in found.shapes)
    print(f"Use: detector.anchors.shapes=[{text}] detector.anchors.shrink=1.0")
