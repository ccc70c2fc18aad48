"""Whole scenes: valid annotations, the promised mixture of classes, and no shortcut through colour."""

from __future__ import annotations

import numpy as np
import pytest

from detlab.data.scenes.compose import Scene, draw_scene
from detlab.data.scenes.style import Style, class_probabilities


def scenes(style: Style, count: int, size: int = 64) -> list[Scene]:
    return [draw_scene(style, size, np.random.default_rng((7, number))) for number in range(count)]


PLAIN = scenes(Style(), 150)


@pytest.mark.parametrize("size", [32, 100, 320])
def test_shapes_types_and_ranges_at_any_size(size: int) -> None:
    for scene in scenes(Style(objects=(1, 12), occlusion=0.8, min_visible=0.2), 5, size):
        count = len(scene.labels)
        assert scene.image.shape == (size, size, 3)
        assert scene.image.dtype == np.uint8
        assert scene.boxes.shape == (count, 4)
        assert scene.boxes.dtype == scene.areas.dtype == np.float32
        assert scene.labels.dtype == np.int32
        sides = scene.boxes[:, 2:] - scene.boxes[:, :2]
        assert (sides > 1).all()
        assert (scene.boxes >= 0).all()
        assert (scene.boxes <= size).all()
        assert (scene.areas >= 1).all()
        assert (scene.areas <= 1.1 * sides.prod(axis=1) + 2 * sides.sum(axis=1)).all()


def test_nothing_to_draw() -> None:
    scene = draw_scene(Style(objects=(0, 0), distractors=(0, 0)), 48, np.random.default_rng(0))
    assert scene.boxes.shape == (0, 4)
    assert scene.image.std() > 0


def test_object_counts_stay_in_range_and_nearly_reach_it() -> None:
    counts = np.array([len(scene.labels) for scene in PLAIN])
    assert counts.max() == 7
    assert counts.min() >= 1  # rarely an object finds no room
    assert (counts >= 2).mean() > 0.97
    assert counts.mean() > 4.2


def test_object_sizes_stay_in_range() -> None:
    sides = np.concatenate([np.max(scene.boxes[:, 2:] - scene.boxes[:, :2], axis=1) for scene in PLAIN]) / 64
    assert sides.max() < 0.5 * np.sqrt(2) * 1.1
    assert np.quantile(sides, 0.02) > 0.14 * 0.6
    assert np.median(sides) == pytest.approx(np.sqrt(0.16 * 0.5), abs=0.06)


def test_both_groups_occur_together() -> None:
    together = [{int(label) // 6 for label in scene.labels} == {0, 1} for scene in PLAIN]
    assert np.mean(together) > 0.93


@pytest.mark.slow
def test_class_frequencies() -> None:
    quick = {"clutter": 0.0, "noise": 0.0, "distractors": (0, 0), "object_size": (0.1, 0.2)}
    for style in (Style(**quick), Style(frequencies="long_tailed", **quick)):  # type: ignore[arg-type]
        counts = np.bincount(np.concatenate([scene.labels for scene in scenes(style, 400, 48)]), minlength=12)
        assert counts / counts.sum() == pytest.approx(class_probabilities(style), abs=0.035)


def test_colour_does_not_give_the_class_away() -> None:
    """The nearest class mean of the colour at a box's centre is right hardly more often than chance (1 in 12)."""
    colours, labels = [], []
    for scene in PLAIN:
        for box, label in zip(scene.boxes, scene.labels):
            x, y = ((box[:2] + box[2:]) / 2).astype(int)
            colours.append(scene.image[y, x].astype(float))
            labels.append(label)
    points, kinds = np.array(colours), np.array(labels)
    train = np.arange(len(kinds)) % 2 == 0
    means = np.stack([points[train & (kinds == kind)].mean(axis=0) for kind in range(12)])
    guess = np.argmin(np.linalg.norm(points[~train, None] - means, axis=2), axis=1)
    assert np.mean(guess == kinds[~train]) < 0.2


def test_objects_are_where_their_boxes_are() -> None:
    """With the same draws, painting differs from the bare ground inside the box far more than outside all."""
    style = Style(objects=(1, 1), distractors=(0, 0), clutter=0, lighting=0, noise=0, contrast=0.4)
    bare = Style(objects=(0, 0), distractors=(0, 0), clutter=0, lighting=0, noise=0)
    for seed in range(20):
        scene, ground = (draw_scene(s, 96, np.random.default_rng(seed)) for s in (style, bare))
        changed = np.abs(scene.image.astype(int) - ground.image).max(axis=2) > 60
        rows, columns = np.nonzero(changed)
        x1, y1, x2, y2 = scene.boxes[0]
        assert len(rows) > 0.2 * scene.areas[0]
        assert columns.min() >= x1 - 4
        assert columns.max() <= x2 + 4
        assert rows.min() >= y1 - 4
        assert rows.max() <= y2 + 4
