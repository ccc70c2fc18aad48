"""What every evaluation measures over a data set, as a torchmetrics metric: AP, optimal LRP, rank correlation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from detlab.metrics.coco_ap import AREAS, IOU_THRESHOLDS, RECALL_THRESHOLDS, CocoCurves, coco_curves
from detlab.metrics.coco_match import match, ranked_classes
from detlab.metrics.columns import mean_of_known
from detlab.metrics.olrp import optimal_lrp
from detlab.metrics.rank_correlation import rank_correlations
from detlab.metrics.states import ColumnMetric
from detlab.metrics.voc_ap import Points, voc_ap
from detlab.structures import Detections, Targets


class DetectionMetrics(ColumnMetric):
    """COCO's average precision and VOC's, optimal LRP and ρ, over everything seen since the last `reset`.

    `compute` returns, as plain floats: ``AP`` (mean over IoU 0.50:0.05:0.95), ``AP50 AP60 AP70 AP75 AP80
    AP90``, ``APs APm APl`` (areas below 32², between, above 96² square pixels), ``AR100``, ``mAP_voc`` (IoU
    0.5), ``oLRP oLRP_Loc oLRP_FP oLRP_FN`` (lower is better; see `optimal_lrp`), ``rho`` (rank correlation of score
    and IoU over the true positives at IoU 0.5, −1..1, mean over classes), and ``AP/<class>``, ``AP50/<class>`` for
    each class. What has no ground truth is nan and left out of every mean.

    torchmetrics gives state, synchronisation and reset, faster_coco_eval the matching, as in torchmetrics' own
    `MeanAveragePrecision(backend="faster_coco_eval")`. That class is not used because it keeps small tensors
    per image, each gathered by itself under DDP; runs the whole evaluation once more for values per class; and
    keeps the precision array from which AP60 … AP90 come behind an extended summary that also copies every
    IoU. Here the states are ten columns and COCO's values are means over slices of one precision array.

    Detections of a class that an image's annotators did not look for (`Targets.annotated`) are left out:
    nobody knows whether they are right.

    classes: the names, in the order of the labels. voc_points: "area" (VOC 2010 on) or "11" (VOC 2007).
    """

    full_state_update = False
    higher_is_better = True
    is_differentiable = False

    def __init__(self, classes: Sequence[str], voc_points: Points = "area", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.classes = tuple(str(name) for name in classes)
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise ValueError(f"Expected class names, all different, got {self.classes}.")
        if voc_points not in ("area", "11"):
            raise ValueError(f"Expected voc_points 'area' or '11', got {voc_points!r}.")
        self.voc_points: Points = voc_points
        self._curves: CocoCurves | None = None

    def update(
        self,
        detections: list[Detections],
        targets: list[Targets],
        areas: list[Tensor] | None = None,
        image_ids: Tensor | None = None,
    ) -> None:
        """Add images: detections and ground truth in the pixels of the original files.

        areas: float ``[G]`` per image, the objects' annotated areas (COCO: of the mask); None: of the boxes.
        image_ids: int64 ``[B]``; an image that comes twice (a distributed sampler fills up its last round
        with repetitions) then counts once, and equal scores are ordered the same on any number of processes.
        """
        if len(detections) != len(targets) or (areas is not None and len(areas) != len(targets)):
            raise ValueError(
                f"Expected detections, targets and areas of the same images, got {len(detections)}, "
                f"{len(targets)} and {'None' if areas is None else len(areas)}."
            )
        if image_ids is not None and len(image_ids) != len(targets):
            raise ValueError(f"Expected an id for each of {len(targets)} images, got {len(image_ids)}.")
        if not targets:
            return
        kept_found = [t.annotated[d.labels] for d, t in zip(detections, targets)]
        kept_truth = [t.annotated[t.labels] for t in targets]
        self.add(
            [(d.boxes[keep], d.scores[keep], d.labels[keep]) for d, keep in zip(detections, kept_found)],
            [(t.boxes[keep], t.labels[keep], t.ignore[keep]) for t, keep in zip(targets, kept_truth)],
            None if areas is None else [area[keep] for area, keep in zip(areas, kept_truth)],
            image_ids,
        )

    def compute(self) -> dict[str, float]:
        """All values by name; see the class."""
        found, truth = self.columns()
        for what, label in (("a detection", found.label), ("a target", truth.label)):
            if len(label) and not (label.min() >= 0 and label.max() < len(self.classes)):
                raise ValueError(
                    f"Expected labels in 0..{len(self.classes) - 1}, got {label.min()}..{label.max()} in {what}."
                )
        self._curves = curves = coco_curves(found, truth, len(self.classes))
        precision = curves.precision
        values = {"AP": mean_of_known(precision[..., 0])}
        for iou in (50, 60, 70, 75, 80, 90):
            values[f"AP{iou}"] = mean_of_known(precision[_row(iou / 100), ..., 0])
        for position, area in enumerate(AREAS[1:], 1):
            values[f"AP{area[0]}"] = mean_of_known(precision[..., position])
        values["AR100"] = mean_of_known(curves.recall[..., 0])
        values["mAP_voc"] = mean_of_known(voc_ap(found, truth, len(self.classes), points=self.voc_points))
        ranked = list(ranked_classes(found, truth, match(found, truth)))
        values |= optimal_lrp(ranked, len(self.classes)).means()
        values["rho"] = mean_of_known(rank_correlations(ranked, len(self.classes)))
        for k, name in enumerate(self.classes):
            values[f"AP/{name}"] = mean_of_known(precision[:, :, k, 0])
            values[f"AP50/{name}"] = mean_of_known(precision[0, :, k, 0])
        return values

    def pr_curves(self, iou: float = 0.5) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """class → (recall ``[101]``, precision ``[101]``) of classes with ground truth; iou: 0.5, 0.55, …, 0.95.

        Computes if `compute` has not run since the last `update`; under DDP call it on every process.
        """
        self.compute()
        assert self._curves is not None
        precision = self._curves.precision[_row(iou), :, :, 0]
        return {
            name: (RECALL_THRESHOLDS.copy(), precision[:, k].copy())
            for k, name in enumerate(self.classes)
            if not np.isnan(precision[:, k]).any()
        }


def _row(iou: float) -> int:
    return int(np.argmin(np.abs(IOU_THRESHOLDS - iou)))
