"""Predictions that a run left on disk, and the metrics of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from detlab.data.index import AnnotationIndex
from detlab.engine.run_folder import RunFolder
from detlab.errors import UserError
from detlab.metrics.coco_json import predictions_from_coco
from detlab.metrics.mean_ap import DetectionMetrics
from detlab.reporting.files import Content, read_text
from detlab.structures import Detections


class Saved(NamedTuple):
    """Predictions on disk: the file, and of the run that made them, as far as that is known, the classes, the config of
    its data and their fingerprint."""

    file: Path
    classes: list[str] | None = None
    data: Content | None = None
    fingerprint: str | None = None


def find_predictions(path: Path) -> Saved:
    """The predictions of a run's folder or in a file. A file in a run's folder is that run's, on its own data; of one
    further down, as `detlab eval` leaves them, only the classes are. Raises UserError where there are none."""
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
    data = data if isinstance(data, dict) else None
    return Saved(file, metrics.get("classes"), data, metrics.get("dataset", {}).get("test"))


def read_predictions(file: Path, index: AnnotationIndex, what: str) -> dict[int, Detections]:
    """Detections by image id. Raises UserError for a file that holds none or whose images `index` lacks."""
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
