"""Figure 3 of the proxy pseudo-labels (Abbasi et al. 2020)."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from detlab.data.image import read_image
from detlab.errors import UserError
from detlab.reporting.figures.drawing import Figures, Runs
from detlab.reporting.figures.picture import Picture
from detlab.reporting.study.table import Run
from detlab.visualization.sheet import side_by_side

PROXY = "proxy/table1/proxy"
WATCHED = ("labels_per_image", "precision", "recall")


def figure3(runs: Runs) -> Picture:
    """Labels and pseudo-labels on the training pictures that a run watched, as they were at its last validation."""
    run = runs.of([PROXY])[PROXY][0]
    files = sorted((Path(run.folder) / "figures").glob("pseudo_*.png"))
    if not files:
        command = runs.command([PROXY]).replace("train -m ", "train ").replace("seed=0,1,2", f"seed={run.seed}")
        again = f"train it again with '{command} overwrite=true'"
        raise UserError(f"{run.folder} kept no pictures of pseudo-labels; {again}.")
    words = (
        "Training pictures, not augmented, at the end of one training: green what the annotators labelled, violet the "
        "pseudo-labels; the numbers beside it are of all pictures that were watched."
    )
    return Picture(side_by_side([read_image(str(file)) for file in files]), _course(run), words)


def _course(run: Run) -> str:
    """A row per validation: how many pseudo-labels a picture had, and, where the truth is known, how good they were."""
    columns = {name: run.history[f"pseudo/{name}"] for name in WATCHED if f"pseudo/{name}" in run.history}
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["iteration", *columns])
    for row in np.flatnonzero(np.any([np.isfinite(column) for column in columns.values()], axis=0)):
        writer.writerow([int(run.history["step"][row]), *(f"{column[row]:.4g}" for column in columns.values())])
    return buffer.getvalue()


FIGURES: Figures = {"figure3": figure3}
