from __future__ import annotations

import numpy as np
import pytest

from detlab.visualization.assigned import PANEL, Cell, assignment_sheet, draw_cell
from detlab.visualization.style import colour, rgb

NOTHING = np.empty((0, 4))
GREY = np.full((60, 60, 3), 200, np.uint8)


def near(picture: np.ndarray, shade: str) -> np.ndarray:
    """Where a picture has about this colour, bool ``[H, W]``: lines are a little transparent."""
    return (np.abs(np.asarray(picture).astype(int) - np.array(rgb(shade))) < 40).all(-1)


def cell(**boxes: object) -> Cell:
    given = {"objects": NOTHING, "positives": NOTHING, "of": [], "negatives": NOTHING, **boxes}
    return Cell(GREY, **given)  # type: ignore[arg-type]


def test_a_box_lies_where_it_belongs_at_the_size_of_the_panel():
    picture = draw_cell(cell(positives=[[12, 18, 36, 42]], of=[0]))
    assert picture.size == (PANEL, PANEL)
    rows, columns = np.nonzero(near(picture, colour(0)))
    scale = PANEL / 60
    assert (columns.min(), columns.max() + 1) == (12 * scale, 36 * scale)
    assert (rows.min(), rows.max() + 1) == (18 * scale, 42 * scale)


def test_positives_have_the_colour_of_their_object_and_negatives_their_own():
    picture = draw_cell(cell(positives=[[1, 1, 20, 20], [30, 30, 50, 50]], of=[2, 3], negatives=[[1, 30, 20, 50]]))
    assert near(picture, colour(2))[:110, :110].any()
    assert near(picture, colour(3))[140:, 140:].any()
    assert not near(picture, colour(0)).any()
    other = draw_cell(cell(negatives=[[1, 30, 20, 50]]), negative="#ff0000")
    assert (np.asarray(other)[..., 0].astype(int) - np.asarray(other)[..., 1]).max() > 60
    assert (np.asarray(picture) != np.asarray(draw_cell(cell()))).any(-1)[150:, :110].any()


def test_a_box_beyond_the_picture_has_no_side_inside():
    beyond = draw_cell(cell(positives=[[-50, -50, 90, 90]], of=[0]))
    assert np.array_equal(np.asarray(beyond), np.asarray(draw_cell(cell())))
    partly = near(draw_cell(cell(positives=[[30, -50, 90, 90]], of=[0])), colour(0))
    assert np.flatnonzero(partly.any(0)).tolist() == [150, 151]


def test_ground_truth_lies_on_top():
    box = [[12, 18, 36, 42]]
    over = draw_cell(cell(objects=box, positives=box, of=[0]))
    assert not near(over, colour(0)).any()
    assert near(over, "#ffffff").any()


@pytest.mark.parametrize("size", [(1, 1), (4, 900), (900, 4)])
def test_odd_pictures_and_nothing_to_draw(size):
    empty = Cell(np.zeros((*size, 3), np.uint8), NOTHING, NOTHING, [], NOTHING)
    sheet = assignment_sheet(["iteration 1"], [("anchors", [empty])])
    assert (sheet.dtype, sheet.ndim) == (np.uint8, 3)
    assert assignment_sheet([], []).ndim == 3


def test_a_sheet_has_a_column_per_moment_and_a_row_per_kind():
    cells = [cell(positives=[[12, 18, 36, 42]], of=[0])] * 4
    one = assignment_sheet(["1", "2", "3", "4"], [("anchors", cells)])
    two = assignment_sheet(["1", "2", "3", "4"], [("anchors", cells), ("predicted boxes", cells)])
    assert two.shape[0] - one.shape[0] == PANEL + 26
    blue = near(one[:PANEL], colour(0)).any(0)
    assert (np.diff(blue.astype(int)) == 1).sum() == 4
