"""The columns as states of a torchmetrics metric: gathered once under DDP, whatever the number of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from detlab.metrics.columns import Found, Truth

_STATES = {
    "image_ids": torch.empty(0, dtype=torch.int64),
    "found_counts": torch.empty(0, dtype=torch.int64),
    "found_boxes": torch.empty(0, 4),
    "found_scores": torch.empty(0),
    "found_labels": torch.empty(0, dtype=torch.int64),
    "truth_counts": torch.empty(0, dtype=torch.int64),
    "truth_boxes": torch.empty(0, 4),
    "truth_labels": torch.empty(0, dtype=torch.int64),
    "truth_ignore": torch.empty(0, dtype=torch.uint8),
    "truth_areas": torch.empty(0),
}


class ColumnMetric(Metric):
    """A metric over all detections and all ground truth: `update` calls `add`, `compute` takes `columns`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in _STATES:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def add(
        self,
        found: Sequence[tuple[Tensor, Tensor, Tensor]],
        truth: Sequence[tuple[Tensor, Tensor, Tensor]],
        areas: Sequence[Tensor] | None = None,
        image_ids: Tensor | None = None,
    ) -> None:
        """Keep B images, at least one: (boxes ``[N, 4]``, scores ``[N]``, labels ``[N]``) and (boxes ``[M, 4]``,
        labels ``[M]``, ignore ``[M]``) of each, boxes xyxy in pixels.

        areas: ``[M]`` per image; None: of the boxes. image_ids: int64 ``[B]``; an image that comes twice counts
        once, and columns are in the order of ids; None: every image is another, in the order they came.
        """
        if areas is None:
            areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes, _, _ in truth]
        ids = torch.full((len(truth),), -1) if image_ids is None else image_ids
        self._append("image_ids", [ids])
        self._append("found_counts", [torch.tensor([len(labels)]) for _, _, labels in found])
        self._append("truth_counts", [torch.tensor([len(labels)]) for _, labels, _ in truth])
        for name, parts in zip(("found_boxes", "found_scores", "found_labels"), zip(*found)):
            self._append(name, parts)
        for name, parts in zip(("truth_boxes", "truth_labels", "truth_ignore"), zip(*truth)):
            self._append(name, parts)
        self._append("truth_areas", areas)

    def columns(self) -> tuple[Found, Truth]:
        """Everything kept, images numbered in the order of their ids, repeated images left out."""
        state = {}
        for name, like in _STATES.items():
            value = getattr(self, name)
            parts = [like, *value] if isinstance(value, list) else [value]
            state[name] = torch.cat([part.cpu() for part in parts]).numpy()
        ids = state["image_ids"]
        order = np.argsort(ids, kind="stable")
        number = np.empty_like(ids)
        number[order] = np.arange(len(ids))
        repeated = np.zeros(len(ids), dtype=bool)
        repeated[order[1:]] = (ids[order[1:]] == ids[order[:-1]]) & (ids[order[1:]] >= 0)
        found_image = np.repeat(np.arange(len(ids)), state["found_counts"])
        truth_image = np.repeat(np.arange(len(ids)), state["truth_counts"])
        found = Found(
            number[found_image],
            state["found_labels"],
            state["found_boxes"].astype(np.float64),
            state["found_scores"].astype(np.float64),
        ).rows(~repeated[found_image])
        truth = Truth(
            number[truth_image],
            state["truth_labels"],
            state["truth_boxes"].astype(np.float64),
            state["truth_ignore"].astype(bool),
            state["truth_areas"].astype(np.float64),
        ).rows(~repeated[truth_image])
        in_order = found.rows(np.argsort(found.image, kind="stable"))
        return in_order, truth.rows(np.argsort(truth.image, kind="stable"))

    def _append(self, name: str, parts: Sequence[Tensor]) -> None:
        like = _STATES[name]
        whole = torch.cat([part.detach() for part in parts])
        getattr(self, name).append(whole.to(self.device, like.dtype).reshape(-1, *like.shape[1:]))

    def _sync_dist(self, dist_sync_fn: Callable | None = None, process_group: Any | None = None) -> None:
        """A process that saw no image must gather empty columns of the right type, or the others wait for ever."""
        for name, like in _STATES.items():
            if not getattr(self, name):
                setattr(self, name, [like.to(self.device)])
        arguments = {} if dist_sync_fn is None else {"dist_sync_fn": dist_sync_fn}
        super()._sync_dist(process_group=process_group, **arguments)
