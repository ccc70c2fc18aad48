"""`detlab label` with a trained toy detector: files that detlab reads again, holding what was missing and no more."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from detlab.config.load_run import load_finished
from detlab.data.formats.coco import read_coco, to_coco
from detlab.data.formats.voc import VocSource
from detlab.data.index import AnnotationIndex
from detlab.data.sources.merge import MergeSource
from detlab.engine.autolabel import refuse_data_folders
from detlab.errors import UserError
from detlab.proxy_classifier import ProxyClassifier, save

pytestmark = pytest.mark.usefixtures("detlab", "trained")
RUN = ["ckpt_path=run", "accelerator=cpu", "score=0.2"]
HALVES = [
    "data=merge",
    "+data.sources.a={format: voc, root: voc, split: one, val_split: val, classes: [red]}",
    "+data.sources.b={format: voc, root: voc, split: two, val_split: val, classes: [blue]}",
]


@pytest.fixture
def merged(trained) -> AnnotationIndex:  # noqa: ARG001
    """What `HALVES` reads: two pictures labelled for red alone, two for blue alone."""
    for name, pictures in {"one": "0000\n0001", "two": "0002\n0003"}.items():
        Path(f"voc/ImageSets/Main/{name}.txt").write_text(pictures)
    half = {"format": "voc", "root": "voc", "val_split": "val"}
    sources = {"a": {**half, "split": "one", "classes": ["red"]}, "b": {**half, "split": "two", "classes": ["blue"]}}
    return MergeSource(sources).load("train")[0]


def read(folder: str, split: str = "train") -> tuple[AnnotationIndex, np.ndarray]:
    """A COCO output and the scores in it."""
    file = Path(folder, "annotations", f"instances_{split}.json")
    index, problems = read_coco(Path(folder, "images", split), file)
    assert problems == []
    return index, np.array([record["score"] for record in json.loads(file.read_text())["annotations"]])


def looked_at(index: AnnotationIndex) -> list[list[tuple[str, list[float], float]]]:
    """What the detector finds with a score from 0.2 in each picture: class, box, score."""
    finished = load_finished("run", torch.device("cpu"))
    found = finished.look(index)
    rows = []
    for image in index.ids.tolist():
        triples = zip(*(column.tolist() for column in found[image]), strict=True)
        rows.append([(finished.classes[label], box, score) for box, score, label in triples if score >= 0.2])
    return rows


def test_known_labels_and_what_the_others_left_out(detlab, merged):
    before = {path: path.read_bytes() for path in Path("voc").rglob("*") if path.is_file()}
    result = detlab("label", *RUN, *HALVES, "output=out")
    assert result.status == 0, result.err
    assert result.err == ""
    index, scores = read("out")
    assert index.classes == merged.classes == ("red", "blue")
    np.testing.assert_array_equal(index.ids, merged.ids)
    total = 0
    for row, found in enumerate(looked_at(merged)):
        own, other = ("red", "blue") if row < 2 else ("blue", "red")
        expected = [(box, score) for name, box, score in found if name == other]
        at = index.boxes_of(row)
        assert [index.classes[label] for label in index.labels[at]] == [own] + [other] * len(expected)
        np.testing.assert_array_equal(index.boxes[at][0], merged.boxes[row])
        np.testing.assert_allclose(
            index.boxes[at][1:], np.array([box for box, _ in expected]).reshape(-1, 4), atol=0.02
        )
        np.testing.assert_allclose(scores[at], [1.0] + [score for _, score in expected], atol=1e-6)
        total += len(expected)
    assert total >= 4
    assert f"{total} labels found in 4 of 4 images (" in result.out
    assert ", and 4 of the annotators: out" in result.out
    record = json.loads(Path("out/labels.json").read_text())
    assert record["labels"]["red"]["known"] == record["labels"]["blue"]["known"] == 2
    assert sum(counts["found"] for counts in record["labels"].values()) == total
    assert record["command"].startswith("detlab label ckpt_path=run")
    assert {path: path.read_bytes() for path in Path("voc").rglob("*") if path.is_file()} == before


@pytest.mark.slow
@pytest.mark.parametrize("format", ["coco", "voc", "yolo"])
def test_the_command_that_it_names_reads_every_format(detlab, merged, format):
    result = detlab("label", *RUN, *HALVES, f"format={format}")
    assert result.status == 0, result.err
    folder = Path(f"run/labels/merge-train-{format}")
    command = next(line for line in result.out.splitlines() if line.startswith("To look at it: "))
    words = shlex.split(command.removeprefix("To look at it: detlab "))
    assert str(folder) in " ".join(words)
    checked = detlab(*words, "images=header")
    assert checked.status == 0, checked.out
    assert "No errors." in checked.out
    labels = json.loads((folder / "labels.json").read_text())["labels"]
    boxes = len(merged.boxes) + sum(counts["found"] for counts in labels.values())
    summaries = [line for line in checked.out.splitlines() if " images, " in line]
    shown = [int(line.split(" images, ")[1].split(" boxes")[0]) for line in summaries]
    assert sum(shown) == boxes
    assert ("a sixth column" in result.out) == (format == "yolo")


@pytest.mark.slow
def test_all_classes_without_those_that_are_labelled(detlab, merged):
    """With the known labels only what is not labelled yet; without them, all that the detector finds."""
    assert detlab("label", *RUN, *HALVES, "missing=false", "output=more").status == 0
    assert detlab("label", *RUN, *HALVES, "missing=false", "known=false", "output=all").status == 0
    both, scores = read("more")
    everything, _ = read("all")
    literal = looked_at(merged)
    assert everything.counts.tolist() == [len(found) for found in literal]
    dropped = 0
    for row, found in enumerate(literal):
        own, x1, y1, x2, y2 = ("red" if row < 2 else "blue", *merged.boxes[row].tolist())
        kept = 1
        for name, (a1, b1, a2, b2), _ in found:
            inter = max(0, min(x2, a2) - max(x1, a1)) * max(0, min(y2, b2) - max(y1, b1))
            iou = inter / ((x2 - x1) * (y2 - y1) + (a2 - a1) * (b2 - b1) - inter)
            kept += not (name == own and iou > 0.5)
        assert both.counts[row] == kept
        dropped += 1 + len(found) - kept
    assert dropped >= 2
    assert (scores == 1).sum() == 4


@pytest.mark.slow
def test_one_class_alone(detlab, merged):  # noqa: ARG001
    assert detlab("label", *RUN, *HALVES, "classes=[blue]", "known=false", "output=out").status == 0
    index, scores = read("out")
    assert set(index.labels.tolist()) == {1}
    assert index.counts[2:].tolist() == [0, 0]
    assert scores.max() < 1


def test_where_no_score_is_high_enough_the_highest_is_told(detlab, merged):  # noqa: ARG001
    result = detlab("label", *RUN, *HALVES, "score=0.999", "known=false", "output=out")
    assert result.status == 0
    assert re.search(r"Nothing has a score of 0\.999; the highest is 0\.\d{3}", result.out)


def test_of_classes_that_the_run_had_labels_of(detlab, merged):  # noqa: ARG001
    """Of a detector that was trained on a part of its classes the others are not asked for."""
    metrics = Path("run/metrics.json")
    metrics.write_text(json.dumps({**json.loads(metrics.read_text()), "annotated": ["blue"]}))
    assert detlab("label", *RUN, *HALVES, "known=false", "output=out").status == 0
    assert set(read("out")[0].labels.tolist()) == {1}
    assert detlab("label", *RUN, *HALVES, "known=false", "classes=[red]", "output=red").status == 0
    assert set(read("red")[0].labels.tolist()) == {0}


def test_classes_that_the_data_does_not_know_get_ids_behind_its_own(detlab):
    """A COCO file of red squares alone: blue ones are missing in every picture; red keeps its category id."""
    voc = VocSource("voc", train="train", classes=["red", "blue"]).load("train")[0]
    content = to_coco(voc.select_boxes(voc.labels == 0), "voc/JPEGImages")
    content["categories"] = [{"id": 7, "name": "red"}]
    for record in content["annotations"]:
        record["category_id"] = 7
    Path("red.json").write_text(json.dumps(content))
    coco = ["data=custom", "data.format=coco", "data.images=voc/JPEGImages", "data.annotations=red.json"]
    assert detlab("label", *RUN, *coco, "data.val_annotations=red.json", "output=out").status == 0
    index, scores = read("out")
    assert index.classes == ("red", "blue")
    assert index.class_ids[0] == 7 < index.class_ids[1]
    np.testing.assert_array_equal(scores == 1, index.labels == 0)
    assert (index.labels == 1).sum() >= 2


def test_where_nothing_is_missing(detlab):
    result = detlab("label", *RUN, "output=out")
    assert result.status == 1
    assert "No label is missing in train: the annotators of its 4 images looked for blue, red; for labels" in result.err
    assert not Path("out").exists()


@pytest.mark.slow
def test_labels_are_not_written_over_other_things(detlab, merged):  # noqa: ARG001
    assert detlab("label", *RUN, *HALVES, "output=out").status == 0
    again = detlab("label", *RUN, *HALVES, "output=out", "format=yolo")
    assert again.err == "detlab: output=out: there are labels already; name another folder, or add overwrite=true.\n"
    assert detlab("label", *RUN, *HALVES, "output=out", "format=yolo", "overwrite=true").status == 0
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "data.yaml", "images", "labels", "labels.json", "train.txt",
    ]  # fmt: skip
    for place in ("voc/JPEGImages/labels", "voc/../voc/out"):
        result = detlab("label", *RUN, *HALVES, f"output={place}")
        assert result.status == 1
        assert f"output={place} lies in the data set's own folder {Path('voc').resolve()}" in result.err
        assert not Path(place).exists()
    result = detlab("label", *RUN, *HALVES, "output=run", "overwrite=true")
    assert "output=run: this folder holds other things; name an empty or a new one." in result.err


def test_what_yolo_cannot_say(detlab, merged):  # noqa: ARG001
    """Ignored labels go, and scores come when asked for."""
    file = Path("voc/Annotations/0000.xml")
    file.write_text(file.read_text().replace("<difficult>0", "<difficult>1"))
    result = detlab("label", *RUN, *HALVES, "output=out", "format=yolo", "scores=true")
    assert "Left out, since YOLO txt has no mark for them: 1 ignored labels." in result.out
    assert "a sixth column" not in result.out
    lines = [line.split() for line in Path("out/labels/train/0000.txt").read_text().splitlines()]
    assert lines
    assert all(len(line) == 6 and 0.2 <= float(line[5]) < 1 for line in lines)


@pytest.fixture
def proxy(detlab, trained) -> None:  # noqa: ARG001
    """The run as if it had been trained with pseudo=proxy, and an untrained classifier that is always sure."""
    torch.manual_seed(0)
    save(ProxyClassifier(["blue", "red"], torch.tensor([[16, 16]]), width=0.25), "h.ckpt")
    path = Path("run/checkpoints/last.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    target = {"_target_": "detlab.pseudo_labels.proxy.ProxyPseudoLabels", "classifier": "h.ckpt", "confidence": 0.0}
    checkpoint["detlab"]["config"]["pseudo"] = {**target, "min_score": 0.1}
    torch.save(checkpoint, path)


@pytest.mark.usefixtures("proxy")
def test_labels_of_a_proxy_classifier(detlab, merged):
    """A run that was trained with pseudo=proxy is asked for its pseudo-labels: here all that an untrained classifier
    says of the detector's regions, blue or red alike, which overlap no label."""
    words = ["by=proxy", "score=0", "missing=false", "output=out"]
    result = detlab("label", *RUN, *HALVES, *words)
    assert result.status == 0, result.err
    index, scores = read("out")
    found = np.flatnonzero(scores < 1)
    assert len(found) >= 2
    assert (scores[found] >= 1 / 3).all()  # the largest of three probabilities
    owners = index.box_images
    for box in found:
        x1, y1, x2, y2 = merged.boxes[owners[box]].tolist()
        a1, b1, a2, b2 = index.boxes[box].tolist()
        inter = max(0, min(x2, a2) - max(x1, a1)) * max(0, min(y2, b2) - max(y1, b1))
        assert inter / ((x2 - x1) * (y2 - y1) + (a2 - a1) * (b2 - b1) - inter) <= 0.5 + 1e-3


