import os
import signal
from itertools import islice
from pathlib import Path

import cv2
import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image
from torch.utils.data import DataLoader, get_worker_info

from detlab.data.checks.problems import Problem
from detlab.data.datamodule import DetectionDataModule
from detlab.data.index import AnnotationIndex
from detlab.data.transforms import Longest, Pipeline, scratch
from detlab.data.workers import init_worker
from detlab.errors import UserError

COUNTS = {"train": 14, "val": 5, "test": 3}


class Pictures:
    """A source of small noise pictures with one box each; the box of train picture 2 is inverted if `bad`."""

    name = "pictures"

    def __init__(self, folder: Path, on_error="raise", bad=False, problems=(), counts=COUNTS, classes=None):
        self.folder, self.on_error, self.bad, self.problems = folder, on_error, bad, list(problems)
        self.counts, self.per_split, self.loaded = counts, classes or {}, []

    def load(self, split):
        self.loaded.append(split)
        rng = np.random.default_rng(0)
        paths = [self.folder / f"{split}{number}.png" for number in range(self.counts[split])]
        for path in paths:
            if not path.exists():
                Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(path)
        n = len(paths)
        boxes = np.tile(np.array([[4, 4, 20, 16]], np.float32), (n, 1))
        if self.bad and split == "train":
            boxes[2] = [20, 16, 4, 4]
        index = AnnotationIndex.build(
            self.per_split.get(split, ["a", "b"]),
            paths=[str(path) for path in paths],
            widths=[32] * n,
            heights=[24] * n,
            ids=range(100, 100 + n),
            box_images=range(n),
            boxes=boxes,
            labels=np.arange(n) % 2,
        )
        return index, self.problems if split == "train" else []


def module_for(folder, workers=0, **changes):
    settings = {"batch_size": 4, "eval_batch_size": 2, "num_workers": workers, "seed": 3} | changes
    source = settings.pop("source", None) or Pictures(folder)
    return DetectionDataModule(source, Pipeline(scratch(), Longest(32)), Pipeline(resize=Longest(32)), **settings)


def batches(loader, count):
    return [
        (batch.images, batch.image_ids.tolist(), [t.boxes for t in batch.targets]) for batch in islice(loader, count)
    ]


def assert_same(ones, others):
    assert len(ones) == len(others)
    for one, other in zip(ones, others):
        assert one[1] == other[1]
        assert torch.equal(one[0], other[0])
        assert all(map(torch.equal, one[2], other[2]))


@pytest.mark.parametrize("cached", [False, True])
def test_training_resumes_at_any_batch_with_any_number_of_workers(tmp_path, cached):
    whole = batches(module_for(tmp_path).train_dataloader(), 10)
    for workers in (0, 2):
        first = module_for(tmp_path, workers, cache_images=cached)
        rest = module_for(tmp_path, workers, cache_images=cached)
        rest.start_batch = 5
        assert_same(whole, batches(first.train_dataloader(), 5) + batches(rest.train_dataloader(), 5))


def test_another_seed_gives_other_batches(tmp_path):
    one = batches(module_for(tmp_path, seed=1).train_dataloader(), 3)
    other = batches(module_for(tmp_path, seed=2).train_dataloader(), 3)
    assert [batch[1] for batch in one] != [batch[1] for batch in other]


def test_loading_leaves_the_global_random_state_alone(tmp_path):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    data = module_for(tmp_path)
    batches(data.train_dataloader(), 3)
    list(data.val_dataloader())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_goes_through_each_split_once_in_order(tmp_path, workers):
    data = module_for(tmp_path, workers)
    for split, loader in (("val", data.val_dataloader()), ("test", data.test_dataloader())):
        for _ in range(2):
            seen = list(loader)
            assert [i for batch in seen for i in batch.image_ids.tolist()] == list(range(100, 100 + COUNTS[split]))
            assert all(batch.originals is not None and batch.areas is not None for batch in seen)


def test_setup_loads_what_a_stage_needs_and_only_once(tmp_path):
    data = module_for(tmp_path)
    assert data.source.loaded == []
    data.setup("fit")
    data.setup("fit")
    data.setup("validate")
    assert data.source.loaded == ["train", "val"]
    data.setup()
    assert data.source.loaded == ["train", "val", "test"]
    assert (data.classes, data.num_classes) == (["a", "b"], 2)
    assert (len(data.train_index), len(data.val_index), len(data.test_index)) == (14, 5, 3)
    assert data.batches_per_epoch == 4


def test_classes_before_setup_are_refused(tmp_path):
    with pytest.raises(RuntimeError, match="setup"):
        _ = module_for(tmp_path).classes


def test_bad_rows_follow_the_policy_of_the_source(tmp_path):
    with pytest.raises(UserError, match="train2"):
        module_for(tmp_path, source=Pictures(tmp_path, bad=True)).setup("fit")
    box = module_for(tmp_path, source=Pictures(tmp_path, "skip_box", bad=True))
    image = module_for(tmp_path, source=Pictures(tmp_path, "skip_image", bad=True))
    for data in (box, image):
        data.setup("fit")
        assert sum(data.skipped_counts["train"].values()) == 1
        assert not any(data.skipped_counts["val"].values())
    assert (len(box.train_index), len(box.train_index.boxes)) == (14, 13)
    assert (len(image.train_index), len(image.train_index.boxes)) == (13, 13)


