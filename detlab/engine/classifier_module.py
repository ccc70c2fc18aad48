"""Training the proxy classifier: cross-entropy on crops of one size."""

from __future__ import annotations

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn.functional import cross_entropy

from detlab.engine.optim import Schedule
from detlab.errors import UserError
from detlab.proxy_classifier.batches import CropBatch, JudgedBatch
from detlab.proxy_classifier.classifier import ProxyClassifier
from detlab.proxy_classifier.metrics import judge


class LitClassifier(LightningModule):
    """A classifier with its schedule and the way it is judged.

    patches, copies, flip: of patch-drop (`ProxyClassifier.classify`), with which the test is done besides; threshold:
    see `judge`. `judged` holds, of the last evaluation, the probabilities by name ("" as it is, "_patch_drop"), each
    ``[N, K + 1]``, and `labels`, `kinds` ``[N]``, on the CPU.
    """

    def __init__(
        self,
        classifier: ProxyClassifier,
        schedule: Schedule,
        patches: int = 3,
        copies: int = 2,
        flip: bool = False,
        threshold: float = 0.8,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.classifier, self.schedule = classifier, schedule
        self.patches, self.copies, self.flip = patches, copies, flip
        self.threshold, self.seed = threshold, seed
        self.judged: dict[str, Tensor] = {}
        self.labels = self.kinds = torch.zeros(0, dtype=torch.int64)
        self._seen: list[tuple[dict[str, Tensor], Tensor, Tensor]] = []

    def training_step(self, batch: CropBatch, batch_idx: int) -> Tensor:  # noqa: ARG002
        logits = self.classifier.net(batch.crops.contiguous(memory_format=torch.channels_last))
        loss = cross_entropy(logits.float(), batch.labels)
        if not bool(torch.isfinite(loss)):
            raise UserError("The loss is not finite: lower task.schedule.lr, or set task.schedule.clip_norm.")
        accuracy = (logits.argmax(1) == batch.labels).float().mean()
        self.log_dict({"train/loss": loss.detach(), "train/accuracy": accuracy}, batch_size=len(batch))
        return loss

    def validation_step(self, batch: JudgedBatch, batch_idx: int) -> None:  # noqa: ARG002
        probs = self.classifier.classify(batch.images, batch.image, batch.boxes, copies=0)
        self._keep({"": probs}, batch)

    def test_step(self, batch: JudgedBatch, batch_idx: int) -> None:
        generator = torch.Generator().manual_seed(self.seed + batch_idx)
        crops = batch.images, batch.image, batch.boxes
        plain = self.classifier.classify(*crops, copies=0)
        dropped = self.classifier.classify(*crops, self.patches, self.copies, self.flip, generator)
        self._keep({"": plain, "_patch_drop": dropped}, batch)

    def _keep(self, probs: dict[str, Tensor], batch: JudgedBatch) -> None:
        on_cpu = {name: values.cpu() for name, values in probs.items()}
        self._seen.append((on_cpu, batch.labels.cpu(), batch.kinds.cpu()))

    def on_validation_epoch_end(self) -> None:
        self._judge("val")

    def on_test_epoch_end(self) -> None:
        self._judge("test")

    def _judge(self, stage: str) -> None:
        if not self._seen:
            return
        probs, labels, kinds = zip(*self._seen)
        self._seen = []
        self.labels, self.kinds = torch.cat(labels), torch.cat(kinds)
        self.judged = {name: torch.cat([part[name] for part in probs]) for name in probs[0]}
        for suffix, values in self.judged.items():
            results = judge(values, self.labels, self.kinds, self.threshold)
            self.log_dict({f"{stage}/{name}{suffix}": value for name, value in results.items()})

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return self.schedule.build(self.classifier, self.schedule.base_batch)
