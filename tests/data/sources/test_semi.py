"""Labelled and unlabelled images as one: who is what, what is withheld, how batches mix, what losses make of it."""

from __future__ import annotations

from itertools import islice, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from detlab.data.checks.check_index import find_problems
from detlab.data.checks.problems import ABSENT, Problem
from detlab.data.datamodule import DetectionDataModule
from detlab.data.index import AnnotationIndex
from detlab.data.sources.merge import MergeSource
from detlab.data.sources.semi import SemiSupervisedSource
from detlab.data.transforms import Longest, Pipeline, scratch, strong, weak
from detlab.engine.outputs import rare_classes
from detlab.errors import UserError
from detlab.losses.alrp import ALRPCriterion
from detlab.losses.classification import Focal
from detlab.losses.criterion import Criterion
from detlab.losses.iou import IoULoss
from detlab.losses.rank_sort import RankSortCriterion
from detlab.losses.yolo import YOLOCriterion
from detlab.ops.matching import gather
from detlab.structures import Anchors, Assignment, Predictions, Targets

CLASSES = ("ant", "bee", "fly")


def made(count: int, first: int = 0, classes: tuple[str, ...] = CLASSES, folder: Any = "p") -> AnnotationIndex:
    """Two boxes a picture, of sizes of its own."""
    rng = np.random.default_rng(first)
    low = rng.integers(0, 10, (2 * count, 2))
    return AnnotationIndex.build(
        classes,
        paths=[f"{folder}/{first + row:03d}.png" for row in range(count)],
        widths=[32 + row % 3 for row in range(count)],
        heights=[24] * count,
        ids=range(500, 500 + count),
        box_images=np.repeat(np.arange(count), 2),
        boxes=np.concatenate([low, low + rng.integers(4, 12, (2 * count, 2))], 1),
        labels=rng.integers(0, len(classes), 2 * count),
    )


class Made:
    """A source of given indexes; each split may have problems."""

    on_error = "raise"

    def __init__(self, name: str = "made", problems: Any = (), **splits: AnnotationIndex) -> None:
        self.name, self.splits, self.problems = name, splits, list(problems)

    def load(self, split: str) -> tuple[AnnotationIndex, list[Problem]]:
        return self.splits.get(split, made(3, 900)), self.problems if split == "train" else []


def semi(count: int = 20, **changes: Any) -> SemiSupervisedSource:
    return SemiSupervisedSource(**{"source": Made(train=made(count)), "labeled_fraction": 0.3} | changes)


def literal_labelled(count: int, fraction: float, fold: int) -> list[int]:
    order = np.random.default_rng(fold).permutation(count).tolist()
    size = min(max(round(fraction * count), 1), count - 1)
    return sorted(order[:size])


@pytest.mark.parametrize(("fraction", "fold"), [(0.01, 1), (0.3, 1), (0.3, 2), (0.99, 3)])
def test_a_share_is_labelled_and_the_rest_is_not(fraction, fold):
    whole = made(20)
    index, problems = semi(labeled_fraction=fraction, fold=fold).load("train")
    chosen = literal_labelled(20, fraction, fold)
    rest = [row for row in range(20) if row not in chosen]
    assert problems == []
    assert index.paths.tolist() == whole.paths[chosen + rest].tolist()
    assert index.ids.tolist() == list(range(20))
    assert index.source_names == ("labelled", "unlabelled")
    assert index.sources.tolist() == [0] * len(chosen) + [1] * len(rest)
    assert index.counts.tolist() == [2] * len(chosen) + [0] * len(rest)
    assert index.annotated.tolist() == [[True] * 3, [False] * 3]
    np.testing.assert_array_equal(index.boxes, whole.select(chosen).boxes)
    np.testing.assert_array_equal(index.labels, whole.select(chosen).labels)


def test_within_a_fold_fewer_labels_are_among_more():
    def labelled(fraction: float, fold: int) -> set[str]:
        index, _ = semi(400, labeled_fraction=fraction, fold=fold).load("train")
        return set(index.paths[index.sources == 0].tolist())

    steps = [labelled(fraction, 4) for fraction in (0.01, 0.02, 0.05, 0.1)]
    assert [len(step) for step in steps] == [4, 8, 20, 40]
    assert all(fewer < more for fewer, more in pairwise(steps))
    assert labelled(0.1, 5) != steps[-1]


