"""Sources of every format as one: labels, masks, weights, splits and complete labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from PIL import Image

from detlab.config.instantiate import build_source
from detlab.config.launch import CONFIG_DIR
from detlab.config.schema import validate
from detlab.data.checks.findings import class_problems, file_problems, partly_labelled
from detlab.data.datamodule import DetectionDataModule
from detlab.data.formats.coco import to_coco
from detlab.data.formats.voc_write import write_voc
from detlab.data.formats.yolo_txt import write_yolo
from detlab.data.index import AnnotationIndex
from detlab.data.scenes import ScenesSource
from detlab.data.sources.merge import MergeSource
from detlab.data.transforms import Pipeline
from detlab.errors import UserError

CLASSES = ("ant", "bee", "fly")


@pytest.fixture
def index(tmp_path: Path) -> AnnotationIndex:
    """24 pictures of three classes, all labelled."""
    (tmp_path / "all").mkdir()
    rng = np.random.default_rng(0)
    for row in range(24):
        picture = rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / "all" / f"{row:02d}.png")
    owners = np.repeat(np.arange(24), 3)
    low = rng.integers(0, 20, (72, 2))
    return AnnotationIndex.build(
        CLASSES,
        paths=[str(tmp_path / "all" / f"{row:02d}.png") for row in range(24)],
        widths=[50] * 24,
        heights=[40] * 24,
        box_images=owners,
        boxes=np.concatenate([low, low + rng.integers(3, 15, (72, 2))], 1),
        labels=rng.integers(0, 3, 72),
    )


@pytest.fixture
def sources(tmp_path: Path, index: AnnotationIndex) -> dict[str, Any]:
    """Rows 0–7 as VOC for ants, 8–15 as COCO for bees called wasps, 16–23 as YOLO for flies and ants."""
    write_voc(index.select(range(8)), tmp_path / "voc")
    coco = to_coco(index.select(range(8, 16)), tmp_path / "all")
    coco["categories"][1]["name"] = "wasp"
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    write_yolo(index.select(range(16, 24)), tmp_path / "yolo")
    return {
        "voc": {"format": "voc", "root": str(tmp_path / "voc"), "split": "train", "classes": ["ant"]},
        "coco": {
            "format": "coco",
            "images": str(tmp_path / "all"),
            "annotations": str(tmp_path / "coco.json"),
            "classes": ["bee"],
            "rename": {"wasp": "bee"},
        },
        "yolo": {"format": "yolo", "yaml": str(tmp_path / "yolo" / "data.yaml"), "classes": ["fly", "ant"]},
    }


@pytest.fixture
def full(tmp_path: Path, index: AnnotationIndex) -> dict[str, Any]:
    """All pictures with all labels, and a list of four for evaluation."""
    write_voc(index, tmp_path / "full", "everything")
    write_voc(index.select([1, 9, 17, 20]), tmp_path / "full", "four")
    return {"format": "voc", "root": str(tmp_path / "full")}


def named(index: AnnotationIndex, row: int) -> list[tuple[Any, ...]]:
    at = index.boxes_of(row)
    return [(index.classes[label], *box) for label, box in zip(index.labels[at], index.boxes[at].tolist(), strict=True)]


def looked_for(index: AnnotationIndex, row: int) -> set[str]:
    return {name for name, seen in zip(index.classes, index.targets(row).annotated.tolist(), strict=True) if seen}


LOOKED_FOR = [{"ant"}] * 8 + [{"bee"}] * 8 + [{"ant", "fly"}] * 8


def test_each_image_keeps_the_labels_that_were_looked_for_and_says_which(
    index: AnnotationIndex, sources: dict[str, Any], full: dict[str, Any]
) -> None:
    merge = MergeSource(sources, val=full | {"split": "four"})
    merged, problems = merge.load("train")
    assert not problems
    assert merged.classes == ("ant", "bee", "fly")
    assert merged.source_names == ("voc", "coco", "yolo")
    assert merged.ids.tolist() == list(range(24))
    for row in range(24):
        assert looked_for(merged, row) == LOOKED_FOR[row]
        expected = [box for box in named(index, row) if box[0] in LOOKED_FOR[row]]
        assert [box[0] for box in named(merged, row)] == [box[0] for box in expected]
        assert np.allclose([box[1:] for box in named(merged, row)], [box[1:] for box in expected], atol=1e-4)
        assert Path(merged.paths[row]).stem == Path(index.paths[row]).stem
    for split in ("val", "test"):
        val, _ = merge.load(split)
        assert [Path(path).stem for path in val.paths] == ["01", "09", "17", "20"]
        assert val.annotated.all()
        assert [named(val, k) for k in range(4)] == [named(index, row) for row in (1, 9, 17, 20)]
    # Asked for test alone, as `detlab eval` does, the classes are the same.
    assert MergeSource(sources, val=full | {"split": "four"}).load("test")[0].classes == merged.classes


def test_without_evaluation_data_the_sources_own_are_merged_with_their_masks(sources: dict[str, Any]) -> None:
    merge = MergeSource(sources)
    train, val = merge.load("train")[0], merge.load("val")[0]
    assert (len(train), len(val)) == (21, 3)  # a tenth of eight, rounded, of each
    assert not set(train.paths) & set(val.paths)
    assert [looked_for(val, row) for row in range(3)] == [{"ant"}, {"bee"}, {"ant", "fly"}]
    (warning,) = partly_labelled(val, "val")
    assert "0 of 3 images were searched for every class, 1 for bee" in warning.message
    assert not list(partly_labelled(train.select([]), "val"))


def test_two_names_become_one_class_and_classes_fix_the_order(sources: dict[str, Any]) -> None:
    sources["yolo"] |= {"rename": {"ant": "insect", "fly": "insect"}, "classes": ["insect"]}
    sources["voc"] |= {"rename": {"ant": "insect"}, "classes": None}
    merged, _ = MergeSource(sources, classes=["bee", "insect"]).load("train")
    assert merged.classes == ("bee", "insect")
    # voc has bees and flies, too, of which flies have no place in the list; "all it has" were looked for.
    assert merged.annotated.tolist() == [[True, True], [True, False], [False, True]]
    notes = MergeSource(sources).notes()
    assert "yolo: ant, fly → insect" in notes
    assert MergeSource(sources).load("train")[0].classes == ("insect", "bee", "fly")


def test_two_names_may_change_places(index: AnnotationIndex, sources: dict[str, Any], full: dict[str, Any]) -> None:
    sources["yolo"] |= {"rename": {"ant": "fly", "fly": "ant"}, "classes": ["fly"]}
    merged, _ = MergeSource(sources, val=full | {"split": "four"}).load("train")
    assert merged.classes == ("ant", "bee")
    assert merged.annotated[2].tolist() == [True, False]
    for row in range(16, 24):
        expected = [("ant", *box[1:]) for box in named(index, row) if box[0] == "fly"]
        assert np.allclose([box[1:] for box in named(merged, row)], [box[1:] for box in expected], atol=1e-4)
        assert {box[0] for box in named(merged, row)} <= {"ant"}


def test_a_share_of_the_training_images_is_drawn_by_seed(sources: dict[str, Any], full: dict[str, Any]) -> None:
    sources["coco"]["fraction"] = 0.5
    val = full | {"split": "four"}
    merged = [MergeSource(sources, val=val, seed=seed).load("train")[0] for seed in (0, 0, 1)]
    assert np.bincount(merged[0].sources).tolist() == [8, 4, 8]
    assert merged[0].paths.tolist() == merged[1].paths.tolist() != merged[2].paths.tolist()
    assert merged[0].ids.tolist() == list(range(20))


def test_problems_keep_file_and_record_and_find_their_row(tmp_path: Path, sources: dict[str, Any], full: Any) -> None:
    document = json.loads((tmp_path / "coco.json").read_text())
    document["annotations"][4]["category_id"] = 77
    document["annotations"].append(document["annotations"][0] | {"image_id": 999, "id": 999})
    (tmp_path / "coco.json").write_text(json.dumps(document))
    for fraction in (1.0, 0.6):
        sources["coco"]["fraction"] = fraction
        merged, problems = MergeSource(sources, val=full | {"split": "four"}).load("train")
        assert {problem.file for problem in problems} == {str(tmp_path / "coco.json")}
        assert problems[-1].record == "annotation 999"
        for problem in problems[:-1]:
            assert problem.record == "annotation 5"
            assert Path(merged.paths[problem.image]).stem == "09"


def test_one_source_alone_keeps_the_classes_of_all(sources: dict[str, Any], full: dict[str, Any]) -> None:
    val = full | {"split": "four"}
    both = MergeSource(sources, val=val).load("train")[0]
    for k, name in enumerate(sources):
        alone = MergeSource(sources, val=val, only=name)
        index, _ = alone.load("train")
        assert MergeSource(sources, val=val, only=k).load("train")[0].paths.tolist() == index.paths.tolist()
        rows = np.flatnonzero(both.sources == k)
        assert index.ids.tolist() == rows.tolist()
        assert [named(index, i) for i in range(len(index))] == [named(both, row) for row in rows]
        assert index.classes == both.classes
        seen, _ = alone.load("val")
        assert [looked_for(seen, row) for row in range(4)] == [LOOKED_FOR[rows[0]]] * 4
        assert {box[0] for row in range(4) for box in named(seen, row)} <= LOOKED_FOR[rows[0]]


def test_complete_labels_are_those_of_the_fully_labelled_version(
    index: AnnotationIndex, sources: dict[str, Any], full: dict[str, Any]
) -> None:
    val = full | {"split": "four"}
    merge = MergeSource(sources, val=val, complete=full | {"split": "everything"})
    partly, _ = merge.load("train")
    found = merge.complete("train")
    assert found is not None
    complete, _ = found
    assert complete.paths.tolist() == partly.paths.tolist()
    assert complete.ids.tolist() == partly.ids.tolist()
    assert complete.classes == partly.classes
    assert [named(complete, row) for row in range(24)] == [named(index, row) for row in range(24)]
    assert merge.complete("val")[0].labels.tolist() == merge.load("val")[0].labels.tolist()  # type: ignore[index]
    assert MergeSource(sources, val=val).complete("train") is None
    bound, _ = MergeSource(sources, val=val, complete=full | {"split": "everything"}, labels="complete").load("train")
    assert [named(bound, row) for row in range(24)] == [named(index, row) for row in range(24)]
    assert bound.annotated.all()
    with pytest.raises(UserError, match="not every source knows all labels; give"):
        MergeSource(sources, val=val, labels="complete").load("train")


def test_a_merge_of_sources_that_know_all_labels_knows_them_too(
    index: AnnotationIndex, sources: dict[str, Any], full: dict[str, Any]
) -> None:
    inner = MergeSource(sources, val=full | {"split": "four"}, complete=full | {"split": "everything"})
    outer = MergeSource({"one": inner, "two": {"source": inner, "rename": {"ant": "bug"}, "classes": ["bug"]}})
    merged, _ = outer.load("train")
    assert merged.classes == ("ant", "bee", "fly", "bug")
    assert merged.source_names == ("one/voc", "one/coco", "one/yolo", "two/voc", "two/coco", "two/yolo")
    assert [looked_for(merged, row) for row in (0, 8, 16, 24, 32, 40)] == [
        {"ant"}, {"bee"}, {"ant", "fly"}, {"bug"}, set(), {"bug"},
    ]  # fmt: skip
    complete = outer.complete("train")
    assert complete is not None
    assert len(complete[0].boxes) == 2 * len(index.boxes)
    assert outer.image_weights(merged) is None
    weighted = MergeSource({"one": inner, "two": {"source": inner, "weight": 2}})
    assert weighted.image_weights(weighted.load("train")[0]).tolist() == [1] * 24 + [2] * 24  # type: ignore[union-attr]


def test_the_datamodule_draws_by_weight_and_offers_complete_labels(
    tmp_path: Path, sources: dict[str, Any], full: dict[str, Any]
) -> None:
    (tmp_path / "voc/JPEGImages/03.png").unlink()
    sources["yolo"]["weight"] = 3
    complete = full | {"split": "everything"}
    source = MergeSource(sources, val=full | {"split": "four"}, complete=complete, on_error="skip_image")
    pipeline = Pipeline([], None)
    data = DetectionDataModule(source, pipeline, pipeline, batch_size=4, num_workers=0)
    data.setup("fit")
    assert len(data.train_index) == 23
    stream = iter(data.train_dataloader())
    drawn = np.concatenate([next(stream).image_ids.numpy() for _ in range(4 * 23)])
    share = np.isin(drawn, range(16, 24)).mean()
    assert share == pytest.approx(24 / 39, abs=0.01)
    labels = data.complete("train")
    assert labels is not None
    assert labels.ids.tolist() == data.train_index.ids.tolist()
    assert len(labels.boxes) == 3 * 23
    source = MergeSource(sources, val=full | {"split": "four"})
    assert DetectionDataModule(source, pipeline, pipeline, num_workers=0).complete("train") is None


def test_scenes_beside_files(tmp_path: Path, sources: dict[str, Any]) -> None:
    scenes = ScenesSource(train=3, val=1, test=1, size=64, cache_dir=str(tmp_path / "scenes"))
    merged, _ = MergeSource({"scenes": {"source": scenes, "classes": ["car"]}, "voc": sources["voc"]}).load("train")
    assert merged.classes == ("car", "ant")
    assert {box[0] for row in range(3) for box in named(merged, row)} <= {"car"}
    assert merged.widths.tolist() == [64] * 3 + [50] * 7


def test_names_and_pictures_that_several_sources_have_are_told(
    tmp_path: Path, sources: dict[str, Any], full: dict[str, Any]
) -> None:
    sources["coco"] |= {"rename": {"wasp": "ants"}, "classes": ["ants"]}
    sources["yolo"]["classes"] = ["fly", "bee"]
    (tmp_path / "all" / "11.png").write_bytes((tmp_path / "all" / "02.png").read_bytes())
    merged, _ = MergeSource(sources, val=full | {"split": "four"}).load("train")
    told = {problem.kind: problem for problem in class_problems(merged)}
    assert str(told["near-miss class"]) == (
        "coco, class ants: it may be what voc calls ant; if so, rename it there "
        "('+data.sources.coco.rename={ants: ant}'), or they stay two classes."
    )
    (copy,) = file_problems(merged, full=True)
    assert copy.image == 11
    assert copy.message.endswith("02.png, once in source 'voc' and once in 'coco': join their labels in one source, or "
                                 "leave one copy out.")  # fmt: skip
    bees = merged.select_boxes(merged.labels != merged.classes.index("bee"))
    kinds = [(p.kind, p.record) for p in class_problems(bees)]
    assert ("class without boxes", "class bee") in kinds
    assert "class without boxes in a source" not in dict(kinds)


def test_a_source_that_never_drew_what_it_looked_for_is_told(sources: dict[str, Any]) -> None:
    sources["voc"]["classes"] = ["ant", "bee"]
    merged, _ = MergeSource(sources).load("train")
    drawn = merged.select_boxes((merged.labels != 1) | (merged.sources[merged.box_images] != 0))
    (problem,) = class_problems(drawn)
    assert (problem.kind, problem.file, problem.record) == ("class without boxes in a source", "voc", "class bee")


@pytest.mark.parametrize(
    "overrides",
    [
        ["+data.sources.v={format: voc, root: voc, split: train, classes: [ant]}", "+data.sources.s.format=yolo",
         "+data.sources.s.yaml=yolo/data.yaml"],
        ["data.sources={v: {format: voc, root: voc, split: train}, s: {format: yolo, yaml: yolo/data.yaml}}"],
        ["+data@data.sources.v.source=voc07", "data.sources.v.source.root=voc", "+data.sources.v.classes=[ant]",
         "+data@data.sources.s=scenes"],
    ],
)  # fmt: skip
def test_sources_are_written_on_the_command_line(overrides: list[str]) -> None:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("train", ["data=merge", *overrides])
    validate(cfg)
    assert [part.name for part in build_source(cfg.data).parts] == ["v", "s"]


def test_sources_are_written_in_a_config_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.yaml").write_text(
        "defaults:\n  - merge\n  - voc07@sources.voc.source\n  - _self_\nname: mine\nsources:\n"
        "  voc:\n    source: {root: there}\n    classes: [cat]\n"
        "  road: {format: coco, images: img, annotations: a.json, rename: {airplane: aeroplane}, weight: 2}\n"
    )
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("check", ["data=mine", f"hydra.searchpath=[file://{tmp_path}]"])
    validate(cfg, "check")
    first, second = build_source(cfg.data).parts
    assert str(first.source.root) == "there"
    assert (first.classes, second.rename, second.weight) == (("cat",), {"airplane": "aeroplane"}, 2)
    with pytest.raises(UserError, match=r"data.sources.road: img: no such folder|data.sources.road.images"):
        second.load("train")
