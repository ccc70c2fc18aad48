"""Figure 4 of certainty-aware pseudo-labels: boxes of two students on the same pictures."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detlab.data.image import read_image
from detlab.data.index import AnnotationIndex
from detlab.errors import UserError
from detlab.metrics.by_iou import best_iou
from detlab.metrics.columns import Found
from detlab.reporting.figures.drawing import Runs
from detlab.reporting.figures.evaluated import evaluated, test_index
from detlab.reporting.figures.picture import Picture
from detlab.visualization.boxes import draw_boxes
from detlab.visualization.sheet import side_by_side

PLAIN, OURS = "certainty/table5/plain", "certainty/table5/ca_re_dt"
ROWS = {PLAIN: "#2f6fde", OURS: "#2e9e44"}  # blue, green
SCORE = 0.5
PICTURES, SIDE = 6, 480  # pixels of the longer side
COLUMNS = ("picture", "row", "class", "score", "iou", "x1", "y1", "x2", "y2")


def figure4(runs: Runs) -> Picture:
    """Test pictures with objects, spread over the whole set, not chosen by what was found in them."""
    found = runs.of(list(ROWS))
    shared = [run.seed for run in found[PLAIN] if run.seed in [other.seed for other in found[OURS]]]
    if not shared:
        raise UserError("the two rows were not trained with the same seed; train one with the other's.")
    first = {row: next(run for run in every if run.seed == shared[0]) for row, every in found.items()}
    index = test_index(first[PLAIN])
    boxes = {}
    for row, run in first.items():
        detections, truth = evaluated(run)
        boxes[row] = (detections, best_iou(detections, truth))
    held = np.unique(index.box_images)
    chosen = held[np.unique(np.linspace(0, len(held) - 1, min(PICTURES, len(held))).astype(int))]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    pictures = []
    for image in chosen.tolist():
        sure = {
            row: np.flatnonzero((d.image == index.ids[image]) & (d.score >= SCORE)) for row, (d, _) in boxes.items()
        }
        pictures.append(_drawn(index, image, {row: boxes[row][0].rows(at) for row, at in sure.items()}))
        for row, at in sure.items():
            detections, overlaps = boxes[row]
            for n in at.tolist():
                numbers = (f"{detections.score[n]:.3f}", f"{overlaps[n]:.3f}", *(f"{v:.1f}" for v in detections.box[n]))
                label = index.classes[int(detections.label[n])]
                writer.writerow([Path(str(index.paths[image])).name, row.rpartition("/")[2], label, *numbers])
    words = (
        f"Test pictures; boxes of score {SCORE} and above. Blue: a student of plain pseudo-labels; green: of "
        f"certainty-aware ones with re-weighting and dynamic thresholds. Seed {shared[0]}."
    )
    return Picture(side_by_side(pictures), buffer.getvalue(), words)


def _drawn(index: AnnotationIndex, image: int, found: dict[str, Found]) -> NDArray[np.uint8]:
    picture = read_image(str(index.paths[image]))
    factor = max(1.0, SIDE / max(picture.shape[:2]))
    size = (round(picture.shape[1] * factor), round(picture.shape[0] * factor))
    canvas = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))
    for row, shade in ROWS.items():
        boxes = found[row]
        canvas = draw_boxes(canvas, boxes.box * factor, boxes.label, None, index.classes, shade=shade, names=False)
    return canvas
