"""`detlab bounds`: what AP a run would have if its detections scored as well as they lie, from saved predictions."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detlab.config.launch import launch
from detlab.errors import UserError

log = logging.getLogger(__name__)

NOTE = (
    "Bounds: in each class the true positives at IoU 0.5 keep their scores and their overlaps, but the best-scored one "
    "lies worst (lower) or best (upper), and so on down. COCO matches detections anew at every IoU, where a second "
    "detection of an object may be right; the bounds match once, at 0.5, as does the second row."
)
COLUMNS = ("rho", "AP", "AP50", "AP75", "AP90")


def bounds(cfg: Any) -> dict[str, dict[str, float]]:
    """Do what `cfg` (conf/bounds.yaml composed) says: row → `COLUMNS` by name, printed and, if wanted, written.

    The rows are the run as it is, and what `detlab.metrics.bounds.bounds_of` makes of it.
    """
    from detlab.config.instantiate import build_source
    from detlab.config.schema import validate
    from detlab.data.datamodule import DetectionDataModule
    from detlab.data.files import write_atomic
    from detlab.data.relabel import fingerprint, relabel
    from detlab.data.transforms import Pipeline
    from detlab.engine.outputs import rounded
    from detlab.metrics.bounds import bounds_of
    from detlab.reporting.saved_predictions import find_predictions, measured, read_predictions

    validate(cfg, "bounds")
    saved = find_predictions(Path(cfg.run))
    data: Any = cfg.get("data") or saved.data
    if data is None:
        raise UserError(f"{saved.file}: it does not say what data it was made on; name them, with data=... and split=.")
    source, unused = build_source(data), Pipeline()
    index = DetectionDataModule(source, unused, unused).index(cfg.split)
    what = f"{source.name} {cfg.split}"
    if data is saved.data and saved.fingerprint not in (None, fingerprint(index)):
        raise UserError(
            f"{saved.file}: its run was tested on other annotations than those of {what} now; name the data and the "
            "split that it was made on, or train again."
        )
    index = relabel(index, saved.classes) if saved.classes else index
    metrics = measured(index, read_predictions(saved.file, index, what))
    rows = {"as it is": metrics.compute(), **bounds_of(*metrics.columns(), len(index.classes))}
    rows = {name: {column: row[column] for column in COLUMNS} for name, row in rows.items()}
    print_bounds(rows, f"{saved.file}: {what}, {len(index)} images")
    if cfg.output:
        numbers = {name: {column: rounded(value) for column, value in row.items()} for name, row in rows.items()}
        content = {"predictions": str(saved.file), "data": source.name, "split": cfg.split, "rows": numbers}
        write_atomic(Path(cfg.output), json.dumps(content, indent=1))
        log.info("Written: %s", cfg.output)
    return rows


def print_bounds(rows: Mapping[str, Mapping[str, float]], title: str) -> None:
    """The table on the terminal, and what its rows are."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    from detlab.reporting.pages.wording import number
    from detlab.reporting.study.table import points

    console = Console(markup=False, emoji=False, highlight=False)
    console.print(title, soft_wrap=True)
    table = Table("", box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for column in COLUMNS:
        table.add_column(column, justify="right")
    for name, row in rows.items():
        table.add_row(name, *(number(row[column] * points(column), column) for column in COLUMNS))
    console.print(table)
    console.print(NOTE, width=min(console.width, 100))


def main() -> None:
    launch("bounds", bounds)


if __name__ == "__main__":
    main()
