"""The loaders of a classifier's training: the pictures of a data set as crops."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from detlab.data.datamodule import DetectionDataModule
from detlab.data.dataset import DetectionDataset
from detlab.data.samplers import InfiniteSampler
from detlab.data.workers import init_worker, worker_context
from detlab.proxy_classifier.batches import (
    JudgedBatch,
    JudgedPictures,
    PictureCrops,
    SameSizeBatches,
    TrainingCrops,
    join_by_size,
    join_pictures,
)
from detlab.proxy_classifier.classifier import ProxyClassifier
from detlab.proxy_classifier.crops import CropRecipe


class ClassifierData(LightningDataModule):
    """The loaders of a classifier's training over the images of `data`, which are read through its transform for
    evaluation: mirroring is done crop by crop. See `PictureCrops` and `TrainingCrops` for the rest."""

    def __init__(
        self,
        data: DetectionDataModule,
        classifier: ProxyClassifier,
        lookup: Tensor,
        recipe: CropRecipe,
        sizes: Tensor,
        rates: Tensor,
        batch_size: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.data, self.classifier, self.lookup, self.recipe = data, classifier, lookup, recipe
        self.sizes, self.rates, self.batch_size, self.seed = sizes, rates, batch_size, seed

    def read_images(self) -> None:
        """Decode the training images that are kept in memory, now. Raises UserError for one that cannot be read."""
        _ = self.train_batches

    def train_dataloader(self) -> SameSizeBatches:
        return self.train_batches

    def val_dataloader(self) -> DataLoader[JudgedBatch]:
        return self.judged("val")

    def test_dataloader(self) -> DataLoader[JudgedBatch]:
        return self.judged("test")

    @cached_property
    def train_batches(self) -> SameSizeBatches:
        crops = TrainingCrops(self._crops("train"), self.classifier.sizes, self.rates)
        sampler = InfiniteSampler(len(crops), self.data.batch_size, self.seed)
        loader: DataLoader[Any] = DataLoader(
            crops, self.data.batch_size, sampler=sampler, collate_fn=join_by_size, **self._how()
        )
        return SameSizeBatches(loader, self.batch_size, self.seed)

    def judged(self, split: Literal["val", "test"]) -> DataLoader[JudgedBatch]:
        pictures = JudgedPictures(self._crops(split))
        return DataLoader(
            pictures,  # type: ignore[arg-type]  # a DataLoader's type is its dataset's, not its batches'
            self.data.eval_batch_size,
            collate_fn=join_pictures,
            **self._how(),
        )

    def _crops(self, split: Literal["train", "val", "test"]) -> PictureCrops:
        data = self.data
        pictures = DetectionDataset(
            data.index(split),
            data.eval_transform,
            data.mean,
            data.std,
            on_error=data.source.on_error,
            cache=data.cache_images and split != "test",
            seed=self.seed,
        )
        return PictureCrops(pictures, self.lookup, self.recipe, self.classifier.reject, self.sizes, self.seed)

    def _how(self) -> dict[str, Any]:
        workers = self.data._workers()
        return {
            "num_workers": workers,
            "worker_init_fn": init_worker,
            "multiprocessing_context": worker_context(workers),
            "generator": torch.Generator().manual_seed(self.seed),
        }


def box_sizes(data: DetectionDataModule) -> Tensor:
    """(width, height) of the training boxes that are not flagged `ignore`, in pixels after the resize for evaluation:
    float32 ``[S, 2]``. A resize that is drawn at random is drawn once per picture."""
    index = data.train_index
    resize = data.eval_transform.resize  # type: ignore[attr-defined]  # a Pipeline
    scales = np.empty((len(index), 2), np.float32)
    for row, (height, width) in enumerate(zip(index.heights.tolist(), index.widths.tolist())):
        new_height, new_width = resize(height, width, np.random.default_rng(row))
        scales[row] = new_width / width, new_height / height
    sizes = (index.boxes[:, 2:] - index.boxes[:, :2]) * scales[index.box_images]
    return torch.from_numpy(sizes[~index.ignore & (sizes > 0).all(1)])
