"""The pictures of pseudo-labels that a run leaves, on one sheet."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from detlab.errors import UserError
from detlab.reporting.figures.drawing import Runs
from detlab.visualization.sheet import GAP
from experiments.proxy.figures import PROXY, figure3

HISTORY = {
    "step": np.array([249.0, 260, 499]),
    "pseudo/labels_per_image": np.array([0.5, np.nan, 1.25]),
    "pseudo/precision": np.array([np.nan, np.nan, 0.875]),
    "train/loss": np.array([3.0, 2, 1]),
}


def test_four_pictures_make_two_rows_of_the_largest_cell(make_run, tmp_path) -> None:
    folder = make_run(PROXY, history=HISTORY) / "figures"
    folder.mkdir()
    colours, sizes = ["red", "lime", "blue", "black"], [(40, 30), (20, 50), (40, 30), (10, 10)]
    for number, (colour, size) in enumerate(zip(colours, sizes)):
        Image.new("RGB", size, colour).save(folder / f"pseudo_{number:02d}.png")
    drawn = figure3(Runs(tmp_path / "runs", "mini"))
    sheet = drawn.picture()
    assert sheet.shape == (50 + GAP + 50, 3 * 40 + 2 * GAP, 3)
    cells = [sheet[0, 0], sheet[0, 40 + GAP], sheet[0, 2 * (40 + GAP)], sheet[50 + GAP, 0]]
    assert [cell.tolist() for cell in cells] == [[255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 0]]
    assert sheet[50 + GAP + 10, 0].tolist() == [255, 255, 255]
    assert drawn.csv().splitlines() == ["iteration,labels_per_image,precision", "249,0.5,nan", "499,1.25,0.875"]


def test_a_run_without_pictures_is_told_with_the_command(make_run, tmp_path) -> None:
    make_run(PROXY, history=HISTORY)
    with pytest.raises(UserError, match=r"no pictures of pseudo-labels.*experiment=proxy/table1/proxy seed=0"):
        figure3(Runs(tmp_path / "runs", "mini"))


def test_no_run_is_told_too(tmp_path) -> None:
    with pytest.raises(UserError, match="no finished run of proxy/table1/proxy at mini"):
        figure3(Runs(tmp_path / "runs", "mini"))
