import numpy as np
import pytest

from detlab.data.transforms import Fixed, Longest, Shortest, Unchanged
from detlab.data.transforms.resize import resize_image

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("rule", "size", "expected"),
    [
        (Shortest(800, 1333), (480, 640), (800, 1067)),
        (Shortest(800, 1333), (640, 480), (1067, 800)),
        (Shortest(800, 1333), (500, 2000), (333, 1333)),  # the longer side decides
        (Shortest(800, 1333), (1600, 1600), (800, 800)),
        (Longest(320), (480, 640), (240, 320)),
        (Longest(320), (100, 50), (320, 160)),
        (Longest(320), (4, 4000), (1, 320)),  # never below one pixel
        (Fixed((30, 50)), (480, 640), (30, 50)),
        (Unchanged(), (481, 641), (481, 641)),
    ],
)
def test_sizes(rule, size, expected):
    assert rule(*size, RNG) == expected


def test_several_sizes_are_drawn_evenly():
    rule = Shortest([100, 200, 300], 1000)
    drawn = [rule(50, 70, np.random.default_rng((seed, 1)))[0] for seed in range(300)]
    assert {size: 70 < drawn.count(size) < 130 for size in (100, 200, 300)} == {100: True, 200: True, 300: True}


def test_shrinking_takes_the_mean_and_an_unchanged_size_is_the_same_array():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    assert np.unique(resize_image(stripes, 16, 16)).tolist() == [100]  # bilinear at 1/4 would alias
    assert resize_image(stripes, 64, 64) is stripes
    assert resize_image(stripes, 128, 96).shape == (128, 96, 3)


@pytest.mark.parametrize(
    "make",
    [lambda: Shortest(0), lambda: Shortest([]), lambda: Shortest(900, 800), lambda: Longest(0), lambda: Fixed((0, 5))],
)
def test_bad_sizes(make):
    with pytest.raises(ValueError, match="Expected"):
        make()
