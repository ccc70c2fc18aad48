"""What a finished run found on its test pictures, beside their ground truth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from detlab.data.index import AnnotationIndex
from detlab.errors import UserError
from detlab.metrics.coco_json import predictions_from_coco
from detlab.metrics.columns import Found, Truth
from detlab.runs import RunFolder
from detlab.study.table import Run


def evaluated(run: Run) -> tuple[Found, Truth]:
    """Detections and ground truth of the run's test pictures, in pixels of the files.

    Detections and objects of classes that a picture's annotators did not look for are left out. Raises UserError where
    `predictions.json` or the data cannot be read, and for predictions on other pictures.
    """
    path = RunFolder(run.folder).predictions
    try:
        records = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} is not there; evaluate the run again: detlab eval ckpt_path={run.folder}.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); train the run again with overwrite=true.") from error
    index = _test_index(json.dumps(run.config.get("data")))
    found = _found(predictions_from_coco(records, index.class_ids.tolist(), str(path)))
    order = np.argsort(index.ids)
    places = np.searchsorted(index.ids, found.image, sorter=order)
    rows = order[np.minimum(places, len(order) - 1)]
    if (index.ids[rows] != found.image).any():
        raise UserError(f"{path} speaks of pictures that are not in the run's test data; the data has changed since.")
    looked_for = index.annotated[index.sources]  # [images, C]
    owner = np.repeat(np.arange(len(index)), index.counts)
    truth = Truth(
        index.ids[owner],
        index.labels.astype(np.int64),
        index.boxes.astype(np.float64),
        index.ignore,
        index.areas.astype(np.float64),
    )
    return found.rows(looked_for[rows, found.label]), truth.rows(looked_for[owner, truth.label])


@lru_cache(maxsize=4)
def _test_index(data: str) -> AnnotationIndex:
    """The test annotations of a run's group `data`, read once for all runs on the same."""
    from omegaconf import OmegaConf

    from detlab.build import build_source
    from detlab.data.datamodule import DetectionDataModule

    source: Any = OmegaConf.create(json.loads(data))
    return DetectionDataModule(build_source(source), _no_transform, _no_transform).test_index


def _no_transform(*_: Any) -> Any:
    raise AssertionError("only annotations are read")


def _found(detections: dict[int, Any]) -> Found:
    def column(parts: Sequence[Any], dtype: Any, *shape: int) -> Any:
        return np.concatenate([np.empty((0, *shape), dtype), *(np.asarray(part, dtype) for part in parts)])

    values = list(detections.values())
    counts = [len(each.scores) for each in values]
    return Found(
        np.repeat(np.array(list(detections), np.int64), counts),
        column([each.labels for each in values], np.int64),
        column([each.boxes for each in values], np.float64, 4),
        column([each.scores for each in values], np.float64),
    )
