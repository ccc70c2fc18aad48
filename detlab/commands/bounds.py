"""`detlab bounds`: what AP a run would have if its detections scored as well as they lie, from saved predictions."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from detlab.config.instantiate import build_source
from detlab.config.launch import launch
from detlab.config.schema import validate
from detlab.data.datamodule import DetectionDataModule
from detlab.data.files import write_atomic
from detlab.data.relabel import fingerprint, relabel
from detlab.data.transforms import Pipeline
from detlab.engine.outputs import rounded
from detlab.errors import UserError
from detlab.metrics.bounds import bounds_of
from detlab.reporting.saved_predictions import find_predictions, measured, read_predictions
from detlab.reporting.terminal.bounds import COLUMNS, print_bounds

log = logging.getLogger(__name__)


def bounds(cfg: DictConfig) -> dict[str, dict[str, float]]:
    """Do what `cfg` (conf/bounds.yaml composed) says: row → `COLUMNS` by name, printed and, if wanted, written.

    The rows are the run as it is, and what `detlab.metrics.bounds.bounds_of` makes of it.
    """
    validate(cfg, "bounds")
    saved = find_predictions(Path(cfg.run))
    data = cfg.get("data") or (OmegaConf.create(dict(saved.data)) if saved.data else None)
    if data is None:
        raise UserError(f"{saved.file}: it does not say what data it was made on; name them, with data=... and split=.")
    source, unused = build_source(data), Pipeline()
    index = DetectionDataModule(source, unused, unused).index(cfg.split)
    what = f"{source.name} {cfg.split}"
    if not cfg.get("data") and saved.fingerprint not in (None, fingerprint(index)):
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


def main() -> None:
    launch("bounds", bounds)


if __name__ == "__main__":
    main()
