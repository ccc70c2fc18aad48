"""The simulated merge against its definition, image by image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from PIL import Image

from detlab.config.instantiate import build_source
from detlab.config.launch import CONFIG_DIR
from detlab.config.schema import validate
from detlab.data.checks.problems import ABSENT, Problem
from detlab.data.formats.voc_write import write_voc
from detlab.data.index import AnnotationIndex
from detlab.data.sources.merge_counts import missing_labels
from detlab.data.sources.simulate import SimulatedMerge
from detlab.data.sources.simulate_voc import voc_split
from detlab.errors import UserError

CLASSES = ["a1", "b1", "other", "a2", "b2"]
GROUPS = {"a": ["a1", "a2"], "b": ["b2", "b1"]}
ALL = ("a1", "a2", "b2", "b1")


class Fixed:
    """A fully labelled source of random boxes, with a problem in every fifth image."""

    on_error = "raise"
    name = "fixed"

    def __init__(self, images: int = 60, seed: int = 0) -> None:
        self.images, self.seed = images, seed

    def load(self, split: str) -> tuple[AnnotationIndex, list[Problem]]:
        number = ["train", "val", "test"].index(split)
        rng = np.random.default_rng((self.seed, number))
        owners = np.repeat(np.arange(self.images), rng.integers(0, 5, self.images))
        index = AnnotationIndex.build(
            CLASSES,
            paths=[f"{self.seed}/{split}/{row}.jpg" for row in range(self.images)],
            widths=[64] * self.images,
            heights=[48] * self.images,
            box_images=owners,
            boxes=rng.uniform(0, 20, (len(owners), 4)) + np.array([0, 0, 20, 20]),
            labels=rng.integers(0, 5, len(owners)),
            ignore=rng.random(len(owners)) < 0.3,
            ids=100 + np.arange(self.images),
        )
        problems = [
            Problem("odd", "error", str(index.paths[row]), "", "", row, ABSENT) for row in range(0, self.images, 5)
        ]
        return index, [*problems, Problem("list", "error", "list", "", "")]


def boxes(index: AnnotationIndex, row: int, names: Any = CLASSES) -> list[tuple[Any, ...]]:
    at = index.boxes_of(row)
    columns = zip(index.labels[at], index.boxes[at].tolist(), index.ignore[at].tolist(), strict=True)
    return [(index.classes[label], *box, ignore) for label, box, ignore in columns if index.classes[label] in names]


def by_path(index: AnnotationIndex) -> dict[str, int]:
    return {str(path): row for row, path in enumerate(index.paths)}


@pytest.mark.parametrize("keep", ["own", "any"])
def test_each_half_is_labelled_for_its_group(keep: Any) -> None:
    whole = Fixed().load("train")[0]
    source = SimulatedMerge(GROUPS, Fixed(), keep=keep, seed=3)
    index, problems = source.load("train")
    complete, _ = source.complete("train")
    assert index.classes == complete.classes == ALL
    assert index.source_names == ("a", "b")
    assert index.ids.tolist() == complete.ids.tolist() == list(range(len(index)))
    assert index.paths.tolist() == complete.paths.tolist()
    rows = by_path(whole)
    for row, path in enumerate(index.paths):
        group = GROUPS["ab"[index.sources[row]]]
        assert [name for name, seen in zip(ALL, index.targets(row).annotated, strict=True) if seen] == sorted(
            group, key=ALL.index
        )
        assert boxes(index, row) == boxes(whole, rows[path], group)
        assert boxes(complete, row) == boxes(whole, rows[path], ALL)
        assert complete.targets(row).annotated.all()
    # Of the images with an object of any group, each dealt out once, those stay that have one of their own group.
    dealt, _ = SimulatedMerge(GROUPS, Fixed(), keep="any", seed=3).load("train")
    counted = {path: {name for name, *_, ignore in boxes(whole, row) if not ignore} for path, row in rows.items()}
    assert sorted(dealt.paths) == sorted(path for path, found in counted.items() if found & set(ALL))
    expected = [
        path
        for path, number in zip(dealt.paths, dealt.sources, strict=True)
        if keep == "any" or counted[path] & set(GROUPS["ab"[number]])
    ]
    assert index.paths.tolist() == expected
    for problem in problems:
        if problem.image is not None:
            assert index.paths[problem.image] == problem.file
    assert sum(problem.kind == "list" for problem in problems) == 1
    assert len([p for p in problems if p.kind == "odd"]) == sum(row % 5 == 0 for row in map(rows.get, index.paths))


def test_each_group_gets_as_many_images_and_the_seed_decides_which() -> None:
    groups = {"a": ["a1"], "b": ["b1"], "c": ["other", "a2", "b2"]}
    found = {}
    for seed in (0, 0, 1):
        index, _ = SimulatedMerge(groups, Fixed(600), keep="any", seed=seed).load("train")
        counts = np.bincount(index.sources)
        assert (counts > 130).all()
        assert (counts <= 200).all()
        assert found.setdefault(seed, index.paths.tolist()) == index.paths.tolist()
    assert found[0] != found[1]


def test_the_bound_has_the_same_images_with_all_labels() -> None:
    partly, _ = SimulatedMerge(GROUPS, Fixed(), seed=3).load("train")
    bound, _ = SimulatedMerge(GROUPS, Fixed(), seed=3, labels="complete", keep="own").load("train")
    assert bound.paths.tolist() == partly.paths.tolist()
    assert bound.annotated.all()
    expected = SimulatedMerge(GROUPS, Fixed(), seed=3).complete("train")[0]
    assert [boxes(bound, row) for row in range(len(bound))] == [boxes(expected, row) for row in range(len(bound))]
    missing = missing_labels(partly, bound)
    assert 0.2 < missing.rate < 0.6
    assert missing_labels(bound, bound).rate == 0


def test_one_group_alone_agrees_with_the_whole() -> None:
    whole = SimulatedMerge(GROUPS, Fixed()).load("train")[0]
    test = SimulatedMerge(GROUPS, Fixed()).load("test")[0]
    for number, group in enumerate(GROUPS):
        source = SimulatedMerge(GROUPS, Fixed(), only=group)
        index, problems = source.load("train")
        assert SimulatedMerge(GROUPS, Fixed(), only=number).load("train")[0].ids.tolist() == index.ids.tolist()
        rows = np.flatnonzero(whole.sources == number)
        assert index.ids.tolist() == rows.tolist()
        assert index.classes == ALL
        assert [boxes(index, k) for k in range(len(rows))] == [boxes(whole, row) for row in rows]
        assert all(index.paths[p.image] == p.file for p in problems if p.image is not None)
        seen, _ = source.load("test")
        assert [boxes(seen, row) for row in range(60)] == [boxes(test, row, GROUPS[group]) for row in range(60)]
        assert seen.targets(0).annotated.tolist() == [name in GROUPS[group] for name in ALL]


def test_evaluation_is_fully_labelled_with_the_classes_of_all_groups() -> None:
    for split in ("val", "test"):
        whole = Fixed().load(split)[0]
        index, problems = SimulatedMerge(GROUPS, Fixed()).load(split)  # type: ignore[arg-type]
        assert index.annotated.all()
        assert index.ids.tolist() == whole.ids.tolist()
        assert [boxes(index, row) for row in range(60)] == [boxes(whole, row, ALL) for row in range(60)]
        assert len(problems) == 13


def test_groups_may_have_sources_of_their_own() -> None:
    groups = {"a": {"classes": GROUPS["a"], "source": Fixed(seed=1)}, "b": {"classes": GROUPS["b"]}}
    source = SimulatedMerge(groups, Fixed(seed=2), evaluation=Fixed(seed=3))
    index, _ = source.load("train")
    assert {path.split("/")[0] for path in index.paths[index.sources == 0]} == {"1"}
    assert {path.split("/")[0] for path in index.paths[index.sources == 1]} == {"2"}
    assert source.load("test")[0].paths[0] == "3/test/0.jpg"


@pytest.mark.parametrize(
    ("groups", "more", "message"),
    [
        ({"a": ["a1"]}, {}, "expected two groups of classes or more, got 1"),
        ({"a": ["a1"], "b": []}, {}, r"data.groups.b: expected a list of class names, as \[cat, dog\], got \[\]"),
        ({"a": ["a1"], "b": "b1"}, {}, "data.groups.b: expected a list .* got 'b1'"),
        ({"a": ["a1"], "b": {"class": ["b1"]}}, {}, r"no key 'data.groups.b.class' \(did you mean 'classes'\?\)"),
        ({"a": ["a1"], "b": ["b1", "a1"]}, {}, "class 'a1' is in 'a' and in 'b'; groups share no class"),
        ({"a": ["a1"], "b": ["b1", "b1"]}, {}, "class 'b1' is twice in 'b'"),
        (GROUPS, {"only": "c"}, "data.only=c: there is no such group"),
        (GROUPS, {"only": 2}, "data.only=2: there is no such group"),
        (GROUPS, {"source": None}, "data.groups.a: it has no images"),
        (GROUPS, {"keep": "all"}, "Expected keep 'own' or 'any', got 'all'"),
    ],
)
def test_what_cannot_be_is_refused(groups: Any, more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SimulatedMerge(groups, **({"source": Fixed()} | more))


def test_wrong_classes_and_empty_groups_are_told_when_read() -> None:
    with pytest.raises(UserError, match=r"data.groups.b: data.source has no class 'b3' \(did you mean"):
        SimulatedMerge({"a": ["a1"], "b": ["b3"]}, Fixed()).load("train")
    with pytest.raises(UserError, match=r"data.evaluation has no class 'b3'"):
        SimulatedMerge({"a": ["a1"], "b": ["b3"]}, Fixed(), evaluation=Fixed()).load("test")
    with pytest.raises(UserError, match=r"data.groups.b: none of its 0 training images holds an object of b1"):
        SimulatedMerge({"a": ["a1"], "b": ["b1"]}, Fixed(1)).load("train")


def make_devkit(root: Path) -> None:
    """VOC2007 with trainval and test, VOC2012 with trainval."""
    layout = {
        ("2007", "trainval"): ["cat person", "person", "dog?", "cow"],  # ?: difficult
        ("2012", "trainval"): ["bus cat", "cat", "chair car"],
        ("2007", "test"): ["chair", "sheep person?"],
    }
    classes = sorted({name.strip("?") for images in layout.values() for objects in images for name in objects.split()})
    for (year, split), images in layout.items():
        (root / "pictures").mkdir(parents=True, exist_ok=True)
        paths = [root / "pictures" / f"{year}_{split}_{row}.jpg" for row in range(len(images))]
        for path in paths:
            Image.new("RGB", (50, 40)).save(path)
        flat = [(row, name) for row, objects in enumerate(images) for name in objects.split()]
        index = AnnotationIndex.build(
            classes,
            paths=list(map(str, paths)),
            widths=[50] * len(images),
            heights=[40] * len(images),
            box_images=[row for row, _ in flat],
            boxes=[[5, 5, 20, 20 + k] for k in range(len(flat))],
            labels=[classes.index(name.strip("?")) for _, name in flat],
            ignore=[name.endswith("?") for _, name in flat],
        )
        write_voc(index, root / "VOCdevkit" / f"VOC{year}", split)


PAPER = {
    "2007": ["cat", "cow", "dog", "horse", "train", "sheep"],
    "2012": ["car", "motorbike", "bicycle", "aeroplane", "bus", "person"],
}


def test_the_split_of_the_paper(tmp_path: Path) -> None:
    make_devkit(tmp_path)
    source = voc_split(str(tmp_path), PAPER)
    index, problems = source.load("train")
    assert not problems
    assert index.source_names == ("voc2007", "voc2012")
    # A difficult dog alone keeps no image.
    assert [Path(path).stem for path in index.paths] == [
        "2007_trainval_0", "2007_trainval_3", "2012_trainval_0", "2012_trainval_2",
    ]  # fmt: skip
    assert [[box[0] for box in boxes(index, row, index.classes)] for row in range(4)] == [
        ["cat"], ["cow"], ["bus"], ["car"],
    ]  # fmt: skip
    test, _ = source.load("test")
    assert len(test) == 2
    assert [[box[0] for box in boxes(test, row, test.classes)] for row in range(2)] == [[], ["sheep", "person"]]
    assert test.paths.tolist() == source.load("val")[0].paths.tolist()
    bound, _ = voc_split(str(tmp_path), PAPER, labels="complete").load("train")
    assert [[box[0] for box in boxes(bound, row, bound.classes)] for row in range(len(bound))] == [
        ["cat", "person"], ["person"], ["cow"], ["bus", "cat"], ["cat"], ["car"],
    ]  # fmt: skip


def test_what_is_missing_is_also_counted_as_in_the_paper(tmp_path: Path) -> None:
    make_devkit(tmp_path)
    # Of cat person | person | cow | bus cat | cat | car, four are labelled: cat, cow, bus and car.
    (note,) = voc_split(str(tmp_path), PAPER).notes()
    assert note.endswith("against all 6 images with one of the classes, 50.0% of 8 labels are missing")
    assert voc_split(str(tmp_path), PAPER, labels="complete").notes() == []
    assert voc_split(str(tmp_path), PAPER, only="voc2007").notes() == []
    partly, full = (getattr(voc_split(str(tmp_path), PAPER), name)("train")[0] for name in ("load", "complete"))
    assert missing_labels(partly, full).missing.sum() == 2  # within the four images that are there


@pytest.mark.parametrize("name", ["voc_split", "voc_split_complete", "voc_split_a", "voc_split_b"])
def test_the_presets_say_what_the_paper_says(tmp_path: Path, name: str) -> None:
    make_devkit(tmp_path)
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("train", [f"data={name}", f"data.root={tmp_path}"])
    validate(cfg)
    source = build_source(cfg.data)
    assert {group.removeprefix("voc"): list(classes) for group, classes in source.groups.items()} == PAPER
    index, _ = source.load("train")
    counts = {"voc_split": 4, "voc_split_complete": 6, "voc_split_a": 2, "voc_split_b": 2}
    assert len(index) == counts[name]
    assert index.annotated.all() == (name == "voc_split_complete")


@pytest.mark.slow
def test_the_scenes_in_two_halves(tmp_path: Path) -> None:
    found = {}
    size = ["data.source.train=12", "data.source.val=2", "data.source.test=2", f"data.source.cache_dir={tmp_path}"]
    for name in ("scenes_split", "scenes_split_complete", "scenes_split_a", "scenes_split_b"):
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            cfg = compose("train", [f"data={name}", *size])
            plain = compose("train", ["data=scenes"])
        validate(cfg)
        assert cfg.data.name == name
        for key in ("size", "seed", "objects", "distractors", "object_size"):
            assert cfg.data.source[key] == plain.data[key]
        found[name] = build_source(cfg.data).load("train")[0]
    halves = [found["scenes_split_a"], found["scenes_split_b"]]
    assert found["scenes_split"].ids.tolist() == found["scenes_split_complete"].ids.tolist()
    assert [*halves[0].ids, *halves[1].ids] == found["scenes_split"].ids.tolist()
    assert found["scenes_split_complete"].annotated.all()
    assert all(index.classes == found["scenes_split"].classes for index in halves)
    assert len(found["scenes_split"].classes) == 12