@pytest.mark.parametrize("fraction", [None, 0.25])
def test_another_source_is_unlabelled_with_the_rest(fraction):
    more = Made(train=made(5, 40, ("fly", "cat", "bee")))
    source = semi(8, labeled_fraction=fraction, unlabelled=more)
    index, _ = source.load("train")
    labelled = 8 if fraction is None else 2
    assert index.classes == CLASSES
    assert index.sources.tolist() == [0] * labelled + [1] * (13 - labelled)
    assert index.paths[-5:].tolist() == more.load("train")[0].paths.tolist()
    assert index.counts.tolist() == [2] * labelled + [0] * (13 - labelled)
    assert source.complete("train") is None  # nobody looked for ants there


@pytest.mark.parametrize("unlabelled", [None, ("fly", "bee", "ant")])
def test_complete_labels_are_those_that_were_withheld(unlabelled):
    more = None if unlabelled is None else Made(train=made(5, 40, unlabelled))
    source = semi(unlabelled=more)
    index, _ = source.load("train")
    full, _ = source.complete("train")
    for name in ("paths", "ids", "sources", "widths"):
        np.testing.assert_array_equal(getattr(full, name), getattr(index, name))
    assert full.annotated.all()
    labels = {path: [] for path in full.paths.tolist()}
    for part in (made(20), more.load("train")[0] if more else made(0)):
        for row, path in enumerate(part.paths.tolist()):
            at = part.boxes_of(row)
            labels[path] = [(part.classes[label], *box) for label, box in zip(part.labels[at], part.boxes[at].tolist())]
    for row, path in enumerate(full.paths.tolist()):
        at = full.boxes_of(row)
        assert labels[path] == [(CLASSES[c], *box) for c, box in zip(full.labels[at], full.boxes[at].tolist())]
    everything, _ = semi(unlabelled=more, only="all").load("train")
    np.testing.assert_array_equal(everything.boxes, full.boxes)
    assert everything.ids.tolist() == full.ids.tolist()


@pytest.mark.parametrize("only", [None, "labelled", "all"])
def test_the_rarest_classes_are_the_same_whichever_images_are_labelled(only):
    """Each fold by itself counts other classes the rarest."""
    whole = made(20)
    rarest = {name for fold in range(6) for name in rare_classes(semi(fold=fold, only="labelled").load("train")[0])}
    assert len(rarest) > 1
    for fold in range(6):
        data = DetectionDataModule(semi(fold=fold, only=only), Pipeline(), Pipeline())
        known = data.known_labels()
        np.testing.assert_array_equal(known.labels, whole.labels)
        assert rare_classes(known) == rare_classes(whole)


def test_where_labels_are_not_known_those_of_the_annotators_count():
    source = MergeSource({"a": Made(train=made(6, 0, CLASSES[:2])), "b": Made(train=made(5, 20, CLASSES[1:]))})
    known = semi(source=source).known_labels()
    assert (len(known), known.classes) == (11, CLASSES)
    data = DetectionDataModule(Made(train=made(6)), Pipeline(), Pipeline())
    data.indexes["train"] = made(6)
    assert data.known_labels() is data.train_index


def test_the_baseline_has_the_labelled_images_alone():
    both, alone = semi(), semi(only="labelled")
    index, rows = alone.load("train")[0], np.flatnonzero(both.load("train")[0].sources == 0)
    np.testing.assert_array_equal(index.paths, both.load("train")[0].paths[rows])
    assert (len(index), index.source_names, index.annotated.all()) == (6, ("labelled",), True)
    assert alone.batch_parts(index) is None
    np.testing.assert_array_equal(alone.complete("train")[0].boxes, index.boxes)
    # It does not even look at the other images.
    semi(only="labelled", unlabelled={"format": "images", "images": "nowhere"}).load("train")


def test_val_and_test_are_those_of_the_source():
    val = made(4, 70)
    source = semi(source=Made(train=made(20), val=val))
    index, _ = source.load("val")
    for name in ("paths", "ids", "boxes", "labels", "class_ids", "annotated", "source_names"):
        np.testing.assert_array_equal(getattr(index, name), getattr(val, name))
    np.testing.assert_array_equal(source.complete("val")[0].boxes, val.boxes)


