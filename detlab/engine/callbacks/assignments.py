"""Which anchors answer for the objects of a few pictures, recorded at some iterations of a training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from lightning import Callback
from lightning.pytorch.utilities.seed import isolate_rng

from detlab.data.dataset import DetectionDataset, Sample, collate
from detlab.data.files import write_atomic
from detlab.data.image import image_size, read_image
from detlab.data.index import AnnotationIndex
from detlab.engine.callbacks.snapshots import save_snapshots, take_snapshots
from detlab.errors import UserError, nearest
from detlab.visualization.output import png_bytes

FOLDER = "figures/assignments"  # of a run
OWN = "own"  # the name of the picture that is not of the data
OBJECTS = (1, 6)  # fewest and most of a picture that is chosen by itself


class Assignments(Callback):
    """Runs detector and assigner on a few pictures at some iterations, and keeps what comes of it.

    In the run's `figures/assignments`: ``<picture>.png``, the picture (its image id, or ``own``), once; and
    ``<iteration>.json``, for each picture its objects, the anchors that are positive, ignored or candidates judged
    negative, and the box predicted from each. `detlab draw paa` makes Figs. 4a, 6 and 7 of Kim and Lee 2020 of them.

    iterations: when; None: `count` of them, the last at the end of training, closer to each other at its start
    (the k-th after the share (k / count)²). pictures: image ids of `split`, or how many: the first ones of `split`
    with one to six objects. own_picture, own_boxes, own_labels: a picture file, which need not belong to the data,
    with its objects' boxes (xyxy pixels) and class names.

    Training goes on as it would have without: see `take_snapshots`. Raises ValueError for arguments out of range or
    that do not fit each other, and at the start of training UserError for pictures or classes that do not exist.
    """

    requires = frozenset({"one_stage"})

    def __init__(
        self,
        iterations: Sequence[int] | None = None,
        count: int = 5,
        pictures: int | Sequence[int] = 3,
        split: Literal["train", "val"] = "val",
        own_picture: str | None = None,
        own_boxes: Sequence[Sequence[float]] = (),
        own_labels: Sequence[str] = (),
    ) -> None:
        if count < 1 or (isinstance(pictures, int) and pictures < 0):
            raise ValueError(f"Expected count >= 1 and pictures >= 0, got {count} and {pictures}.")
        if iterations is not None and any(iteration < 1 for iteration in iterations):
            raise ValueError(f"Expected iterations >= 1, got {list(iterations)}.")
        if split not in ("train", "val"):
            raise ValueError(f"Expected split train or val, got {split!r}.")
        if len(own_boxes) != len(own_labels) or any(len(box) != 4 for box in own_boxes):
            raise ValueError(
                f"Expected a class in own_labels for each box [x1, y1, x2, y2] in own_boxes, got {list(own_boxes)} and "
                f"{list(own_labels)}."
            )
        if (own_picture is None) != (len(own_boxes) == 0):
            raise ValueError("Expected own_picture and own_boxes together, got one of them.")
        self.iterations = None if iterations is None else {int(iteration) for iteration in iterations}
        self.count, self.pictures, self.split = count, pictures, split
        self.own_picture, self.own_boxes, self.own_labels = own_picture, own_boxes, own_labels
        self._samples: dict[str, Sample] = {}
        self._last = -1

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if not trainer.is_global_zero:
            return
        folder, total = Path(trainer.default_root_dir) / FOLDER, int(trainer.max_steps)
        for file in folder.glob("*.json"):  # from beyond the checkpoint that training goes on from
            if int(file.stem) > trainer.global_step:
                file.unlink()
        self._when = self.iterations or spread(total, self.count)
        with isolate_rng():
            self._samples = self._read(trainer.datamodule, pl_module.classes, folder)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:  # noqa: ARG002
        step = trainer.global_step
        if not self._samples or step not in self._when or step == self._last:
            return
        self._last, taken = step, {}
        for name, sample in self._samples.items():  # one by one: pictures of all sizes, and little memory
            with trainer.precision_plugin.forward_context():
                (taken[name],) = take_snapshots(pl_module, collate([sample]).to(pl_module.device))
        path = Path(trainer.default_root_dir) / FOLDER / f"{step:07d}.json"
        save_snapshots(path, step, int(trainer.max_steps), taken)

    def _read(self, data: Any, classes: Sequence[str], folder: Path) -> dict[str, Sample]:
        """Name → the picture as the detector sees it; the picture itself goes into `folder`."""
        index = data.index(self.split)
        chosen = index.select(self._rows(index))
        sources = [(chosen, [str(image) for image in chosen.ids.tolist()])]
        if self.own_picture is not None:
            sources.append((self._own(classes), [OWN]))
        result = {}
        for part, names in sources:
            dataset = DetectionDataset(part, data.eval_transform, data.mean, data.std, evaluation=True)
            for row, name in enumerate(names):
                sample = dataset[row]
                assert sample is not None, "pictures that cannot be read have raised"
                result[name] = sample
                write_atomic(folder / f"{name}.png", png_bytes(read_image(str(part.paths[row]))))
        return result

    def _rows(self, index: AnnotationIndex) -> list[int]:
        if isinstance(self.pictures, int):
            objects = np.bincount(index.box_images[~index.ignore], minlength=len(index))
            fitting = np.flatnonzero((objects >= OBJECTS[0]) & (objects <= OBJECTS[1]))
            return fitting[: self.pictures].tolist()
        rows = {image: row for row, image in enumerate(index.ids.tolist())}
        for image in self.pictures:
            if image not in rows:
                raise UserError(f"callbacks.assignments.pictures: {self.split} has no picture with the id {image}.")
        return [rows[image] for image in self.pictures]

    def _own(self, classes: Sequence[str]) -> AnnotationIndex:
        for name in self.own_labels:
            if name not in classes:
                raise UserError(f"callbacks.assignments.own_labels: no class '{name}'{nearest(name, classes)}.")
        width, height = image_size(str(self.own_picture))
        return AnnotationIndex.build(
            classes, paths=[str(self.own_picture)], widths=[width], heights=[height], ids=[-1],
            box_images=[0] * len(self.own_boxes), boxes=self.own_boxes,
            labels=[list(classes).index(name) for name in self.own_labels],
        )  # fmt: skip


def spread(total: int, count: int) -> set[int]:
    """`count` iterations of `total` (fewer where they fall together), after the shares (k / count)²."""
    return {max(1, round(total * (k / count) ** 2)) for k in range(1, count + 1)}
