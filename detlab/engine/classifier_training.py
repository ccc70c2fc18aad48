"""The training of a proxy classifier: a run folder like a detector's, with other figures in it."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from lightning import Trainer
from numpy.typing import ArrayLike

from detlab.data.files import write_atomic
from detlab.data.relabel import fingerprint
from detlab.engine.callbacks.progress import TrainingProgress
from detlab.engine.classifier_module import LitClassifier
from detlab.engine.distributed.group import Group
from detlab.engine.outputs import rounded
from detlab.engine.run_folder import Metrics, RunFolder, config_hash
from detlab.engine.training import Fitted, Job, device_name, fit_and_evaluate, parameters_million
from detlab.proxy_classifier.classifier import ProxyClassifier
from detlab.proxy_classifier.data import ClassifierData
from detlab.proxy_classifier.files import save
from detlab.proxy_classifier.metrics import confusion, reliability
from detlab.visualization import png_bytes
from detlab.visualization.reliability import confusion_matrix, reliability_diagram

log = logging.getLogger(__name__)

NAMES = {"": "as it is", "_patch_drop": "with patch-drop"}  # of the two tests, by the suffix of their metrics


def train_classifier(job: Job, module: LitClassifier, data: ClassifierData, group: Group) -> Metrics:
    """Train and judge a classifier; returns the content of `metrics.json`.

    Args:
        job: Folder, schedule, trainer and loggers.
        module: The classifier with its training step.
        data: Its crops.
        group: The one process of this training.
    """
    saved = fit_and_evaluate(
        job,
        module,
        data,
        partial(_save, job, module, data),
        group=group,
        callbacks=[TrainingProgress()],
        on_trainer=partial(_describe, job, module.classifier, data),
    )
    log.info("Finished in %.1f min: %s", saved["minutes"], _sentence(saved["test"]))
    return saved


def ignored_settings(settings: Sequence[str], iterations: int) -> list[str]:
    """What to say of typed settings that speak of a detector's schedule, which a classifier does not take."""
    keys = [setting.partition("=")[0].lstrip("+~") for setting in settings]
    return [
        f"{key} is a detector's and does not count for task=proxy, which trains for {iterations} iterations: "
        f"task.schedule.{key.partition('.')[2] or 'iterations'} is the classifier's."
        for key in keys
        if key == "schedule" or key.startswith("schedule.")
    ]


def _describe(job: Job, classifier: ProxyClassifier, data: ClassifierData, trainer: Trainer) -> None:
    log.info(
        "%s: crops of %d images, %d classes and reject, sizes %s, %.2f M parameters, %d iterations of %d crops on %s.",
        job.folder.path, len(data.data.train_index), classifier.reject,
        " ".join(f"{w}×{h}" for w, h in classifier.centres.tolist()), parameters_million(classifier),
        job.schedule.iterations, data.batch_size, device_name(trainer),
    )  # fmt: skip


def _save(job: Job, module: LitClassifier, data: ClassifierData, fitted: Fitted) -> Metrics:
    """Write the classifier, the figures and, last (it marks the run as finished), `metrics.json`."""
    classifier, images = module.classifier, data.data
    save(classifier, job.folder.last)
    figures = _draw(module, fitted.values, job.folder)
    result = fitted.result
    result["crops_per_second"] = result.pop("images_per_second")
    result |= {
        "task": "proxy",
        "parameters_million": round(parameters_million(classifier), 3),
        "skipped_images": images.skipped_counts,
        **{stage: _of_stage(fitted.values, stage) for stage in ("val", "test")},
        "status": "finished",
        "config_hash": config_hash(job.config),
        "dataset": {"train": fingerprint(images.train_index), "test": fingerprint(images.test_index)},
        "classes": classifier.classes,
        "centres": classifier.centres.tolist(),
    }
    if job.tracker:
        job.tracker.summarise(result, figures)
    write_atomic(job.folder.metrics, json.dumps(result, indent=1))
    return result


def _of_stage(values: dict[str, float], stage: str) -> dict[str, float | None]:
    return {name.partition("/")[2]: rounded(value) for name, value in values.items() if name.startswith(f"{stage}/")}


def _sentence(test: dict[str, float | None]) -> str:
    """The figures of a test, each without and with patch-drop."""

    def both(name: str) -> str:
        plain, dropped = (test.get(name + suffix) for suffix in NAMES)
        return " → ".join("–" if value is None else f"{value:.3f}" for value in (plain, dropped))

    return (
        f"test accuracy {both('accuracy')}, reject AUROC {both('reject_AUROC')}, ECE {both('ECE')} "
        "(as it is → with patch-drop)."
    )


def _draw(module: LitClassifier, values: dict[str, float], folder: RunFolder) -> list[Path]:
    """`figures/example_reliability.png` and `figures/example_confusion.png`, which reports of runs show as they are."""
    panels: dict[str, tuple[ArrayLike, ArrayLike]] = {}
    for suffix, probs in module.judged.items():
        _, accuracy, count = reliability(probs, module.labels)
        ece = values.get(f"test/ECE{suffix}", float("nan"))
        panels[f"Reliability {NAMES[suffix]}: ECE {ece:.3f}"] = (accuracy.numpy(), count.numpy())
    words = [*module.classifier.classes, "(reject)"]
    counts = confusion(module.judged["_patch_drop"], module.labels).numpy()
    matrix = confusion_matrix(counts, words, "Test crops, %, with patch-drop")
    paths = [folder.figures / f"example_{name}.png" for name in ("reliability", "confusion")]
    for path, figure in zip(paths, (reliability_diagram(panels), matrix)):
        write_atomic(path, png_bytes(figure))
    return paths
