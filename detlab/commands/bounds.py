"""`detlab bounds`: what AP a run would have if its detections scored as well as they lie, from saved predictions."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from detlab.config.launch import launch
from detlab.errors import UserError

if TYPE_CHECKING:
    from detlab.data.index import AnnotationIndex
    from detlab.metrics.mean_ap import DetectionMetrics
    from detlab.structures import Detections

log = logging.getLogger(__name__)

NOTE = (
    "Bounds: in each class the true positives at IoU 0.5 keep their scores and their overlaps, but the best-scored one "
    "lies worst (lower) or best (upper), and so on down. COCO matches detections anew at every IoU, where a second "
    "detection of an object may be right; the bounds match once, at 0.5, as does the second row."
)
COLUMNS = ("rho", "AP", "AP50", "AP75", "AP90")


class Saved(NamedTuple):
    """Predictions on disk: the file, and of the run that made them, as far as that is known, the classes, the config of
    its data and their fingerprint."""

    file: Path
    classes: list[str] | None = None
    data: Any = None
    fingerprint: str | None = None


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

    validate(cfg, "bounds")
    saved = find_predictions(Path(cfg.run))
    data = cfg.get("data") or saved.data
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


def find_predictions(path: Path) -> Saved:
    """The predictions of a run's folder or in a file. A file in a run's folder is that run's, on its own data; of one
    further down, as `detlab eval` leaves them, only the classes are. Raises UserError where there are none."""
    from omegaconf import OmegaConf

    from detlab.engine.run_folder import RunFolder

    file = RunFolder(path).predictions if path.is_dir() else path
    if not file.is_file():
        mend = "the run has not come to its end yet, or this is no run" if path.is_dir() else "there is no such file"
        raise UserError(f"{file}: {mend}; give the folder of a finished run or a file of COCO results.")
    folders = [RunFolder(folder) for folder in [file.parent, *file.absolute().parent.parents][:3]]
    run = next((folder for folder in folders if folder.config.is_file()), None)
    if run is None:
        return Saved(file)
    metrics = run.read_metrics()
    data = run.read_config().get("data") if run is folders[0] else None
    data = OmegaConf.create(data) if isinstance(data, dict) else None
    return Saved(file, metrics.get("classes"), data, metrics.get("dataset", {}).get("test"))


def read_predictions(file: Path, index: AnnotationIndex, what: str) -> dict[int, Detections]:
    """Detections by image id. Raises UserError for a file that holds none or whose images `index` lacks."""
    from detlab.metrics.coco_json import predictions_from_coco
    from detlab.reporting.pages.files import read_text

    try:
        records = json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise UserError(f"{file}, line {error.lineno}: this is no valid JSON ({error.msg}).") from None
    if not isinstance(records, list):
        raise UserError(f"{file}: expected a list of COCO results, got {type(records).__name__}.")
    found = predictions_from_coco(records, index.class_ids.tolist(), str(file))
    if strange := sorted(found.keys() - set(index.ids.tolist())):
        raise UserError(
            f"{file}: {len(strange)} of its {len(found)} images are not in {what} (the first is id {strange[0]}); name "
            "the data and the split that it was made on."
        )
    return found


def measured(index: AnnotationIndex, found: Mapping[int, Detections]) -> DetectionMetrics:
    """The metrics of all images of `index`, those without a detection among them."""
    import torch

    from detlab.metrics.mean_ap import DetectionMetrics
    from detlab.structures import Detections

    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    rows = range(len(index))
    metrics = DetectionMetrics(index.classes)
    metrics.update(
        [found.get(image, nothing) for image in index.ids.tolist()],
        [index.targets(row) for row in rows],
        [torch.from_numpy(index.areas[index.boxes_of(row)]) for row in rows],
        torch.from_numpy(index.ids),
    )
    return metrics


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
