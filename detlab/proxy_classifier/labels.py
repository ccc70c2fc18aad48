"""Which classes of a data set the classifier tells apart, and which are its reject class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from detlab.data.index import AnnotationIndex
from detlab.errors import UserError, nearest


def classes_of_interest(
    known: Sequence[str], classes: Sequence[str] | None = None, reject_classes: Sequence[str] = ()
) -> list[str]:
    """The K classes, of those the data knows: `classes` in their order, or (None) all but `reject_classes`.

    Raises UserError for names that the data does not know, given twice or in both lists, and where none is left.
    """
    for key, names in (("classes", classes or ()), ("reject_classes", reject_classes)):
        for name in names:
            if name not in known:
                raise UserError(f"task.{key}: the data has no class '{name}'{nearest(name, known)}.")
            if list(names).count(name) > 1:
                raise UserError(f"task.{key} names '{name}' twice; name each class once.")
    if classes is None:
        classes = [name for name in known if name not in reject_classes]
        if not classes:
            raise UserError("task.reject_classes names every class of the data; leave at least one.")
    elif both := [name for name in classes if name in reject_classes]:
        raise UserError(f"'{both[0]}' is in task.classes and in task.reject_classes; take it out of one.")
    elif not classes:
        raise UserError("task.classes is empty; name at least one class, or null for all.")
    return list(classes)


def label_of_each(known: Sequence[str], classes: Sequence[str]) -> Tensor:
    """The label 0…K of each class the data knows: its place in `classes`, or K for reject; int64 ``[C]``."""
    return torch.tensor([classes.index(name) if name in classes else len(classes) for name in known])


def crop_counts(index: AnnotationIndex, lookup: Tensor, outputs: int) -> Tensor:
    """How many crops the boxes of `index` give each label, int64 ``[outputs]``."""
    labels = lookup[torch.from_numpy(index.labels[~index.ignore].astype(np.int64))]
    return torch.bincount(labels, minlength=outputs)


def balanced_rates(counts: Tensor, most: float = 10.0) -> Tensor:
    """How often to take a crop of each label so that all labels come equally often and crops are as many as they were:
    float32 ``[K + 1]``, at most `most`; labels without crops have 0."""
    present = counts > 0
    even = counts.sum() / present.sum().clamp(min=1)
    return torch.where(present, even / counts.clamp(min=1), 0.0).clamp(max=most).float()
