"""Figures 4a, 6 and 7 of PAA: which anchors answer for an object as training proceeds."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detlab.engine.callbacks.assignments import OWN
from detlab.engine.callbacks.snapshots import Snapshot, of_object
from detlab.errors import UserError
from detlab.reporting.figures.drawing import Runs
from detlab.reporting.figures.picture import Picture
from detlab.visualization.assigned import Cell, assignment_sheet
from detlab.visualization.mixtures import STATES

from .figure_runs import Course, again, recorded

PICTURES = 2  # of Fig. 6
COLUMNS = (
    "picture", "iteration", "object", "judged", "cost", "iou",
    "anchor_x1", "anchor_y1", "anchor_x2", "anchor_y2",
    "predicted_x1", "predicted_y1", "predicted_x2", "predicted_y2",
)  # fmt: skip
OWN_PICTURE = (
    " callbacks.assignments.own_picture=<file> 'callbacks.assignments.own_boxes=[[x1,y1,x2,y2]]'"
    " 'callbacks.assignments.own_labels=[<class>]'"
)


def figure4a(runs: Runs) -> Picture:
    """The largest object of the first recorded picture."""
    course = recorded(runs).courses[0]
    boxes = course.snapshots[0].objects
    largest = int((boxes[:, 2:] - boxes[:, :2]).prod(1).argmax()) if len(boxes) else 0
    alone = Course(course.name, course.image, course.iterations, [of_object(one, largest) for one in course.snapshots])
    return draw_courses([alone], f"The largest object of picture {course.name}; its other objects are left out.")


def figure6(runs: Runs) -> Picture:
    """All objects of the first recorded pictures."""
    courses = [course for course in recorded(runs).courses if course.name != OWN][:PICTURES]
    if not courses:
        raise UserError(f"only a picture of one's own was recorded; train it again with '{again(runs)}'.")
    return draw_courses(courses, f"All objects of picture{'s' * (len(courses) > 1)} {_listed(courses)}.")


def figure7(runs: Runs) -> Picture:
    """A picture from elsewhere, or, where none was given, one more of those recorded."""
    courses = recorded(runs, further=OWN_PICTURE).courses
    if courses[-1].name == OWN:
        return draw_courses(courses[-1:], "A picture that does not belong to the data.")
    if len(courses) <= PICTURES:
        command = again(runs, further=OWN_PICTURE)
        raise UserError(f"no picture of one's own was recorded; train it again with '{command}'.")
    course = courses[PICTURES]
    return draw_courses([course], f"Picture {course.name} of the data: none from elsewhere was recorded.")


def draw_courses(courses: Sequence[Course], caption: str) -> Picture:
    """A column per iteration; of each picture the anchors above, the boxes predicted from the positives below."""
    rows = []
    for course in courses:
        pairs = [_cells(course.image, snapshot) for snapshot in course.snapshots]
        rows += [("anchors", [above for above, _ in pairs]), ("predicted boxes", [below for _, below in pairs])]
    columns = [f"iteration {iteration:,}" for iteration in courses[0].iterations]
    words = (
        f"{caption} Above: positive anchors and the candidates judged negative; below: the boxes predicted from the "
        "positives, and their mean IoU with their objects. A picture is seen in evaluation mode, not augmented."
    )
    return Picture(assignment_sheet(columns, rows), courses_csv(courses), words)


def courses_csv(courses: Sequence[Course]) -> str:
    """A row per anchor that was positive, ignored or a candidate; pixels of the picture."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for course in courses:
        for iteration, one in zip(course.iterations, course.snapshots):
            for n in range(len(one.of)):
                cost = f"{one.cost[n]:.4g}" if np.isfinite(one.cost[n]) else ""
                corners = (f"{value:.1f}" for value in (*one.anchors[n], *one.predicted[n]))
                judged = STATES[int(one.state[n])]
                writer.writerow([course.name, iteration, one.of[n], judged, cost, f"{one.iou[n]:.4f}", *corners])
    return buffer.getvalue()


def _cells(image: NDArray[np.uint8], one: Snapshot) -> tuple[Cell, Cell]:
    positive, negative = one.state == 1, one.state == 0
    count = f"{int(positive.sum())} positive of {len(one.of)} candidates"
    overlap = f"mean IoU {one.iou[positive].mean():.2f}" if positive.any() else "no positive anchor"
    nothing = np.empty((0, 4))
    return (
        Cell(image, one.objects, one.anchors[positive], one.of[positive], one.anchors[negative], count),
        Cell(image, one.objects, one.predicted[positive], one.of[positive], nothing, overlap),
    )


def _listed(courses: Sequence[Course]) -> str:
    return " and ".join(course.name for course in courses)
