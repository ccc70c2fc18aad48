"""Boxes of a teacher as labels of pictures that nobody labelled (Li et al. 2021, section 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from detlab.engine.provenance import refuse_unfinished
from detlab.errors import UserError
from detlab.postprocess.tta.multi_scale import together
from detlab.pseudo_labels.base import PseudoLabelCallback
from detlab.pseudo_labels.thresholds import ClassThresholds
from detlab.structures import Batch, Detections, LossGroup, Predictions, PseudoLabels, Targets

if TYPE_CHECKING:
    from detlab.data.datamodule import DetectionDataModule
    from detlab.engine.module import LitDetector


class TeacherLabels(PseudoLabelCallback):
    """What a trained detector finds in the weak view of an unlabelled picture is what another learns from its strong
    view (section 2.1). An unlabelled picture is one whose annotators looked for no class.

    teacher: the run folder of a detector trained on the labelled pictures, with which the student begins, too; None:
    the first stage of the same training makes it, and `second` (`detlab.config.stages`). kind:
    "fixed" (the paper); "ema": from then on the moving average of the student (mean teacher, decay `momentum`);
    "ensemble": `second` and it together, the boxes of both in one non-maximum suppression (Table 3).

    certainty: scores are p · v where the teacher tells how certain it is of its boxes (section 2.2); False: p alone.
    tau, gamma1, gamma2, limits, most, decay: of the class's thresholds and weights (Eq. 6), see `ClassThresholds`; 0
    and 0 are the plain threshold. foreground: boxes of at least that score count as found in Eq. 6 (ours; the paper has
    "each foreground candidate box"). The weights are those of all objects of a class, labelled by whom ever.

    weight: λ_u, of the unlabelled pictures' loss, which is divided by counts of its own (Eq. 2).

    Raises ValueError for values out of range, UserError where a run is missing or unfinished.
    """

    finds_labels = True
    when_none = "the teacher is sure of nothing; lower pseudo.tau, or look at the teacher's own AP"
    when_many = "raise pseudo.tau and the lower of pseudo.limits"

    def __init__(
        self,
        teacher: str | None = None,
        kind: Literal["fixed", "ema", "ensemble"] = "fixed",
        second: str | None = None,
        momentum: float = 0.9996,
        certainty: bool = True,
        tau: float = 0.7,
        gamma1: float = 0.05,
        gamma2: float = 0.6,
        limits: tuple[float, float] = (0.4, 0.9),
        most: float = 5.0,
        decay: float = 0.999,
        foreground: float = 0.2,
        weight: float = 1.0,
    ) -> None:
        super().__init__()
        if kind not in ("fixed", "ema", "ensemble"):
            raise ValueError(f"Expected kind fixed, ema or ensemble, got {kind!r}.")
        if (second is not None) != (kind == "ensemble" and teacher is not None):
            raise ValueError(
                f"Expected a second teacher beside another for kind=ensemble and for no other, got {kind}, {teacher} "
                f"and {second}."
            )
        if not 0 < momentum < 1 or not 0 <= foreground <= 1 or weight < 0:
            raise ValueError(
                "Expected momentum in (0, 1), foreground in [0, 1] and a weight of at least 0, got "
                f"{momentum}, {foreground} and {weight}."
            )
        self.runs = [name for name in (teacher, second) if name is not None]
        for run in self.runs:
            refuse_unfinished("pseudo.teacher", run)
        self.kind, self.momentum, self.certainty = kind, momentum, certainty
        self.foreground, self.weight = foreground, weight
        self._thresholds: Mapping[str, Any] = {
            "tau": tau, "gamma1": gamma1, "gamma2": gamma2, "limits": limits, "most": most, "decay": decay,
        }  # fmt: skip
        self.thresholds = ClassThresholds(1, **self._thresholds)  # which refuses what it cannot take
        self.classes: list[str] = []
        self.teachers: list[LitDetector] = []

    def bind(self, classes: Sequence[str], iterations: int | None = None) -> None:  # noqa: ARG002
        self.classes = list(classes)
        self.thresholds = ClassThresholds(len(classes), **self._thresholds)

    def prepare(self, data: DetectionDataModule) -> None:  # noqa: ARG002
        from detlab.config.load_run import load_finished

        self.teachers = []
        for run in self.runs:
            finished = load_finished(run, torch.device("cpu"))
            if finished.classes != self.classes:
                raise UserError(
                    f"pseudo.teacher={run} knows the classes {', '.join(finished.classes)}, but the data have "
                    f"{', '.join(self.classes)}: train it on the labelled part of these data."
                )
            module = finished.module.eval().requires_grad_(False)
            module.postprocess.quality = "product" if self.certainty else "ignore"
            self.teachers.append(module)

    def initialize(self, detector: nn.Module) -> None:
        """The student begins with the teacher's weights."""
        try:
            detector.load_state_dict(self.teachers[0].detector.state_dict())
        except RuntimeError as error:
            raise UserError(
                f"pseudo.teacher={self.runs[0]} is another detector than the one to be trained, which begins with its "
                "weights: train a teacher with the same method and backbone."
            ) from error

    @torch.no_grad()
    def before_forward(self, batch: Batch, iteration: int) -> Batch:  # noqa: ARG002
        alone = unlabelled(batch.targets)
        where = alone.nonzero()[:, 0].tolist()
        views = batch.images[alone] if batch.views is None else batch.views
        found = self.detect(views, batch.sizes[alone])
        scores, labels = (torch.cat([getattr(d, name) for d in found]) for name in ("scores", "labels")) if found else (
            batch.images.new_zeros(0), torch.zeros(0, dtype=torch.int64, device=batch.images.device),
        )  # fmt: skip
        self.thresholds.to(batch.images.device)
        counted = scores >= self.foreground
        self.thresholds.update(scores[counted], labels[counted])
        tau, alpha = self.thresholds.thresholds(), self.thresholds.weights()
        targets = [replace(t, weights=t.weights * alpha[t.labels]) for t in batch.targets]
        kept = 0
        for at, detections in zip(where, found, strict=True):
            targets[at] = pseudo_targets(detections, tau, alpha)
            kept += len(targets[at])
        self.log_metrics["pseudo_boxes_per_image"] = batch.images.new_tensor(kept / max(1, len(where)))
        return replace(batch, targets=targets)

    def loss_groups(self, batch: Batch) -> list[LossGroup]:
        alone = unlabelled(batch.targets)
        return [LossGroup((~alone).nonzero()[:, 0], 1.0), LossGroup(alone.nonzero()[:, 0], self.weight)]

    @torch.no_grad()
    def after_step(self, detector: nn.Module) -> None:
        if self.kind != "ema":
            return
        own, new = self.teachers[0].detector.state_dict(), detector.state_dict()
        for name, value in own.items():
            if value.is_floating_point():
                value.lerp_(new[name].to(value), 1 - self.momentum)
            else:
                value.copy_(new[name])

    @torch.no_grad()
    def detect(self, views: Tensor, sizes: Tensor) -> list[Detections]:
        """Boxes in ``views [U, 3, H, W]`` of content ``sizes [U, 2]`` (height, width), in their pixels."""
        if not len(views):
            return []
        candidates = []
        for teacher in self.teachers:
            teacher.to(views.device)
            candidates.append(teacher.candidates(views, sizes))
        return self.teachers[0].postprocess.finish(together(candidates), len(views))

    @torch.no_grad()
    def label_batch(self, batch: Batch, predictions: Predictions) -> PseudoLabels:  # noqa: ARG002
        """What the teacher would say of the pictures themselves; `anchor` and `source_anchor` are without meaning."""
        tau = self.thresholds.to(batch.images.device).thresholds()
        found = self.detect(batch.images, batch.sizes)
        kept = [pseudo_targets(d, tau, torch.ones_like(tau)) for d in found]
        scores = [d.scores[d.scores >= tau[d.labels]] for d in found]
        image = torch.cat([torch.full((len(t),), at, device=tau.device) for at, t in enumerate(kept)])
        labels = torch.cat([t.labels for t in kept])
        none = torch.zeros_like(image)
        probs = one_hot(labels, len(tau)).float()
        boxes = torch.cat([t.boxes for t in kept])
        return PseudoLabels(image, none, boxes, probs, torch.cat(scores), none, image.new_zeros(0, 3))

    def by_class(self) -> dict[str, Tensor]:
        return {"threshold": self.thresholds.thresholds(), "weight": self.thresholds.weights()}

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {"thresholds": self.thresholds.state_dict()}
        if self.kind == "ema":
            state["teacher"] = deepcopy(self.teachers[0].detector.state_dict())
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.thresholds.load_state_dict(state["thresholds"])
        if "teacher" in state:
            self.teachers[0].detector.load_state_dict(state["teacher"])


def unlabelled(targets: Sequence[Targets]) -> Tensor:
    """Whether each picture's annotators looked for nothing: bool ``[B]``."""
    return torch.stack([~t.annotated.any() for t in targets])


def pseudo_targets(found: Detections, tau: Tensor, alpha: Tensor) -> Targets:
    """The boxes of a picture whose score reaches the threshold ``tau [C]`` of their class, each with the weight
    ``alpha [C]`` of it; everything else is background of every class."""
    keep = found.scores >= tau[found.labels]
    boxes, labels = found.boxes[keep], found.labels[keep]
    return Targets.of(boxes, labels, len(tau), weights=alpha[labels])
