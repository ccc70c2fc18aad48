"""A legend stands under the picture, names every class that occurs, and wraps."""

import numpy as np

from detlab.visualization.legend import legend_height, with_legend
from detlab.visualization.style import colour, rgb

CLASSES = ["cat", "dog", "a class with a rather long name"]


def test_the_picture_stays_and_the_colours_of_the_present_classes_appear_below():
    picture = np.full((40, 300, 3), 7, np.uint8)
    result = with_legend(picture, [1, 1], CLASSES)
    assert (result[:40] == picture).all()
    below = result[40:].reshape(-1, 3)
    assert (below == rgb(colour(1))).all(1).any()
    assert not (below == rgb(colour(0))).all(1).any()


def test_without_boxes_nothing_is_added():
    picture = np.zeros((20, 30, 3), np.uint8)
    assert with_legend(picture, [], CLASSES).shape == picture.shape


def test_names_wrap_where_the_line_is_too_short():
    assert legend_height(CLASSES, 120) > legend_height(CLASSES, 2000) > legend_height([], 2000) == 0