def test_problems_of_the_reader_count_too(tmp_path):
    lost = Problem("malformed XML", "error", "x.xml", "line 3", "is cut short")
    with pytest.raises(UserError, match=r"x\.xml"):
        module_for(tmp_path, source=Pictures(tmp_path, problems=[lost])).setup("fit")
    data = module_for(tmp_path, source=Pictures(tmp_path, "skip_box", problems=[lost]))
    data.setup("fit")
    assert data.skipped_counts["train"] == {"malformed XML": 1}


def test_a_missing_picture_is_dropped_before_training(tmp_path):
    source = Pictures(tmp_path, "skip_image")
    source.load("train")
    (tmp_path / "train0.png").write_bytes(b"")
    data = module_for(tmp_path, source=source)
    data.setup("fit")
    assert len(data.train_index) == 13
    assert sum(data.skipped_counts["train"].values()) == 1


def test_an_empty_split_and_unequal_classes_are_refused(tmp_path):
    with pytest.raises(UserError, match="val split has no pictures"):
        module_for(tmp_path, source=Pictures(tmp_path, counts=COUNTS | {"val": 0})).setup("fit")
    with pytest.raises(UserError, match="val has the classes b, a"):
        module_for(tmp_path, source=Pictures(tmp_path, classes={"val": ["b", "a"]})).setup("fit")


@pytest.mark.parametrize("change", [{"batch_size": 0}, {"eval_batch_size": -1}, {"num_workers": -2}])
def test_bad_arguments(tmp_path, change):
    with pytest.raises(ValueError, match=f"Expected .*{next(iter(change))}"):
        module_for(tmp_path, **change)


def test_automatic_workers(tmp_path, monkeypatch):
    for processors, cached, expected in ((1, True, 0), (2, True, 0), (2, False, 2), (6, True, 6), (64, False, 8)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, n=processors: set(range(n)), raising=False)
        loader = module_for(tmp_path, "auto", cache_images=cached).train_dataloader()
        assert loader.num_workers == expected
        assert loader.persistent_workers == (expected > 0)


class Settings(torch.utils.data.Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, _):
        assert get_worker_info() is not None
        handlers = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)]
        return [*map(int, handlers), torch.get_num_threads(), cv2.getNumThreads()]


def test_workers_drop_the_signal_handlers_of_the_training_process():
    previous = {s: signal.signal(s, lambda *_: None) for s in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)}
    try:
        (row, _) = DataLoader(Settings(), None, num_workers=1, worker_init_fn=init_worker)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    default, ignored = int(signal.SIG_DFL), int(signal.SIG_IGN)
    assert row[:4] == [default, ignored, ignored, ignored]
    assert row[4:] == [1, 1]


class Recorder(lightning.LightningModule):
    """Learns one number and notes the pictures of each training batch."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen, self.validated = [], []

    def training_step(self, batch):
        self.seen.append((batch.images, batch.image_ids.tolist(), [t.boxes for t in batch.targets]))
        return (self.weight - batch.images.mean()) ** 2

    def validation_step(self, batch):
        self.validated += batch.image_ids.tolist()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(folder, steps, workers=0, resume=None, **changes):
    settings = {"max_epochs": -1, "val_check_interval": 3, "check_val_every_n_epoch": None, "num_sanity_val_steps": 0}
    settings["enable_checkpointing"] = "callbacks" in changes
    trainer = lightning.Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **(settings | changes),
    )
    module = Recorder()
    trainer.fit(module, datamodule=module_for(folder, workers), ckpt_path=resume, weights_only=True)
    return trainer, module


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"accumulate_grad_batches": 2},
        {"limit_train_batches": 3, "val_check_interval": 1.0, "check_val_every_n_epoch": 1},  # many short epochs
    ],
    ids=["endless", "accumulating", "epochs"],
)
def test_a_trainer_sees_the_stream_and_goes_on_where_it_stopped(tmp_path, settings, workers):
    per_step = settings.get("accumulate_grad_batches", 1)
    _, whole = fit(tmp_path, 8, workers, **settings)
    assert_same(whole.seen, batches(module_for(tmp_path).train_dataloader(), 8 * per_step))
    assert whole.validated[:5] == list(range(100, 105))

    save = ModelCheckpoint(tmp_path, "step{step}", every_n_train_steps=4, auto_insert_metric_name=False)
    _, first = fit(tmp_path, 5, workers, callbacks=[save], **settings)  # goes on after the last checkpoint
    _, rest = fit(tmp_path, 8, workers, resume=tmp_path / "step4.ckpt", **settings)
    assert_same(whole.seen, first.seen[: 4 * per_step] + rest.seen)
    assert torch.equal(whole.weight, rest.weight)
