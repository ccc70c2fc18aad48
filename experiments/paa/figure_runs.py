"""The runs that the figures of PAA are drawn from, and what they recorded of their assignments."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detlab.data.image import read_image
from detlab.engine.callbacks.assignments import FOLDER
from detlab.engine.callbacks.snapshots import Snapshot, read_snapshots
from detlab.errors import UserError
from detlab.reporting.figures.drawing import Runs

PAA = "paa/table1_right/paa_ioupred"
RECORDING = "callbacks=assignments"


class Course(NamedTuple):
    """What became of the assignment in one picture: iterations, a snapshot at each, and the picture itself."""

    name: str
    image: NDArray[np.uint8]
    iterations: list[int]
    snapshots: list[Snapshot]


class Recorded(NamedTuple):
    """A run and its pictures' courses, the picture of one's own last."""

    run: Path
    courses: list[Course]


def recorded(runs: Runs, row: str = PAA, further: str = "") -> Recorded:
    """Of the first seed of `row` that was trained with `callbacks=assignments`.

    further: what else the command should say where there is none. Raises UserError then, with the command.
    """
    found = runs.of([row])[row]
    for run in found:
        files = sorted((Path(run.folder) / FOLDER).glob("*.json"))
        if files:
            return Recorded(Path(run.folder), _courses(files))
    raise UserError(f"{found[0].folder} kept no assignments; train it again with '{again(runs, row, further)}'.")


def again(runs: Runs, row: str = PAA, further: str = "") -> str:
    """The command that trains one seed of `row` so that it keeps its assignments."""
    command = runs.command([row]).replace("train -m ", "train ").replace("seed=0,1,2", "seed=0")
    return f"{command} {RECORDING}{further} overwrite=true"


def _courses(files: list[Path]) -> list[Course]:
    moments = [read_snapshots(file) for file in files]
    courses = []
    for name in moments[-1][2]:
        known = [(iteration, pictures[name]) for iteration, _, pictures in moments if name in pictures]
        image = read_image(files[0].with_name(f"{name}.png"))
        courses.append(Course(name, image, [iteration for iteration, _ in known], [one for _, one in known]))
    return courses