@pytest.mark.usefixtures("proxy")
def test_a_proxy_classifier_beside_classes_that_the_detector_does_not_know(detlab):
    """A COCO file with a category more, of which it holds no box, and without blue."""
    voc = VocSource("voc", train="train", classes=["red", "blue"]).load("train")[0]
    content = to_coco(voc.select_boxes(voc.labels == 0), "voc/JPEGImages")
    content["categories"] = [{"id": 1, "name": "red"}, {"id": 7, "name": "bird"}]
    Path("red.json").write_text(json.dumps(content))
    coco = ["data=custom", "data.format=coco", "data.images=voc/JPEGImages", "data.annotations=red.json"]
    words = ["data.val_annotations=red.json", "by=proxy", "score=0", "output=out"]
    result = detlab("label", *RUN, *coco, *words)
    assert result.status == 0, result.err
    index, scores = read("out")
    assert index.classes == ("red", "bird", "blue")
    assert {index.classes[label] for label in index.labels[scores < 1]} <= {"blue"}


@pytest.mark.usefixtures("proxy")
def test_a_proxy_classifier_where_nothing_is_missing_but_all_is_asked_for(detlab):
    assert detlab("label", *RUN, "by=proxy", "score=0", "missing=false", "output=out").status == 0
    assert (read("out")[1] < 1).any()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["by=proxy"], "by=proxy: this run was not trained with labels of its own (pseudo=proxy); take by=detector"),
        (["classes=[bleu]"], "classes: the detector does not know 'bleu' (did you mean 'blue'?)."),
        (["format=cocoo"], "format='cocoo': input should be 'coco', 'voc' or 'yolo' (did you mean 'coco'?)."),
        (["score=1.5"], "score=1.5: input should be less than or equal to 1."),
        (["ckpt_path=ran"], "There is no checkpoint ran"),
    ],
)
def test_what_is_refused(detlab, words, answer):
    result = detlab("label", *RUN, *words)
    assert result.status == 1
    assert result.err.startswith(f"detlab: {answer}")


def test_pictures_in_the_working_directory_do_not_forbid_folders_below_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path)
    data = {"root": "."}
    refuse_data_folders(Path("runs/labels"), SimpleNamespace(paths=[tmp_path / "a.jpg"]), data)
    with pytest.raises(UserError, match=f"output=inner/labels lies in the data set's own folder {tmp_path}/inner;"):
        refuse_data_folders(Path("inner/labels"), SimpleNamespace(paths=["a.jpg", "inner/b.jpg"]), data)
