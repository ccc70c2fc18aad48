"""The tensors that travel along a training step, named.

Box convention everywhere inside detlab: ``xyxy``, absolute pixels, right and bottom exclusive
(width = x2 − x1). Readers convert on entry.

Symbols: B images, A anchors, C classes, G ground-truth boxes of one image, P positives of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

BACKGROUND = -1
IGNORED = -2

_T = TypeVar("_T", bound="_Movable")


class _Movable:
    """`.to` and `.pin_memory` over the fields of a dataclass (plain, as Lightning refuses frozen ones)."""

    def _map(self: _T, method: str, *args: Any, **kwargs: Any) -> _T:
        def move(value: Any) -> Any:
            if isinstance(value, Tensor | _Movable):
                return getattr(value, method)(*args, **kwargs)
            if isinstance(value, list):
                return [move(item) for item in value]
            return value

        return type(self)(**{f.name: move(getattr(self, f.name)) for f in fields(self)})  # type: ignore[arg-type]

    def to(self: _T, *args: Any, **kwargs: Any) -> _T:
        return self._map("to", *args, **kwargs)

    def pin_memory(self: _T) -> _T:
        return self._map("pin_memory")


@dataclass
class Targets(_Movable):
    """What is known about one image.

    boxes: float32 ``[G, 4]`` xyxy pixels. labels: int64 ``[G]`` from 0.
    weights: float32 ``[G]``, 1 for hand-made labels. ignore: bool ``[G]`` (crowd / difficult): neither
    positive nor negative. annotated: bool ``[C]``: the classes this image's annotators looked for.
    probs: float32 ``[G, C]`` or None: soft class probabilities where a pseudo-label has them.
    box_weights: float32 ``[G]`` or None: of the box losses, where those are not `weights` (0: where the object is, its
    corners are not known well enough to be learnt).
    """

    boxes: Tensor
    labels: Tensor
    weights: Tensor
    ignore: Tensor
    annotated: Tensor
    probs: Tensor | None = None
    box_weights: Tensor | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, keep: Tensor) -> Targets:
        """The boxes chosen by a mask or index over G."""
        return Targets(
            self.boxes[keep],
            self.labels[keep],
            self.weights[keep],
            self.ignore[keep],
            self.annotated,
            None if self.probs is None else self.probs[keep],
            None if self.box_weights is None else self.box_weights[keep],
        )

    @staticmethod
    def of(
        boxes: Tensor,
        labels: Tensor,
        num_classes: int,
        *,
        weights: Tensor | None = None,
        ignore: Tensor | None = None,
        annotated: Tensor | None = None,
        probs: Tensor | None = None,
    ) -> Targets:
        """Fill in the usual values and check shapes, dtypes and label range.

        Raises ValueError for a label outside ``0 … num_classes − 1`` (on CUDA it would surface as an
        unreadable device assert) and for fields of unequal length.
        """
        boxes = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        labels = torch.as_tensor(labels, dtype=torch.int64).reshape(-1)
        count, device = len(boxes), boxes.device
        if len(labels) != count:
            raise ValueError(f"Expected as many labels as boxes, got {len(labels)} labels for {count} boxes.")
        if count and not (0 <= int(labels.min()) and int(labels.max()) < num_classes):
            raise ValueError(f"Expected labels in 0..{num_classes - 1}, got {int(labels.min())}..{int(labels.max())}.")
        shapes = {
            "weights": (weights, (count,)),
            "ignore": (ignore, (count,)),
            "annotated": (annotated, (num_classes,)),
            "probs": (probs, (count, num_classes)),
        }
        for name, (value, shape) in shapes.items():
            if value is not None and tuple(value.shape) != shape:
                raise ValueError(f"Expected {name} of shape {shape}, got {tuple(value.shape)}.")
        return Targets(
            boxes,
            labels,
            torch.ones(count, device=device) if weights is None else weights.float(),
            torch.zeros(count, dtype=torch.bool, device=device) if ignore is None else ignore.bool(),
            torch.ones(num_classes, dtype=torch.bool, device=device) if annotated is None else annotated.bool(),
            probs,
        )


@dataclass
class Batch(_Movable):
    """images: float ``[B, 3, H, W]``, normalised, padded at right and bottom; targets: B of them, in the
    pixels of `images`.

    sizes: int64 ``[B, 2]`` (height, width) of each picture's content inside the padding.
    scales: float32 ``[B, 2]`` (x, y): pixels of `images` per pixel of the original file.
    original_sizes: int64 ``[B, 2]`` (height, width) of the files. image_ids: int64 ``[B]``, the ids of the
    annotation index. originals: the targets as annotated, in pixels of the files, at evaluation; else None.
    areas: float32 ``[G]`` per image, the annotated object areas that go with `originals` (COCO counts the
    mask, not the box). skipped: how many pictures this batch lost because they could not be read.
    views: float ``[U, 3, H, W]``, the pictures whose annotators looked for nothing once more, in their order in the
    batch, as they are for a teacher: pixel for pixel where they are in `images`, which a student sees; else None.
    """

    images: Tensor
    targets: list[Targets]
    sizes: Tensor
    scales: Tensor
    original_sizes: Tensor
    image_ids: Tensor
    originals: list[Targets] | None = None
    areas: list[Tensor] | None = None
    skipped: int = 0
    views: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)


class Anchors(NamedTuple):
    """boxes ``[A, 4]`` xyxy pixels; level int64 ``[A]``: the pyramid level's position (0 = finest);
    level_sizes: how many anchors each level has, in order."""

    boxes: Tensor
    level: Tensor
    level_sizes: tuple[int, ...]


class Predictions(NamedTuple):
    """logits ``[B, A, C]``; boxes ``[B, A, 4]`` decoded, xyxy pixels; deltas ``[B, A, 4]`` the encoded offsets
    the boxes came from; quality ``[B, A]`` logits of the quality branch, or None; objectness ``[B, A]`` logits of there
    being any object (YOLO, Faster R-CNN), or None: then the class scores say so themselves. Of a second stage A are the
    regions, others in each image, and boxes and deltas ``[B, A, C, 4]``: every class has its own."""

    logits: Tensor
    boxes: Tensor
    deltas: Tensor
    quality: Tensor | None = None
    objectness: Tensor | None = None

    def of_images(self, rows: Tensor) -> Predictions:
        """Those of some images of the batch, int64 ``[n]``."""
        return Predictions(*(None if t is None else t[rows] for t in self))  # type: ignore[arg-type]

    def detach(self) -> Predictions:
        return Predictions(*(None if t is None else t.detach() for t in self))  # type: ignore[arg-type]


class Assignment(NamedTuple):
    """gt_index int64 ``[B, A]``: ≥ 0 the matched ground truth of that image, −1 background, −2 ignored."""

    gt_index: Tensor


class Matched(NamedTuple):
    """What the losses see: everything per anchor or per positive, gathered once.

    logits ``[B, A, C]``; labels int64 ``[B, A]``: class of the matched ground truth, −1 for none;
    class_weights, broadcastable to ``[B, A, C]``: 0 where there is no signal (ignored anchor, class that
    nobody looked for), the pseudo-label's weight where it has one, else 1 (``[B, A, 1]`` while every class of
    every image is annotated, so that the usual case costs no memory);
    class_targets ``[B, A, C]`` soft targets, or None where `labels` says all.
    Of detectors with an objectness, else None: objectness ``[B, A]`` logits; object_targets ``[B, A]``: 1 for matched
    anchors, else 0 (or a pseudo-label's); object_weights ``[B, A]``: as class_weights.
    ignored bool ``[B, A]``: anchors that the assigner took out, or None where nobody asks. pseudo: how many predictions
    have a pseudo-label in place of an object, a scalar, or None for none: what the losses of classes and objectness are
    divided by counts them, too.
    The rest is per positive, in the order of the flattened (B, A): positive int64 ``[P]`` index into it,
    boxes / anchor_boxes / target_boxes ``[P, 4]`` xyxy pixels, deltas ``[P, 4]``, quality ``[P]`` or None,
    box_weights ``[P]``, level int64 ``[P]`` (pyramid level).
    """

    logits: Tensor
    labels: Tensor
    class_weights: Tensor
    class_targets: Tensor | None
    positive: Tensor
    boxes: Tensor
    deltas: Tensor
    anchor_boxes: Tensor
    target_boxes: Tensor
    quality: Tensor | None
    box_weights: Tensor
    level: Tensor
    objectness: Tensor | None = None
    object_targets: Tensor | None = None
    object_weights: Tensor | None = None
    ignored: Tensor | None = None
    pseudo: Tensor | None = None


class Detections(NamedTuple):
    """Final boxes of one image: boxes ``[N, 4]`` xyxy pixels, scores ``[N]`` in falling order, labels ``[N]``."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor


class PseudoLabels(NamedTuple):
    """Labels for N predictions of a batch.

    Attributes:
        image: int64 ``[N]``, with `anchor` which predictions are labeled.
        anchor: int64 ``[N]``.
        boxes: ``[N, 4]`` xyxy pixels of the batch.
        probs: ``[N, C]``, p̃(c), the probability of each class, at most 1 in all.
        objectness: ``[N]``, p̃(O).
        source_anchor: int64 ``[N]``, the anchor whose box was classified: the prediction's own or a neighbor's.
        ignored: int64 ``[M, 3]`` (image, anchor, source anchor), predictions of the same objects that are neither
            labeled nor background.
    """

    image: Tensor
    anchor: Tensor
    boxes: Tensor
    probs: Tensor
    objectness: Tensor
    source_anchor: Tensor
    ignored: Tensor

    @property
    def size(self) -> int:
        return len(self.image)

    @property
    def labels(self) -> Tensor:
        """The most probable class of each, int64 ``[N]``."""
        return self.probs.argmax(-1)


class LossGroup(NamedTuple):
    """Images of a batch whose losses are normalized by counts of their own: rows int64 ``[n]``, and the weight of their
    losses in the sum over groups."""

    rows: Tensor
    weight: float
