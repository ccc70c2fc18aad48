"""`detlab check`: what is in a data set, and every problem in it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from detlab.config.launch import launch

log = logging.getLogger(__name__)


def check(cfg: Any) -> int:
    """Read the splits of `cfg.data`, print a summary and the problems of each, write the histograms.

    Returns 1 when errors remain, else 0 (the exit status). Nothing of the user's is changed.
    """
    from detlab.config.instantiate import build_source
    from detlab.config.schema import validate
    from detlab.data.checks.check_index import empty_split, find_problems
    from detlab.data.checks.findings import partly_labelled, seen_in_training
    from detlab.data.checks.problems import Split
    from detlab.engine.logs import quiet

    validate(cfg, "check")
    quiet()
    source = build_source(cfg.data)
    splits: list[Split] = ["train", "val", "test"] if cfg.split == "all" else [cfg.split]
    errors = 0
    seen: set[bytes] = set()
    train = None
    for split in splits:
        index, unread = source.load(split)
        identity = index.paths.tobytes() + index.boxes.tobytes()
        if identity in seen:  # the same images stand in for another split
            if train is not None and identity == train.paths.tobytes() + train.boxes.tobytes():
                log.warning("%s: these are the training images; what is measured on them says little.", split)
            continue
        seen.add(identity)
        empty = [] if len(index) else [empty_split(source.name, split)]
        partly = [] if split == "train" else partly_labelled(index, split)
        compared = train if cfg.images == "full" else None
        known = seen_in_training(index, compared) if compared is not None else ()
        train = index if split == "train" else train
        problems = [*unread, *empty, *partly, *known, *find_problems(index, read_images=cfg.images)]
        errors += sum(p.severity == "error" for p in problems)
        print_split(split, index, problems, cfg.show, _complete(source, split))
        if cfg.output:
            draw_histograms(index, Path(cfg.output) / source.name / split)
    if cfg.output:
        log.info("Histograms: %s", Path(cfg.output) / source.name)
    for note in getattr(source, "notes", list)() if "train" in splits else ():
        log.info("%s.", note)
    count = f"{errors} error{'s' * (errors > 1)}"
    log.info("%s", f"{count}: mend the files, or train with data.on_error=skip_box." if errors else "No errors.")
    return 1 if errors else 0


def _complete(source: Any, split: str) -> Any:
    """The fully labelled version of a split, or None."""
    offered = getattr(source, "complete", None)
    found = offered(split) if offered else None
    return found[0] if found else None


def print_split(split: str, index: Any, problems: list[Any], show: int, complete: Any = None) -> None:
    """The summary, the classes and the problems of one split, as tables. complete: the same images fully labelled."""
    import numpy as np
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, emoji=False, highlight=False)  # class names may hold brackets
    console.print(f"\n{split}: {index.describe()}", style="bold")
    labelled = index.annotated.any(1)[index.sources]
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
        quantiles = [0, 50, 100]
        table = Table("", "least", "median", "most")
        sides = (index.boxes[:, 2:] - index.boxes[:, :2]).clip(min=0)
        rows = {
            "image width": index.widths, "image height": index.heights, "boxes per image": index.counts,
            "box width": sides[:, 0], "box height": sides[:, 1],
        }  # fmt: skip
        for name, values in rows.items():
            if len(values):
                table.add_row(name, *(f"{q:.6g}" for q in np.nanpercentile(values, quantiles)))
        console.print(table)
        console.print(class_table(index, complete))
    kinds: dict[tuple[str, str], list[Any]] = {}
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


def _rarest(index: Any, shown: int = 5) -> str:
    """The classes with the fewest objects, in words."""
    import numpy as np

    counts = np.bincount(index.labels[~index.ignore], minlength=len(index.classes))
    rarest = np.argsort(counts, kind="stable")[:shown]
    return "Rarest classes: " + ", ".join(f"{index.classes[label]} ({counts[label]:,})" for label in rarest) + "."


def class_table(index: Any, complete: Any = None) -> Any:
    """Boxes and images per class, of a merge also per source that looked for any ("–": not looked for); and where
    `complete` has more boxes, how many are missing."""
    from rich.table import Table

    from detlab.data.sources.merge_counts import missing_labels, source_counts

    counts = source_counts(index)
    shown = index.annotated.any(1).nonzero()[0].tolist()
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


def draw_histograms(index: Any, folder: Path) -> None:
    """Boxes per class, box sizes and boxes per image as `<folder>/*.png`."""
    from detlab.data.files import write_atomic
    from detlab.visualization import boxes_per_image, class_histogram, png_bytes, size_histogram

    index = index.select(index.annotated.any(1)[index.sources])
    if not len(index.boxes):
        return
    for name, figure in (
        ("classes", class_histogram(index.labels, index.classes)),
        ("sizes", size_histogram(index.boxes)),
        ("boxes_per_image", boxes_per_image(index.counts)),
    ):
        write_atomic(folder / f"{name}.png", png_bytes(figure))


def main() -> None:
    launch("check", check)


if __name__ == "__main__":
    main()
