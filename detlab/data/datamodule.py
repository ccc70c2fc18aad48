"""A data source as Lightning's loaders."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np
import torch
from lightning import LightningDataModule
from lightning.pytorch.accelerators import CUDAAccelerator
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from detlab.data.checks.check_index import clean, empty_split, find_problems
from detlab.data.checks.problems import OnError, Problem, Split
from detlab.data.cores import cores
from detlab.data.dataset import IMAGENET_MEAN, IMAGENET_STD, DetectionDataset, Transform, collate
from detlab.data.index import AnnotationIndex
from detlab.data.memory import keep_freed_memory
from detlab.data.samplers import InfiniteSampler, MixedSampler, part_sizes, shared_batches
from detlab.data.transforms import Pipeline
from detlab.data.workers import init_worker, worker_context
from detlab.errors import UserError
from detlab.structures import Batch

_SPLITS: dict[str | None, tuple[Split, ...]] = {
    "fit": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
    "predict": (),
    None: ("train", "val", "test"),
}
# Reading so many headers takes seconds; more, and training would begin minutes late.
_MAX_HEADERS = 20_000


class Source(Protocol):
    """Where annotations come from: VOC, COCO, YOLO txt, scenes, several together or one's own.

    It may also offer ``image_weights(index) -> [N] or None``, how often each training image is drawn beside the
    others; ``complete(split) -> (index, problems) or None``, the images of ``load(split)`` in the same order with
    all objects labelled, where it leaves labels out; ``known_labels() -> index``, by which classes are counted; and
    ``batch_parts(index) -> [(rows int64 [N_p], share), ...]`` or None, into which parts the training images fall of
    which every batch has its share, as labelled and unlabelled ones: each part goes through its images evenly, however
    many the others have.
    """

    name: str
    on_error: OnError

    def load(self, split: Split) -> tuple[AnnotationIndex, list[Problem]]: ...


class DetectionDataModule(LightningDataModule):
    """Train, val and test loaders of one source.

    `setup` reads each split once, looks for problems and treats them as ``source.on_error`` says: "raise" raises
    UserError; else `skipped_counts[split]` tells how many of each kind were left out.

    The train loader is endless: batch k is a pure function of (seed, k), however many workers there are, so
    training goes on bit for bit from `start_batch` (or from the batch that the trainer has come to, if that is
    further). val and test come in order, each picture once, shared out over the processes.

    batch_size, eval_batch_size: pictures per process. num_workers: processes that load, per training process;
    ``"auto"``: one per core that is its to use, at most 8, none where cached pictures leave them little to do.
    cache_images: keep train's and val's decoded pictures in memory. mean, std: of RGB grey levels 0…255.

    view_transform: of a second view of the training pictures that nobody labelled, for a teacher (`Batch.views`); it
    has to move them as `train_transform` does, else UserError. labeled_view: how the other training pictures are seen:
    "strong", by `train_transform`, as those are, or "weak", by `view_transform` where there is one.
    """

    def __init__(
        self,
        source: Source,
        train_transform: Transform,
        eval_transform: Transform,
        batch_size: int = 16,
        eval_batch_size: int = 16,
        num_workers: int | Literal["auto"] = "auto",
        cache_images: bool = False,
        seed: int = 0,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        view_transform: Transform | None = None,
        labeled_view: Literal["strong", "weak"] = "strong",
    ) -> None:
        super().__init__()
        for name, size in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size)):
            if size < 1:
                raise ValueError(f"Expected {name} >= 1, got {size}.")
        if isinstance(num_workers, int) and num_workers < 0:
            raise ValueError(f"Expected num_workers of 0 or more, or 'auto', got {num_workers}.")
        if labeled_view not in ("strong", "weak"):
            raise ValueError(f"Expected labeled_view strong or weak, got {labeled_view!r}.")
        if isinstance(train_transform, Pipeline) and isinstance(view_transform, Pipeline):
            one, other = (f"[{', '.join(view.geometry)}]" for view in (train_transform, view_transform))
            if one != other:
                raise UserError(
                    f"augment@view moves pictures by {other} and augment by {one}: both views of a picture need the "
                    "same flips, crops and sizes, as augment=strong and augment@view=weak have."
                )
        self.source, self.train_transform, self.eval_transform = source, train_transform, eval_transform
        self.view_transform, self.labeled_view = view_transform, labeled_view
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.num_workers, self.cache_images = num_workers, cache_images
        self.seed, self.mean, self.std = seed, mean, std
        self.start_batch = 0
        self.indexes: dict[Split, AnnotationIndex] = {}
        self.skipped_counts: dict[Split, dict[str, int]] = {}
        self._datasets: dict[Split, DetectionDataset] = {}

    def setup(self, stage: str | None = None) -> None:
        """Load the splits that `stage` needs and that are not there yet. Raises UserError for bad data."""
        for split in _SPLITS[stage]:
            if split not in self.indexes:
                self._load(split)

    def index(self, split: Split) -> AnnotationIndex:
        """The cleaned annotations of a split, loaded on first use."""
        if split not in self.indexes:
            self._load(split)
        return self.indexes[split]

    @property
    def train_index(self) -> AnnotationIndex:
        return self.index("train")

    @property
    def val_index(self) -> AnnotationIndex:
        return self.index("val")

    @property
    def test_index(self) -> AnnotationIndex:
        return self.index("test")

    @property
    def classes(self) -> list[str]:
        """Class names in the order of their labels; those of the first split that was loaded."""
        if not self.indexes:
            raise RuntimeError("Call setup() before asking for classes.")
        return list(next(iter(self.indexes.values())).classes)

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def batches_per_epoch(self) -> int:
        """How many training batches, rounded up, show every picture once; where batches are mixed of several parts,
        every picture of the part that takes longest, and those of others more than once."""
        parts = self._parts()
        if parts is None:
            return math.ceil(len(self.train_index) / (self.batch_size * self._ranks()[1]))
        sizes = part_sizes(self.batch_size, [share for _, share in parts])
        return max(math.ceil(len(rows) / (size * self._ranks()[1])) for (rows, _), size in zip(parts, sizes))

    def complete(self, split: Split) -> AnnotationIndex | None:
        """The images of ``index(split)``, row by row, with the labels that the source leaves out; None where it does
        not know them. Broken boxes among them are dropped."""
        offered: Any = getattr(self.source, "complete", None)
        found = None if offered is None else offered(split)
        if found is None:
            return None
        full, problems = found
        broken = [p for p in [*problems, *find_problems(full)] if p.severity == "error" and p.box is not None]
        full, _ = clean(full, broken, "skip_box")
        row_of = {number: row for row, number in enumerate(full.ids.tolist())}
        return full.select([row_of[number] for number in self.index(split).ids.tolist()])

    def known_labels(self) -> AnnotationIndex:
        """The training labels by which classes are counted, as many of them as are known: those of the source whatever
        share of them is withheld or left out, else those of ``complete("train")``, else the annotators'."""
        offered: Any = getattr(self.source, "known_labels", None)
        if offered is not None:
            return offered()
        complete = self.complete("train")
        return self.train_index if complete is None else complete

    def dataset(self, split: Split) -> DetectionDataset:
        """The pictures of a split: train through the training transform, val and test for evaluation."""
        if split not in self._datasets:
            training = split == "train"
            self._datasets[split] = DetectionDataset(
                self.index(split),
                self.train_transform if training else self.eval_transform,
                self.mean,
                self.std,
                on_error=self.source.on_error,
                cache=self.cache_images and split != "test",  # test is read once
                seed=self.seed,
                evaluation=not training,
                view=self.view_transform if training else None,
                labeled=self.view_transform if training and self.labeled_view == "weak" else None,
            )
        return self._datasets[split]

    def read_pictures(self) -> None:
        """Decode what `cache_images` keeps in memory, now. Raises UserError for a picture that cannot be read."""
        for split in _SPLITS["fit"]:
            self.dataset(split)

    def train_dataloader(self) -> DataLoader[Batch]:
        parts, weights = self._parts(), self._image_weights()
        settings: Any = (self.batch_size, self.seed, *self._ranks(), self._next_batch, weights)
        sampler = InfiniteSampler(len(self.train_index), *settings) if parts is None else MixedSampler(parts, *settings)
        return self._loader("train", batch_size=self.batch_size, sampler=sampler)

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._loader("val", batch_sampler=self._in_order("val"))

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._loader("test", batch_sampler=self._in_order("test"))

    def _image_weights(self) -> torch.Tensor | None:
        offered: Any = getattr(self.source, "image_weights", None)
        weights = None if offered is None else offered(self.train_index)
        return None if weights is None else torch.as_tensor(weights)

    def _parts(self) -> list[tuple[NDArray[np.int64], float]] | None:
        offered: Any = getattr(self.source, "batch_parts", None)
        parts = None if offered is None else offered(self.train_index)
        if parts is not None and self.batch_size < len(parts):
            raise UserError(
                f"loader.batch_size={self.batch_size}: every batch holds labelled and unlabelled pictures; give at "
                f"least {len(parts)}."
            )
        return parts

    def _load(self, split: Split) -> None:
        index, problems = self.source.load(split)
        if split == "train" and len(index) and not index.annotated[np.unique(index.sources)].any():
            raise UserError(
                f"{self.source.name}: nobody labelled the training pictures; pictures without labels are for "
                "data.unlabelled of data=semi, beside labelled ones."
            )
        headers = len(index) <= _MAX_HEADERS
        problems = problems + find_problems(index, read_images="header" if headers else "none")
        index, counts = clean(index, problems, self.source.on_error)
        if not len(index):
            raise UserError(str(empty_split(self.source.name, split)))
        for other, known in self.indexes.items():
            if known.classes != index.classes:
                raise UserError(
                    f"{self.source.name}: {split} has the classes {', '.join(index.classes)}, but {other} has "
                    f"{', '.join(known.classes)}; give both the same list in the same order."
                )
        self.indexes[split], self.skipped_counts[split] = index, counts
        if split == "train":
            self._parts()  # what cannot be mixed is told now, not when training begins

    def _loader(self, split: Split, **which: Any) -> DataLoader[Batch]:
        dataset, workers = self.dataset(split), self._workers()
        if not workers:
            keep_freed_memory()
        return DataLoader(
            dataset,  # type: ignore[arg-type]  # a DataLoader's type is its dataset's, not its batches'
            **which,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=self.trainer is not None and isinstance(self.trainer.accelerator, CUDAAccelerator),
            persistent_workers=workers > 0,
            worker_init_fn=init_worker,
            multiprocessing_context=worker_context(workers),
            # Of its own: else each iteration draws from torch's global state, and a resumed run would differ.
            generator=torch.Generator().manual_seed(self.seed),
        )

    def _in_order(self, split: Split) -> list[list[int]]:
        return shared_batches(len(self.index(split)), self.eval_batch_size, *self._ranks())

    def _next_batch(self) -> int:
        # The first training batch that the trainer has not been given, also after it has loaded a checkpoint.
        seen = 0 if self.trainer is None else self.trainer.fit_loop.epoch_loop.total_batch_idx + 1
        return max(self.start_batch, seen)

    def _ranks(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _workers(self) -> int:
        if isinstance(self.num_workers, int):
            return self.num_workers
        processes = 1 if self.trainer is None else max(self.trainer.num_devices, 1)
        share = cores(processes)
        return 0 if self.cache_images and share <= 2 else min(share, 8)
