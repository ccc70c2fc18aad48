"""What `detlab check` prints of a split."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from detlab.data.checks.problems import Problem
from detlab.data.index import AnnotationIndex
from detlab.data.sources.merge_counts import missing_labels, source_counts


def print_split(
    split: str,
    index: AnnotationIndex,
    problems: Sequence[Problem],
    show: int,
    complete: AnnotationIndex | None = None,
) -> None:
    """The summary, the classes and the problems of one split, as tables.

    Args:
        split: Its name.
        index: Its annotations.
        problems: What is wrong with them.
        show: Problems of a kind that are told one by one.
        complete: The same images fully labeled.
    """
    console = Console(markup=False, emoji=False, highlight=False)  # class names may hold brackets
    console.print(f"\n{split}: {index.describe()}", style="bold")
    labelled = index.annotated[index.sources].any(1)
    if not labelled.all():
        count = int(labelled.sum())
        console.print(
            f"{count:,} images are labelled, {len(index) - count:,} are not; what follows is of the labelled."
        )
        withheld = None if complete is None else complete.select(~labelled)
        index, complete = index.select(labelled), None if complete is None else complete.select(labelled)
        if index.classes:
            console.print(_rarest(index))
        if withheld is not None:
            console.print(f"{len(withheld.boxes):,} labels of the unlabelled images are withheld from training.")
    if len(index):
        console.print(_size_table(index))
        console.print(class_table(index, complete))
    _print_problems(console, problems, show)


def _size_table(index: AnnotationIndex) -> Table:
    quantiles = [0, 50, 100]
    table = Table("", "least", "median", "most")
    sides = (index.boxes[:, 2:] - index.boxes[:, :2]).clip(min=0)
    rows: dict[str, NDArray[np.number]] = {
        "image width": index.widths, "image height": index.heights, "boxes per image": index.counts,
        "box width": sides[:, 0], "box height": sides[:, 1],
    }  # fmt: skip
    for name, values in rows.items():
        if len(values):
            table.add_row(name, *(f"{q:.6g}" for q in np.nanpercentile(values, quantiles)))
    return table


def _print_problems(console: Console, problems: Sequence[Problem], show: int) -> None:
    kinds: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        kinds.setdefault((problem.severity, problem.kind), []).append(problem)
    for (severity, kind), group in sorted(kinds.items()):
        colour = "red" if severity == "error" else "yellow"
        console.print(f"{severity}: {len(group)} × {kind}", style=colour)
        for problem in group[:show]:
            where = f"{problem.file}, {problem.record}" if problem.record else problem.file
            console.print(f"  {where}: {problem.message}", soft_wrap=True)
        if len(group) > show:
            console.print(f"  … and {len(group) - show} more (show={len(group)} prints all)")


def _rarest(index: AnnotationIndex, shown: int = 5) -> str:
    """The classes with the fewest objects, in words."""
    counts = np.bincount(index.labels[~index.ignore], minlength=len(index.classes))
    rarest = np.argsort(counts, kind="stable")[:shown]
    return "Rarest classes: " + ", ".join(f"{index.classes[label]} ({counts[label]:,})" for label in rarest) + "."


def class_table(index: AnnotationIndex, complete: AnnotationIndex | None = None) -> Table:
    """Boxes and images per class, of a merge also per source that looked for any ("–": not looked for); and where
    `complete` has more boxes, how many are missing."""
    counts = source_counts(index)
    shown = np.flatnonzero(index.annotated.any(1)).tolist()
    several = len(shown) > 1
    missing = None if complete is None else missing_labels(index, complete)
    if missing is not None and not missing.missing.any():
        missing = None
    names = {source: index.source_names[source] for source in shown} if several else {}
    table = Table("class", "boxes", "images", *names.values(), *(["missing", "of"] if missing else []))
    caption = "per source: boxes / images, –: not looked for"
    if complete is None and not counts.looked_for[shown].all():
        caption += "; how many there are would be told by data.complete, the same images fully labelled"
    table.caption = caption if several else None
    for label, name in enumerate(index.classes):
        cells = [str(counts.boxes[:, label].sum()), str(counts.images[:, label].sum())]
        for source in names:
            seen = f"{counts.boxes[source, label]} / {counts.images[source, label]}"
            cells.append(seen if counts.looked_for[source, label] else "–")
        if missing:
            cells += [f"{missing.rates[label]:.1%}", str(missing.complete[label])]
        table.add_row(name, *cells)
    if several or missing:
        table.add_section()
        totals = [f"{counts.boxes[source].sum()} / {counts.total[source]}" for source in names]
        rest = [f"{missing.rate:.1%}", str(missing.complete.sum())] if missing else []
        table.add_row("all", str(len(index.boxes)), str(len(index)), *totals, *rest)
    return table
