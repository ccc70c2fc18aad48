"""Figure 3 of certainty-aware pseudo-labels: how well the teachers' boxes sit in images without labels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from detlab.config.load_run import load_finished
from detlab.errors import UserError
from detlab.metrics.by_iou import best_iou, share_reaching
from detlab.metrics.coco_ap import IOU_THRESHOLDS
from detlab.metrics.columns import Found
from detlab.pseudo_labels.detected import withheld
from detlab.reporting.figures.drawing import Drawing, Runs, beside_and_change, seeds
from detlab.reporting.study.table import Run

PLAIN, INTERVALS = "certainty/teachers/plain", "certainty/teachers/intervals"
NAMES = {PLAIN: "class score", INTERVALS: "class score and certainty"}
STUDENTS = {PLAIN: "certainty/table5/plain", INTERVALS: "certainty/table5/ca_re_dt"}
IMAGES = 1000  # at most so many, spread over those without labels


def figure3(runs: Runs) -> Drawing:
    """Which share of the boxes that a teacher is sure of, as its students count it, reaches an IoU with a withheld
    object of its class."""
    rows = [PLAIN, INTERVALS]
    found, learned = runs.of(rows), runs.of(list(STUDENTS.values()))
    tau = {row: float(learned[STUDENTS[row]][0].config["pseudo"]["tau"]) for row in rows}
    sure = {row: [sure_boxes(run, tau[row]) for run in found[row]] for row in rows}
    shares = {row: np.array([100 * share_reaching(each.iou, IOU_THRESHOLDS) for each in sure[row]]) for row in rows}
    panels = beside_and_change(
        found, NAMES, IOU_THRESHOLDS, shares,
        ("Pseudo-boxes that reach an IoU", "Change from the class score alone"),
        ("IoU threshold", "share of pseudo-boxes, %", "difference, percentage points"),
    )  # fmt: skip
    counts = " and ".join(
        f"{np.mean([each.per_image for each in sure[row]]):.1f} by {NAMES[row]} of at least {tau[row]:g}"
        for row in rows
    )
    return Drawing(
        panels,
        f"Boxes of teachers that reach their students' thresholds in unlabeled images, {seeds(found)}: of an image "
        f"{counts}. Fewer boxes are surer ones.",
    )


class Sure(NamedTuple):
    """iou ``[N]``: of each box with the withheld object of its class that it overlaps most, see `best_iou`; per_image:
    how many there are, the mean."""

    iou: NDArray[np.float64]
    per_image: float


def sure_boxes(run: Run, tau: float) -> Sure:
    """The boxes of score `tau` and above in unlabeled images. Raises UserError where nobody knows what was
    withheld."""
    data: dict[str, object] = {**run.config["data"], "only": None}
    finished = load_finished(str(run.folder), torch.device("cpu"), {"data": data})
    every, complete = finished.data.train_index, finished.data.complete("train")
    rows = np.flatnonzero(~np.any(every.annotated, axis=1)[every.sources])
    if complete is None or not len(rows):
        raise UserError(f"{run.folder}: there are no unlabeled images, or nobody knows their labels.")
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(IMAGES, len(rows))).astype(int))]
    index = every.select(rows)
    truth = withheld(index, complete.select(rows))
    detections = finished.look(index)
    parts = [
        (np.full(len(d.scores), row), d.labels.numpy(), d.boxes.double().numpy(), d.scores.double().numpy())
        for row, d in ((row, detections[i]) for row, i in enumerate(index.ids.tolist()) if i in detections)
    ]
    if not parts:
        raise UserError(f"{run.folder}: none of its unlabeled images can be read.")
    found = Found(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    sure = found.rows(found.score >= tau)
    return Sure(best_iou(sure, truth), len(sure.score) / len(parts))
