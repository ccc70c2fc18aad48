"""What an assigner makes of a few pictures at one moment of training, and a file that keeps it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch.utilities.seed import isolate_rng
from numpy.typing import NDArray
from torch import Tensor

from detlab.assigners.candidates import find_candidates, rank_within
from detlab.assigners.overlap import pad_targets
from detlab.assigners.scored import ScoredAssigner
from detlab.data.files import write_atomic
from detlab.errors import UserError
from detlab.ops.boxes import aligned_iou
from detlab.structures import IGNORED, Anchors, Batch, Predictions, Targets

DIGITS = 2  # of coordinates in files: hundredths of a pixel


class Snapshot(NamedTuple):
    """One picture with G objects and N anchors that were positive, ignored or candidates judged negative.

    Boxes are xyxy in pixels of the picture's file. objects ``[G, 4]``; labels int64 ``[G]``; of int64 ``[N]``: the
    object that the anchor is or would be for; state int64 ``[N]``: 1 positive, 0 negative, −1 ignored; anchors,
    predicted ``[N, 4]``: the anchor and the box that the detector makes of it; cost ``[N]``: what it would cost, nan
    where the assigner does not ask; iou ``[N]`` of the predicted box with the object.
    """

    objects: NDArray[np.float64]
    labels: NDArray[np.int64]
    of: NDArray[np.int64]
    state: NDArray[np.int64]
    anchors: NDArray[np.float64]
    predicted: NDArray[np.float64]
    cost: NDArray[np.float64]
    iou: NDArray[np.float64]


def take_snapshots(module: Any, batch: Batch) -> list[Snapshot]:
    """One for each picture of `batch` (on the device of `module`, a `LitDetector`), in evaluation mode.

    Afterwards everything is as before: the mode of every part, the statistics of its norms, all random numbers.
    """
    modes = {part: part.training for part in module.modules()}
    try:
        module.eval()
        # Not inference_mode: anchors that the detector keeps for pictures of this size will be trained with.
        with isolate_rng(), torch.no_grad():
            predictions, anchors = module(batch.images)
            return judge(module.assigner, anchors, batch.targets, predictions.detach(), batch.scales)
    finally:
        for part, training in modes.items():
            part.training = training


def judge(
    assigner: Any, anchors: Anchors, targets: list[Targets], predictions: Predictions, scales: Tensor
) -> list[Snapshot]:
    """What `assigner` says of B pictures; ``scales [B, 2]`` (x, y): their pixels per pixel of the file.

    Of assigners that do not choose among candidates by cost only the positives are known.
    """
    assigned = assigner(anchors, targets, predictions).gt_index.flatten()
    anchor, number, cost = _candidates(assigner, anchors, targets, predictions)
    if anchor is None:
        anchor = (assigned >= 0).nonzero()[:, 0]
        number, cost = assigned[anchor], torch.full(anchor.shape, torch.nan, device=anchor.device)
    state = (assigned[anchor] >= 0).long() - (assigned[anchor] == IGNORED).long()
    image = anchor.div(max(1, len(anchors.boxes)), rounding_mode="floor")
    boxes = anchors.boxes.float()[anchor - image * len(anchors.boxes)]
    predicted = predictions.boxes.float().flatten(0, 1)[anchor]
    result = []
    for position, known in enumerate(targets):
        here, scale = image == position, scales[position].repeat(2)
        iou = aligned_iou(predicted[here], known.boxes.float()[number[here]])
        floats = (known.boxes / scale, boxes[here] / scale, predicted[here] / scale, cost[here], iou)
        objects, own, found, costs, overlap = (value.double().cpu().numpy() for value in floats)
        integers = (known.labels, number[here], state[here])
        labels, of, states = (value.cpu().numpy() for value in integers)
        result.append(Snapshot(objects, labels, of, states, own, found, costs, overlap))
    return result


def _candidates(assigner: Any, anchors: Anchors, targets: list[Targets], predictions: Predictions) -> Any:
    """Anchors ``[N]`` into the flattened (B, A), the number of each one's object in its picture, and the costs."""
    if not isinstance(assigner, ScoredAssigner):
        return None, None, None
    padded = pad_targets(targets)
    index = assigner.nearest.match(anchors.boxes.float(), padded)
    found = find_candidates(index, anchors, targets, predictions, assigner.cost)
    topk = getattr(assigner, "topk", None)
    if topk is not None:
        found = found.select(rank_within(found.object * len(anchors.level_sizes) + found.level) < topk)
    return found.anchor, found.object % padded.boxes.shape[1], found.cost


def of_object(snapshot: Snapshot, number: int) -> Snapshot:
    """The snapshot without any object but this one, which becomes number 0."""
    keep = snapshot.of == number
    fields = {name: getattr(snapshot, name)[keep] for name in ("state", "anchors", "predicted", "cost", "iou")}
    at = slice(number, number + 1)
    of = np.zeros(int(keep.sum()), np.int64)
    return Snapshot(objects=snapshot.objects[at], labels=snapshot.labels[at], of=of, **fields)


def save_snapshots(path: Path, iteration: int, total: int, pictures: Mapping[str, Snapshot]) -> None:
    """JSON with one snapshot per picture's name, as of `iteration` of `total`."""
    content = {
        name: {
            field: _rounded(values, 6 if field in ("cost", "iou") else DIGITS)
            for field, values in snapshot._asdict().items()
        }
        for name, snapshot in pictures.items()
    }
    write_atomic(path, json.dumps({"iteration": iteration, "total": total, "pictures": content}))


def read_snapshots(path: Path) -> tuple[int, int, dict[str, Snapshot]]:
    """What `save_snapshots` wrote. Raises UserError for another file."""
    try:
        content = json.loads(path.read_text())
        pictures = {name: _snapshot(fields) for name, fields in content["pictures"].items()}
        return int(content["iteration"]), int(content["total"]), pictures
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(
            f"{path} is not a file of callbacks=assignments; train the run again with overwrite=true."
        ) from None


def _rounded(values: NDArray[Any], digits: int) -> list[Any]:
    if values.dtype.kind == "i":
        return values.tolist()
    # JSON has no nan.
    return [[round(v, digits) for v in row] if isinstance(row, list) else round(row, digits) if row == row else None
            for row in values.tolist()]  # fmt: skip


def _snapshot(fields: Mapping[str, Any]) -> Snapshot:
    boxes: dict[str, Any] = {
        name: np.array(fields[name], float).reshape(-1, 4) for name in ("objects", "anchors", "predicted")
    }
    integers: dict[str, Any] = {
        name: np.array(fields[name], np.int64).reshape(-1) for name in ("labels", "of", "state")
    }
    floats = {name: np.array(fields[name], float).reshape(-1) for name in ("cost", "iou")}  # None becomes nan
    return Snapshot(**boxes, **integers, **floats)
