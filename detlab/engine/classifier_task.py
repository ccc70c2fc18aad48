"""`detlab train task=proxy`: train a proxy classifier on labelled data and judge it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

import torch

from detlab.data.datamodule import DetectionDataModule
from detlab.engine.optim import Schedule
from detlab.errors import UserError
from detlab.proxy_classifier.auxiliary import Auxiliary
from detlab.proxy_classifier.classifier import ProxyClassifier
from detlab.proxy_classifier.clusters import CropSizes, fit_centres, limited
from detlab.proxy_classifier.crops import CropRecipe
from detlab.proxy_classifier.data import ClassifierData, box_sizes
from detlab.proxy_classifier.labels import balanced_rates, classes_of_interest, crop_counts, label_of_each
from detlab.proxy_classifier.net import SMALLEST, ResNet20
from detlab.proxy_classifier.pyramid import Pooling

log = logging.getLogger(__name__)


class ProxyTask:
    """What `conf/task/proxy.yaml` describes.

    classes: the K classes of interest, in order; None: all of the data's, or the merge's own where it has auxiliary
    images, but `reject_classes`. Boxes of all other classes are the reject class. clusters: of crop sizes; largest: see
    `CropSizes`. width, levels, pooling: of the net. batch_size: crops per iteration. sampling: labels as frequent as
    they are, or each equally often. crops: which crops of a picture, see `CropRecipe`. patches, copies, flip,
    threshold: how the test is done besides as it is.

    Raises ValueError for values out of range.
    """

    def __init__(
        self,
        schedule: Schedule,
        crops: CropRecipe,
        classes: Sequence[str] | None = None,
        reject_classes: Sequence[str] = (),
        clusters: int = 8,
        largest: float | None = None,
        width: float = 1.0,
        levels: Sequence[int] = (1, 2, 4),
        pooling: Pooling = "max",
        batch_size: int = 64,
        sampling: Literal["natural", "balanced"] = "natural",
        patches: int = 3,
        copies: int = 2,
        flip: bool = False,
        threshold: float = 0.8,
    ) -> None:
        if clusters < 1 or batch_size < 2:
            raise ValueError(f"Expected clusters >= 1 and batch_size >= 2, got {clusters} and {batch_size}.")
        if patches < 1 or copies < 0:
            raise ValueError(f"Expected patches >= 1 and copies >= 0, got {patches} and {copies}.")
        if not 0 <= threshold <= 1:
            raise ValueError(f"Expected threshold in 0..1, got {threshold}.")
        if sampling not in ("natural", "balanced"):
            raise ValueError(f"Expected sampling natural or balanced, got {sampling!r}.")
        with torch.device("meta"):  # these refuse what they cannot take before any data is read
            ResNet20(2, width, levels, pooling)
        CropSizes(torch.tensor([[SMALLEST, SMALLEST]]), largest)
        self.schedule, self.recipe = schedule, crops
        self.classes, self.reject_classes = classes, reject_classes
        self.clusters, self.largest = clusters, largest
        self.width, self.levels, self.pooling = width, levels, pooling
        self.batch_size, self.sampling = batch_size, sampling
        self.patches, self.copies, self.flip, self.threshold = patches, copies, flip, threshold

    def build(self, data: DetectionDataModule, seed: int) -> tuple[ProxyClassifier, ClassifierData]:
        """The untrained classifier of the data's classes and crop sizes, and its batches. Raises UserError for classes
        that the data does not know and for data without a crop of them."""
        known = list(data.train_index.classes)
        wanted = self.classes
        if wanted is None and isinstance(data.source, Auxiliary):
            wanted = [name for name in data.source.classes_of_interest if name not in self.reject_classes]
        classes = classes_of_interest(known, wanted, self.reject_classes)
        lookup = label_of_each(known, classes)
        counts = crop_counts(data.train_index, lookup, len(classes) + 1)
        if not counts[:-1].any():
            raise UserError(f"{data.source.name}: train has no box of {', '.join(classes)}; there is nothing to learn.")
        for name, count in zip(classes, counts.tolist()):
            if not count:
                log.warning("%s: train has no box of '%s': the classifier will never find one.", data.source.name, name)
        if not counts[-1] and not self.recipe.background and not self.recipe.partial:
            log.warning(
                "All boxes of %s are of classes of interest: nothing teaches the classifier to reject; "
                "add task.crops.background=1.", data.source.name,
            )  # fmt: skip
        if not data.train_index.annotated.all() and (self.recipe.background or self.recipe.partial):
            log.warning(
                "%s: not every class was looked for in every training image, so that crops of background may show "
                "objects, which the classifier learns to reject; train it on fully labelled images (data.auxiliary of "
                "a merge), or add task.crops.background=0 task.crops.partial=0.", data.source.name,
            )  # fmt: skip
        sizes = box_sizes(data)
        centres = fit_centres(limited(sizes, self.largest).numpy(), self.clusters, seed)
        classifier = ProxyClassifier(
            classes, centres, self.largest, self.width, self.levels, self.pooling, data.mean, data.std
        )
        rates = balanced_rates(counts) if self.sampling == "balanced" else torch.ones(len(counts))
        return classifier, ClassifierData(data, classifier, lookup, self.recipe, sizes, rates, self.batch_size, seed)
