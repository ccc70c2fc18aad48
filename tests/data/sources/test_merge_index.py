"""One label space for several indexes, against loops over boxes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from detlab.data.checks.problems import ABSENT, Problem
from detlab.data.index import AnnotationIndex
from detlab.data.sources.merge_complete import labels_from
from detlab.data.sources.merge_counts import missing_labels, source_counts
from detlab.data.sources.merge_index import concatenate, in_label_space, moved
from detlab.errors import UserError

NAMES = ["cat", "dog", "airplane", "plane", "cow"]
RENAME = {"airplane": "aeroplane", "plane": "aeroplane"}
SPACE = ["cow", "aeroplane", "horse", "cat", "dog"]


def some(seed: int, images: int = 7, classes: list[str] = NAMES, sources: int = 1, **more: Any) -> AnnotationIndex:
    rng = np.random.default_rng(seed)
    owners = np.sort(rng.integers(0, images, 4 * images)) if images else np.zeros(0, int)
    low = rng.uniform(0, 50, (len(owners), 2))
    return AnnotationIndex.build(
        classes,
        paths=[f"{seed}/{row:03d}.jpg" for row in range(images)],
        widths=rng.integers(80, 100, images),
        heights=rng.integers(80, 100, images),
        box_images=owners,
        boxes=np.concatenate([low, low + rng.uniform(1, 30, low.shape)], 1),
        labels=rng.integers(0, len(classes), len(owners)),
        ignore=rng.random(len(owners)) < 0.2,
        sources=rng.integers(0, sources, images),
        source_names=[f"s{k}" for k in range(sources)],
        class_ids=10 * np.arange(1, len(classes) + 1),
        **more,
    )


def rows(index: AnnotationIndex) -> list[list[tuple[Any, ...]]]:
    """Per image: path, size and boxes with class names."""
    found = []
    for row in range(len(index)):
        boxes = [
            (*index.boxes[b].tolist(), index.classes[index.labels[b]], bool(index.ignore[b]), float(index.areas[b]))
            for b in range(index.offsets[row], index.offsets[row + 1])
        ]
        found.append([(str(index.paths[row]), int(index.widths[row]), int(index.heights[row])), *boxes])
    return found


@pytest.mark.parametrize("looked_for", [None, ["cat"], ["aeroplane", "cow", "zebra"], []])
@pytest.mark.parametrize("images", [7, 1, 0])
def test_boxes_are_renamed_kept_or_dropped_one_by_one(looked_for: list[str] | None, images: int) -> None:
    index = some(1, images)
    new = in_label_space(index, SPACE, RENAME, looked_for)
    wanted = set(SPACE if looked_for is None else looked_for) & set(SPACE)
    expected = []
    for picture, *boxes in rows(index):
        renamed = [(*box[:4], RENAME.get(box[4], box[4]), *box[5:]) for box in boxes]
        expected.append([picture, *(box for box in renamed if box[4] in wanted)])
    assert rows(new) == expected
    assert new.classes == tuple(SPACE)
    there = {RENAME.get(name, name) for name in NAMES}
    assert new.annotated.tolist() == [[name in wanted & there for name in SPACE]]
    assert new.ids.tolist() == index.ids.tolist()


def test_a_class_keeps_the_id_of_the_first_name_that_became_it() -> None:
    ids = in_label_space(some(1), SPACE, RENAME).class_ids.tolist()
    assert ids[:2] == [50, 30]
    assert ids[3:] == [10, 20]
    assert len(set(ids)) == len(ids)


def test_a_class_of_several_names_was_looked_for_where_all_of_them_were() -> None:
    annotated = [[True, True, True, False, True], [True, False, True, True, True]]
    new = in_label_space(some(2, sources=2, annotated=annotated), SPACE, RENAME)
    assert new.annotated.tolist() == [[True, False, False, True, True], [True, True, False, True, False]]


def test_indexes_one_after_the_other_are_the_images_one_after_the_other() -> None:
    parts = [
        in_label_space(some(seed, n, sources=s), SPACE, RENAME) for seed, n, s in ((1, 5, 2), (2, 0, 1), (3, 4, 3))
    ]
    whole = concatenate(parts)
    assert rows(whole) == [row for part in parts for row in rows(part)]
    assert whole.ids.tolist() == list(range(9))
    assert whole.class_ids.tolist() == [1, 2, 3, 4, 5]
    assert whole.source_names == ("s0", "s1", "s0", "s0", "s1", "s2")
    expected = [*parts[0].sources, *(parts[2].sources + 3)]
    assert whole.sources.tolist() == expected
    for row in range(9):
        part, at = (parts[0], row) if row < 5 else (parts[2], row - 5)
        assert whole.targets(row).annotated.tolist() == part.targets(at).annotated.tolist()
    again = AnnotationIndex.build(
        whole.classes, paths=whole.paths, widths=whole.widths, heights=whole.heights, box_images=whole.box_images,
        boxes=whole.boxes, labels=whole.labels, ignore=whole.ignore, areas=whole.areas, sources=whole.sources,
        source_names=whole.source_names, annotated=whole.annotated,
    )  # fmt: skip
    for name, column in vars(again).items():
        assert np.array_equal(column, getattr(whole, name)), name
        assert getattr(column, "dtype", None) == getattr(getattr(whole, name), "dtype", None)


def test_only_the_same_classes_go_together() -> None:
    with pytest.raises(ValueError, match="of the same classes"):
        concatenate([some(1), some(2, classes=["cat"])])
    with pytest.raises(ValueError, match="of the same classes"):
        concatenate([])


def test_problems_move_with_their_images() -> None:
    problems = [Problem("a", "error", "f", "", "m", row, ABSENT) for row in (0, 3)] + [
        Problem("b", "error", "f", "", "")
    ]
    assert [p.image for p in moved(problems, 10)] == [10, 13, None]


def test_counts_against_a_loop() -> None:
    index = some(4, 30, sources=3, annotated=np.eye(3, 5, dtype=bool))
    counts = source_counts(index)
    for source in range(3):
        mine = [row for row in range(30) if index.sources[row] == source]
        assert counts.total[source] == len(mine)
        for label in range(5):
            found = [int((index.labels[index.boxes_of(row)] == label).sum()) for row in mine]
            assert counts.boxes[source, label] == sum(found)
            assert counts.images[source, label] == sum(n > 0 for n in found)
    assert counts.looked_for.tolist() == np.eye(3, 5, dtype=bool).tolist()


def test_missing_labels_against_a_loop() -> None:
    full = some(5, 30)
    keep = np.random.default_rng(0).random(len(full.boxes)) < 0.6
    missing = missing_labels(full.select_boxes(keep), full)
    for label in range(5):
        of_it = [b for b in range(len(full.boxes)) if full.labels[b] == label and not full.ignore[b]]
        assert missing.complete[label] == len(of_it)
        assert missing.missing[label] == sum(not keep[b] for b in of_it)
        assert missing.rates[label] == pytest.approx(missing.missing[label] / len(of_it))
    assert missing.rate == pytest.approx(missing.missing.sum() / missing.complete.sum())
    nothing = missing_labels(full.select_boxes(np.zeros(len(full.boxes), bool)), full)
    assert nothing.rate == 1
    assert missing_labels(full, full).missing.tolist() == [0] * 5
    # A surplus in one image does not make up for what another lacks.
    assert missing_labels(full, full.select_boxes(keep)).missing.tolist() == [0] * 5
    empty = some(5, 0)
    assert np.isnan(missing_labels(empty, empty).rate)
    assert np.isnan(missing_labels(empty, empty).rates).all()
    with pytest.raises(ValueError, match="the same images and classes"):
        missing_labels(full, empty)


def test_complete_labels_are_found_by_file_name() -> None:
    full = [in_label_space(some(seed), SPACE, RENAME) for seed in (1, 2)]
    full[1] = AnnotationIndex(**{**vars(full[1]), "paths": np.array([f"x/b{k}.png" for k in range(7)])})
    order = [3, 9, 0, 12]
    wanted = concatenate(full).select(order)
    mine = wanted.select_boxes(wanted.labels == 0)
    mine = AnnotationIndex(**{**vars(mine), "paths": np.array([p.replace("1/", "other/") for p in mine.paths])})
    found = labels_from(mine, full, "data.complete")
    assert [row[1:] for row in rows(found)] == [row[1:] for row in rows(wanted)]
    assert found.paths.tolist() == mine.paths.tolist()
    assert found.ids.tolist() == order
    assert found.annotated.all()
    nothing = labels_from(mine.select([]), full, "data.complete")
    assert len(nothing) == 0


def test_complete_labels_need_the_same_pictures() -> None:
    full = some(1)
    with pytest.raises(UserError, match=r"data.complete: it has no picture 000, .* \(1/000.jpg\)"):
        labels_from(full, [full.select([3])], "data.complete")
    with pytest.raises(UserError, match=r"1/000.jpg and 2/000.jpg have the same"):
        labels_from(full, [full, some(2)], "data.complete")
    with pytest.raises(UserError, match=r"1/000.jpg and 2/000.jpg have the same"):
        labels_from(concatenate([full, some(2)]), [full], "data.complete")
    other = AnnotationIndex(**{**vars(full), "widths": full.widths + 1})
    with pytest.raises(UserError, match=r"1/000.jpg is \d+ x \d+ pixels, .* need the same pictures"):
        labels_from(full, [other], "data.complete")