def test_problems_follow_their_images_and_broken_labels_of_unlabelled_images_are_nobodys_concern():
    chosen = literal_labelled(20, 0.3, 1)
    rest = [row for row in range(20) if row not in chosen]
    found = [
        Problem("a", "error", "f", "", "m.", chosen[1], ABSENT),
        Problem("b", "error", "f", "", "m.", rest[2], ABSENT),
        Problem("c", "error", "f", "", "m.", rest[3]),
        Problem("d", "error", "f", "", "m."),
    ]
    source = semi(source=Made(train=made(20), problems=found))
    seen = {(p.kind, p.image) for p in source.load("train")[1]}
    assert seen == {("a", 1), ("c", len(chosen) + 3), ("d", None)}
    seen = {(p.kind, p.image) for p in source.complete("train")[1]}
    assert seen == {("a", 1), ("b", len(chosen) + 2), ("c", len(chosen) + 3), ("d", None)}


def test_unlabelled_images_are_not_told_to_lack_boxes():
    index, _ = semi().load("train")
    assert [p for p in find_problems(index) if p.kind == "image without boxes"] == []
    bare = index.select_boxes(np.zeros(len(index.boxes), bool))
    assert len([p for p in find_problems(bare) if p.kind == "image without boxes"]) == 6


def test_a_merge_keeps_its_sources_and_their_weights():
    merge = MergeSource({
        "a": {"source": Made(train=made(10)), "classes": ["ant"]},
        "b": {"source": Made(train=made(10, 30)), "classes": ["bee", "fly"], "weight": 3},
    })  # fmt: skip
    source = SemiSupervisedSource(merge, labeled_fraction=0.5)
    index, _ = source.load("train")
    assert index.source_names == ("labelled/a", "labelled/b", "unlabelled")
    assert index.annotated.tolist() == [[True, False, False], [False, True, True], [False] * 3]
    np.testing.assert_array_equal(source.image_weights(index), np.array([1.0, 3.0, 1.0])[index.sources])
    assert semi().image_weights(semi().load("train")[0]) is None
    assert source.complete("train") is None  # what else is in the pictures, neither source says


def test_an_image_that_is_both_is_refused_however_its_path_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p").mkdir()
    other = made(3, 17, folder=f"{tmp_path}/x/../p")
    (tmp_path / "x").mkdir()
    with pytest.raises(UserError, match=r"data\.unlabelled: .*017\.png is among the images of data\.source"):
        semi(unlabelled=Made(train=other)).load("train")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labeled_fraction": None}, "every image is labelled"),
        ({"labeled_fraction": 1.0}, "labeled_fraction=1.0: expected a number above 0 and below 1"),
        ({"fold": -1}, "data.fold=-1"),
        ({"unlabelled_share": 0}, "data.unlabelled_share=0"),
        ({"only": "some"}, "Expected only"),
        ({"source": {"format": "images", "images": "p"}}, "data.source.format=images: pictures without labels"),
        ({"source": {"source": Made(), "fraction": 0.5}}, "data.source.fraction: how many"),
        ({"unlabelled": {"source": Made(), "weight": 2}}, "data.unlabelled.weight: how many"),
        ({"unlabelled": {"format": "imgs", "images": "p"}}, "did you mean 'images'"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, message):
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
        semi(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": Made(train=made(0))}, "it has no training images"),
        ({"source": Made(train=made(1))}, "there is no unlabelled image"),
        ({"unlabelled": "nowhere"}, "nowhere: no such folder of pictures; set data.unlabelled.images"),
        ({"only": "all", "unlabelled": Made(train=made(5, 40, ("fly",)))}, "data.only=all: not all labels"),
    ],
)
def test_data_that_cannot_be_split_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        semi(**changes).load("train")


@pytest.fixture
def pictures(tmp_path: Path) -> SemiSupervisedSource:
    """12 labelled pictures, of which 4 keep their labels, and 5 in a folder."""
    rng = np.random.default_rng(0)
    for folder, count in (("own", 12), ("more", 5)):
        (tmp_path / folder).mkdir()
        for row in range(count):
            size = (24, 32 + row % 3 if folder == "own" else 40)
            picture = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(picture).save(tmp_path / folder / f"{row:03d}.png")
    own, val = made(12, folder=tmp_path / "own"), made(2, folder=tmp_path / "own")
    return SemiSupervisedSource(Made(train=own, val=val), 0.34, unlabelled=str(tmp_path / "more"), unlabelled_share=0.6)


