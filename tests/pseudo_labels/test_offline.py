"""Labels of finished detectors: which are added, what becomes of them in training, and what is refused."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from detlab.config.instantiate import load_run
from detlab.config.load_run import load_finished
from detlab.config.pseudo_labels import open_run
from detlab.data.datamodule import DetectionDataModule
from detlab.data.sources.custom import CustomSource
from detlab.data.sources.merge import MergeSource
from detlab.data.transforms import Pipeline
from detlab.errors import UserError
from detlab.pseudo_labels.offline import OfflineLabels as Strategy
from detlab.structures import Targets

OfflineLabels = partial(Strategy, open_run=open_run)
pytestmark = pytest.mark.usefixtures("detlab", "trained")

LISTS = {"one": ["0000", "0001"], "two": ["0002", "0003"]}
WHOLE = {"format": "voc", "root": "voc", "split": "train", "val_split": "val"}
BLUE = {"run": "run", "classes": ["blue"]}


@pytest.fixture
def halves(trained) -> dict:  # noqa: ARG001
    """The training squares as a merge: two pictures labelled for red alone, two for blue alone."""
    for name, pictures in LISTS.items():
        Path(f"voc/ImageSets/Main/{name}.txt").write_text("\n".join(pictures))
    half = {"format": "voc", "root": "voc", "val_split": "val"}
    sources = {"a": {**half, "split": "one", "classes": ["red"]}, "b": {**half, "split": "two", "classes": ["blue"]}}
    return {"sources": sources, "val": WHOLE, "test": WHOLE, "complete": WHOLE}


def datamodule(source) -> DetectionDataModule:
    return DetectionDataModule(source, Pipeline(), Pipeline(), batch_size=2, num_workers=0)


def prepared(halves, detectors, **more) -> tuple[DetectionDataModule, Strategy]:
    data = datamodule(MergeSource(**halves))
    data.setup()
    treatment = OfflineLabels(detectors, accelerator="cpu", **more)
    treatment.bind(data.classes)
    treatment.prepare(data)
    return data, treatment


@pytest.mark.slow
def test_each_detector_labels_what_others_left_out(halves):
    """Blue in the first two pictures by one detector, red in the last two by another."""
    before = MergeSource(**halves).load("train")[0]
    data, treatment = prepared(halves, [BLUE, {"run": "run", "classes": ["red"]}], score=0.2)
    after = data.train_index
    assert before.classes == after.classes == ("red", "blue")
    assert after.paths.tolist() == before.paths.tolist()
    np.testing.assert_array_equal(after.annotated, [[True, False], [False, True]])
    looked = load_finished("run", torch.device("cpu")).look(before)
    added = 0
    for row in range(4):
        label, name = (1, "blue") if row < 2 else (0, "red")
        expected = []
        for box, score, found in zip(*looked[row], strict=True):
            if ["blue", "red"][found] == name and score >= 0.2:
                expected.append(box.tolist())
        at = after.boxes_of(row)
        assert after.labels[at].tolist() == [1 - label] + [label] * len(expected)
        np.testing.assert_array_equal(after.boxes[at][0], before.boxes[before.boxes_of(row)][0])
        np.testing.assert_allclose(after.boxes[at][1:], np.array(expected).reshape(-1, 4), atol=1e-3)
        added += len(expected)
    assert added >= 4
    first, second = treatment.summary
    assert first.startswith(f"Finished detectors added {added} labels to the 4 training images that lack some, in ")
    assert second.startswith("Of these labels ")
    assert treatment.log_metrics == {}


def test_how_right_they_are(halves):
    """Where the detector's labels are put in place of the withheld ones, and of them alone, all are right."""
    data, treatment = prepared(halves, [BLUE], score=0.0, max_iou=1.0)
    rights = [float(word) for word in treatment.summary[1].split() if word.replace(".", "").isdigit()]
    truth = data.complete("train")
    index = data.train_index
    hits, labels, objects = 0, 0, 0
    for row in range(2):
        at = index.boxes_of(row)
        found = torch.from_numpy(index.boxes[at][index.labels[at] == 1])
        real = torch.from_numpy(truth.boxes[truth.boxes_of(row)][truth.labels[truth.boxes_of(row)] == 1])
        hits += int((box_iou(real, found) >= 0.5).any(1).sum())
        labels, objects = labels + len(found), objects + len(real)
    missing = objects + 2  # and two red ones, which nobody was asked for
    assert rights[0] == pytest.approx(100 * hits / labels, abs=0.05)
    assert rights[1] == pytest.approx(100 * hits / missing, abs=0.05)


@pytest.mark.slow
def test_an_object_is_labelled_once(halves):
    """The same detector twice adds nothing the second time, as long as its own labels do not overlap that much."""
    once, _ = prepared(halves, [BLUE], score=0.05)
    twice, _ = prepared(halves, [BLUE, BLUE], score=0.05)
    np.testing.assert_array_equal(once.train_index.boxes, twice.train_index.boxes)


@pytest.mark.slow
def test_without_classes_it_is_asked_for_all_that_the_data_has(halves):
    asked, _ = prepared(halves, [{"run": "run"}], score=0.2)
    named, _ = prepared(halves, [{"run": "run", "classes": ["red", "blue"]}], score=0.2)
    np.testing.assert_array_equal(asked.train_index.boxes, named.train_index.boxes)
    assert set(asked.train_index.labels[asked.train_index.boxes_of(3)]) <= {0, 1}


