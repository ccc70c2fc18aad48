"""What AP tested detections would have if they scored as well, or as badly, as they lie (Oksuz et al. 2020, §5.2)."""

from __future__ import annotations

from typing import Any

from lightning import Callback

from detlab.losses.normalizer import process_count
from detlab.metrics.bounds import bounds_of
from detlab.metrics.mean_ap import DetectionMetrics

COLUMNS = ("AP", "AP75", "AP90")
ENDS = {"lower": "lower bound", "upper": "upper bound"}


class CorrelationBounds(Callback):
    """Adds to what a test measures ``AP_lower AP75_lower AP90_lower`` and ``AP_upper AP75_upper AP90_upper``, bounds of
    `detlab.metrics.bounds.bounds_of`: AP if, in each class, the true positives' overlaps were dealt out anew so that
    the best-scored one lies worst, or best. `detlab bounds` tells the same of saved predictions.
    """

    def on_test_epoch_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        """Comes before the module's own, which forgets the detections."""
        metrics: DetectionMetrics = pl_module.evaluation.metrics["test_metrics"]
        several = process_count() > 1
        with metrics.sync_context(should_sync=several, should_unsync=several):
            rows = bounds_of(*metrics.columns(), len(metrics.classes))
        values = {f"test/{column}_{end}": rows[row][column] for end, row in ENDS.items() for column in COLUMNS}
        pl_module.log_dict(values, sync_dist=False)