def module(source: Any, ranks: tuple[int, int] = (0, 1), view: Any = None, **changes: Any) -> DetectionDataModule:
    settings = {"batch_size": 5, "num_workers": 0, "seed": 3} | changes
    transform = Pipeline(strong(), Longest(48))
    data = DetectionDataModule(source, transform, Pipeline(resize=Longest(48)), view_transform=view, **settings)
    data._ranks = lambda: ranks
    return data


def test_every_batch_mixes_both_and_resumes_anywhere(pictures):
    data = module(pictures)
    stream = [batch.image_ids.tolist() for batch in islice(data.train_dataloader(), 26)]
    index = data.train_index
    assert index.sources.tolist() == [0] * 4 + [1] * 13
    assert all([i < 4 for i in batch] == [True] * 2 + [False] * 3 for batch in stream)
    labelled, unlabelled = [i for b in stream for i in b[:2]], [i for b in stream for i in b[2:]]
    for ids, size in ((labelled, 4), (unlabelled, 13)):
        passes = [sorted(ids[k : k + size]) for k in range(0, len(ids) - size + 1, size)]
        assert len(passes) > 3
        assert all(each == passes[0] for each in passes)
        assert len(set(passes[0])) == size
    data.start_batch = 7
    assert [batch.image_ids.tolist() for batch in islice(data.train_dataloader(), 4)] == stream[7:11]
    assert data.batches_per_epoch == 5  # 13 unlabelled pictures, 3 in each


def test_processes_share_the_mixed_batches_out(pictures):
    alone = module(pictures, batch_size=10).train_dataloader().sampler
    parts = [module(pictures, (rank, 2)).train_dataloader().sampler for rank in range(2)]
    whole = list(islice(alone, 60))
    shares = [list(islice(part, 30)) for part in parts]
    for k in range(6):
        both = [pair for share in shares for pair in share[5 * k : 5 * k + 5]]
        assert sorted(both) == sorted(whole[10 * k : 10 * k + 10])
    assert [position for position, _ in whole] == list(range(60))
    assert module(pictures, (1, 2)).batches_per_epoch == 3


def test_a_batch_of_one_cannot_mix(pictures):
    with pytest.raises(UserError, match=r"loader\.batch_size=1: .*at least 2"):
        module(pictures, batch_size=1).train_dataloader()


def test_training_pictures_without_any_label_are_refused(tmp_path, pictures):  # noqa: ARG001
    from detlab.data.sources.custom import CustomSource

    with pytest.raises(UserError, match=r"nobody labelled the training pictures.*data=semi"):
        module(CustomSource("images", images=str(tmp_path / "more"))).setup("fit")


def test_views_show_the_unlabelled_pictures_where_they_are(pictures):
    view = Pipeline(weak(), Longest(48))
    batch = next(iter(module(pictures, view=view).train_dataloader()))
    alone = torch.stack([~t.annotated.any() for t in batch.targets])
    assert alone.tolist() == [False, False, True, True, True]
    assert batch.views.shape == (3, *batch.images.shape[1:])
    # With a strong view that is no stronger than the weak one both are the same pixels.
    plain = {"jitter": 0.0, "blur": 0.0, "cutout": 0.0}
    data = module(pictures, view=view)
    data.train_transform = Pipeline(strong(**plain), Longest(48))
    for same in islice(data.train_dataloader(), 4):
        assert torch.equal(same.images[2:], same.views)
    differ = [not torch.equal(b.images[2:], b.views) for b in islice(module(pictures, view=view).train_dataloader(), 3)]
    assert all(differ)
    assert next(iter(module(pictures).train_dataloader())).views is None
    assert all(batch.views is None for batch in module(pictures, view=view).val_dataloader())