@pytest.mark.slow
def test_without_classes_it_is_asked_for_those_that_it_had_labels_of(halves):
    metrics = Path("run/metrics.json")
    metrics.write_text(json.dumps({**json.loads(metrics.read_text()), "annotated": ["blue"]}))
    asked, _ = prepared(halves, [{"run": "run"}], score=0.2)
    named, _ = prepared(halves, [BLUE], score=0.2)
    np.testing.assert_array_equal(asked.train_index.boxes, named.train_index.boxes)
    with pytest.raises(UserError, match="does not know 'red'"):
        OfflineLabels([{"run": "run", "classes": ["red"]}])


def test_the_state_of_the_random_numbers_stays(halves):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    prepared(halves, [BLUE])
    assert torch.equal(torch.rand(2), expected)


def test_nothing_is_missing_in_labelled_images():
    data = datamodule(CustomSource(**WHOLE))
    data.setup()
    before = data.train_index
    treatment = OfflineLabels([BLUE], accelerator="cpu")
    treatment.bind(data.classes)
    treatment.prepare(data)
    np.testing.assert_array_equal(data.train_index.boxes, before.boxes)
    assert treatment.summary == ["No label is missing in the training images: finished detectors had nothing to add."]


def test_every_image_counts_as_annotated():
    targets = Targets.of(torch.zeros(0, 4), torch.zeros(0), 2, annotated=torch.tensor([True, False]))
    assert OfflineLabels([BLUE]).transform_targets([targets])[0].annotated.all()
    assert not targets.annotated.all()


def test_pictures_that_cannot_be_read_are_left_out_if_the_data_says_so(halves):
    Path("voc/JPEGImages/0000.jpg").write_bytes(Path("voc/JPEGImages/0000.jpg").read_bytes()[:700])
    data = datamodule(MergeSource(**halves, on_error="skip_image"))
    data.setup()
    treatment = OfflineLabels([BLUE], score=0.0, accelerator="cpu")
    treatment.bind(data.classes)
    treatment.prepare(data)
    counts = data.train_index.counts
    assert counts[0] == 1
    assert counts[1] > 1


def typed(entry: dict) -> str:
    """As one would type it."""
    return json.dumps(entry).replace('"', "")


@pytest.mark.slow
def test_a_training_uses_them_and_says_so(detlab, halves, toy):
    merge = [f"+data.sources.{name}={typed(entry)}" for name, entry in halves["sources"].items()]
    merge += [f"data.{name}={typed(WHOLE)}" for name in ("val", "test", "complete")]
    words = ["pseudo=offline", "pseudo.detectors=[{run: run, classes: [blue]}]", "pseudo.score=0.2"]
    extra = ["logger=csv", "report=false", "run_dir=second", "schedule.iterations=2"]
    result = detlab("train", *toy, "data=merge", *merge, *words, *extra)
    assert result.status == 0, result.err
    assert "Finished detectors added" in result.out
    text = Path("second/train.log").read_text()
    assert "labels to the 4 training images that lack some" in text
    assert "% of those that were missing" in text
    assert load_run("second")[1] == ["red", "blue"]


def spoil_unfinished() -> None:
    metrics = Path("run/metrics.json")
    metrics.write_text(json.dumps({**json.loads(metrics.read_text()), "status": "stopped"}))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("detectors", "spoil", "answer"),
    [
        ([], None, "there is none to label with; give them as [{run: '"),
        ("[{run: a}]", None, "got '[{run: a}]'; put quotes around what holds a = or a comma, as in [{run: 'runs/a"),
        (["run"], None, "pseudo.detectors[0]: expected a run and its classes, got 'run'"),
        ([{"classes": ["blue"]}], None, "expected a run and its classes"),
        ([{"run": "run", "clases": ["blue"]}], None, "no key 'pseudo.detectors[0].clases' in the config (did you mean"),
        ([BLUE, {"run": "ran"}], None, "pseudo.detectors[1].run=ran: there is no such run; train it, before"),
        ([BLUE], spoil_unfinished, "run=run: that run is not finished; start it again, before"),
        ([BLUE], lambda: Path("run/checkpoints/last.ckpt").unlink(), "its checkpoint is gone"),
        ([{"run": "run", "classes": ["blu"]}], None, "the detector of run does not know 'blu' (did you mean 'blue'?)"),
        ([{"run": "run", "classes": "blue"}], None, "expected a list of class names, as [car, van], got 'blue'"),
        ([{"run": "run", "classes": []}], None, "expected a list of class names"),
    ],
)
def test_what_cannot_label_is_refused_at_once(detectors, spoil, answer):
    if spoil:
        spoil()
    with pytest.raises(UserError) as refused:
        OfflineLabels(detectors)
    assert answer in str(refused.value)


def test_classes_that_the_data_does_not_have_are_refused():
    with pytest.raises(UserError, match=r"\[0\]\.classes: the training data has no class 'blue' \(valid: green, red"):
        OfflineLabels([BLUE]).bind(["red", "green"])
    with pytest.raises(UserError, match=r"none of the classes that its detector knows \(blue, red\); leave it out"):
        OfflineLabels([{"run": "run"}]).bind(["green"])


@pytest.mark.parametrize("bad", [{"score": 1.5}, {"max_iou": -0.1}])
def test_values_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match=r"Expected \w+ in \[0, 1\], got"):
        OfflineLabels([BLUE], **bad)


@pytest.mark.slow
def test_an_unknown_run_is_answered_before_data_is_read(detlab, toy):
    result = detlab("train", *toy, "data=voc07", "pseudo=offline", "pseudo.detectors=[{run: 'nowhere/seed=0'}]")
    assert result.status == 1
    assert result.err.startswith("detlab: pseudo.detectors[0].run=nowhere/seed=0: there is no such run")
    unquoted = detlab("train", *toy, "data=voc07", "pseudo=offline", "pseudo.detectors=[{run: nowhere/seed=0}]")
    assert "put quotes around what holds a =" in unquoted.err
