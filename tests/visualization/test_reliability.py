"""The numbers drawn are those given, also with empty bins and no crops."""

from __future__ import annotations

import numpy as np

from detlab.visualization import png_bytes
from detlab.visualization.reliability import confusion_matrix, reliability_diagram


def test_bars_are_accuracies_and_the_line_is_the_share_of_crops() -> None:
    accuracy, count = np.array([np.nan, 0.25, 0.5, 1.0]), np.array([0, 10, 20, 70])
    figure = reliability_diagram({"one": (accuracy, count), "none": (np.full(4, np.nan), np.zeros(4))})
    axes, empty = figure.axes
    assert [bar.get_height() for bar in axes.patches] == [0, 0.25, 0.5, 1.0]
    assert [bar.get_x() for bar in axes.patches] == [0, 0.25, 0.5, 0.75]
    assert axes.lines[1].get_ydata().tolist() == [0, 0.1, 0.2, 0.7, 0.7]
    assert [bar.get_height() for bar in empty.patches] == [0] * 4
    assert png_bytes(figure).startswith(b"\x89PNG")


def test_rows_of_the_matrix_are_shares_of_their_class() -> None:
    figure = confusion_matrix([[8, 2, 0], [0, 0, 0], [1, 1, 2]], ["a", "b", "US$"], "test")
    (axes,) = figure.axes
    (image,) = axes.images
    assert image.get_array().tolist() == [[0.8, 0.2, 0], [0, 0, 0], [0.25, 0.25, 0.5]]
    assert sorted(text.get_text() for text in axes.texts) == ["20", "25", "25", "50", "80"]
    assert png_bytes(figure).startswith(b"\x89PNG")