@pytest.mark.parametrize(("labeled_view", "transform"), [("weak", weak()), ("strong", strong())])
def test_labeled_images_are_seen_weakly_or_as_strongly_as_the_others(pictures, labeled_view, transform):
    """An image's position in the stream is its seed."""
    data = module(pictures, view=Pipeline(weak(), Longest(48)), labeled_view=labeled_view)
    alone = DetectionDataModule(pictures, Pipeline(transform, Longest(48)), Pipeline(), seed=3).dataset("train")
    strongly = module(pictures).dataset("train")
    pairs = list(islice(data.train_dataloader().sampler, 10))
    for pair in pairs:
        found = data.dataset("train")[pair]
        expected = alone[pair] if found.targets.annotated.any() else strongly[pair]
        assert torch.equal(found.image, expected.image)
        assert torch.equal(found.targets.boxes, expected.targets.boxes)
        assert (found.view is None) == bool(found.targets.annotated.any())
    differ = [not torch.equal(data.dataset("train")[pair].image, strongly[pair].image) for pair in pairs[:2]]
    assert any(differ) == (labeled_view == "weak")
    with pytest.raises(ValueError, match="labeled_view"):
        module(pictures, labeled_view="none")


def test_views_come_from_workers_and_unreadable_pictures_are_skipped(tmp_path, pictures):
    view = Pipeline(weak(), Longest(48))
    pictures.on_error = "skip_image"
    data = module(pictures, view=view, batch_size=17)
    data.setup("fit")
    for number in range(5):
        content = (tmp_path / "more" / f"{number:03d}.png").read_bytes()
        (tmp_path / "more" / f"{number:03d}.png").write_bytes(content[: len(content) // 2])
    here = next(iter(data.train_dataloader()))
    data.num_workers = 1
    there = next(iter(data.train_dataloader()))
    assert here.skipped == there.skipped > 0
    assert len(here.views) == sum(not t.annotated.any() for t in here.targets) < 10
    assert torch.equal(here.views, there.views)
    assert torch.equal(here.images, there.images)
    assert torch.equal(here.to(torch.device("cpu"), torch.float64).views, here.views.double())


def test_views_moved_otherwise_are_refused(pictures):
    with pytest.raises(UserError, match=r"augment@view moves pictures by .*Longest.* and augment by .*Zoom"):
        DetectionDataModule(pictures, Pipeline(scratch()), Pipeline(), view_transform=Pipeline(weak(), Longest(48)))
    other = Pipeline(weak(), Longest(32))
    batches = iter(module(pictures, view=lambda *arguments: other(*arguments)).train_dataloader())
    with pytest.raises(UserError, match=r"second view of a picture is 32 x \d+ pixels and the first 48 x \d+"):
        next(batches)


CRITERIA = {
    "focal": Criterion(Focal(), IoULoss("giou")),
    "alrp": ALRPCriterion(),
    "rank and sort": RankSortCriterion(),
    "yolo": YOLOCriterion(IoULoss("giou")),
}


@pytest.mark.parametrize("none_labelled", [False, True])
@pytest.mark.parametrize("name", CRITERIA)
def test_no_loss_learns_from_pictures_that_nobody_labelled(name, none_labelled):
    generator = torch.Generator().manual_seed(0)
    anchors = Anchors(torch.tensor([[0.0, 0, 8, 8], [4, 4, 12, 12], [8, 0, 16, 8]]), torch.zeros(3).long(), (3,))
    leaves = SimpleNamespace(
        logits=torch.randn(2, 3, 3, generator=generator).requires_grad_(),
        boxes=(anchors.boxes + torch.rand(2, 3, 4, generator=generator)).requires_grad_(),
        deltas=torch.randn(2, 3, 4, generator=generator).requires_grad_(),
        objectness=torch.randn(2, 3, generator=generator).requires_grad_() if name == "yolo" else None,
    )
    nobody = Targets.of(torch.zeros(0, 4), torch.zeros(0), 3, annotated=torch.zeros(3))
    known = Targets.of(anchors.boxes[:1] + 1, torch.tensor([1]), 3)
    index = torch.tensor([[0, -1, -2], [-1, -1, -2]])
    if none_labelled:
        known, index = nobody, torch.tensor([[-1, -1, -2], [-1, -1, -2]])
    matched = gather(anchors, [known, nobody], Assignment(index), Predictions(quality=None, **vars(leaves)))
    losses = CRITERIA[name](matched)
    assert all(bool(loss.isfinite()) for loss in losses.values())
    sum(losses.values()).backward()
    for leaf in vars(leaves).values():
        if leaf is None or leaf.grad is None:
            continue
        assert leaf.grad.isfinite().all()
        assert not leaf.grad[1].any()
        assert bool(leaf.grad[0].any()) == (not none_labelled) or leaf is leaves.deltas
    assert leaves.logits.grad is not None
