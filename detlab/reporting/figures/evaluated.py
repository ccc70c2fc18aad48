"""What a finished run found on its test pictures, beside their ground truth."""

from __future__ import annotations

import json
from functools import lru_cache

from detlab.config.instantiate import build_source
from detlab.data.datamodule import DetectionDataModule
from detlab.data.index import AnnotationIndex
from detlab.data.relabel import fingerprint
from detlab.data.transforms import Pipeline
from detlab.errors import UserError
from detlab.metrics.columns import Found, Truth
from detlab.reporting.saved_predictions import find_predictions, measured, read_predictions
from detlab.reporting.study.table import Run


def evaluated(run: Run) -> tuple[Found, Truth]:
    """Detections and ground truth of the run's test pictures, in pixels of the files.

    Detections and objects of classes that a picture's annotators did not look for are left out. Raises UserError where
    `predictions.json` or the data cannot be read, and where the test pictures are others now.
    """
    file = find_predictions(run.folder).file
    index, known = _test_index(_data(run))
    if run.result.get("dataset", {}).get("test") not in (None, known):
        raise UserError(
            f"{run.folder} was tested on other annotations than those that its config leads to now; bring them back, "
            "or train it again with overwrite=true."
        )
    return measured(index, read_predictions(file, index, "the run's test data")).columns()


def test_index(run: Run) -> AnnotationIndex:
    """The annotations of the run's test pictures."""
    return _test_index(_data(run))[0]


def _data(run: Run) -> str:
    return json.dumps(run.config["data"], sort_keys=True)


@lru_cache(maxsize=4)
def _test_index(data: str) -> tuple[AnnotationIndex, str]:
    """The test annotations of a run's group `data` and their fingerprint, read once for all runs on the same."""
    index = DetectionDataModule(build_source(json.loads(data)), Pipeline(), Pipeline()).test_index
    return index, fingerprint(index)
