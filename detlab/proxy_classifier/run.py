"""The run of a classifier: a folder like a detector's, with other figures in it."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning
from hydra.utils import instantiate
from lightning import seed_everything
from omegaconf import DictConfig, OmegaConf

from detlab.config.instantiate import build_datamodule, command_line, experiment_row, rehearse_trainer, typed
from detlab.data.files import write_atomic
from detlab.data.relabel import fingerprint
from detlab.engine.callbacks.history import HistoryLogger
from detlab.engine.callbacks.progress import TrainingProgress
from detlab.engine.callbacks.speed import Speed
from detlab.engine.distributed.place import find_place
from detlab.engine.logs import log_to_file, quiet
from detlab.engine.outputs import rounded
from detlab.engine.run_folder import RunFolder, config_hash, git_commit
from detlab.errors import UserError
from detlab.proxy_classifier.auxiliary import auxiliary
from detlab.proxy_classifier.files import save
from detlab.proxy_classifier.metrics import confusion, reliability
from detlab.proxy_classifier.module import LitClassifier
from detlab.visualization import png_bytes
from detlab.visualization.reliability import confusion_matrix, reliability_diagram

if TYPE_CHECKING:
    from detlab.proxy_classifier.data import ClassifierData
    from detlab.proxy_classifier.task import ProxyTask

log = logging.getLogger(__name__)

# The groups and keys of conf/train.yaml that a classifier's run depends on or needs; the detector's are left out.
KEYS = (
    "name", "seed", "setting", "scale_name", "run_dir", "overwrite", "data", "loader", "resize", "trainer", "logger",
    "task",
)  # fmt: skip


def rehearse(cfg: DictConfig) -> None:
    """Raise UserError where the source, the loaders or the trainer cannot be built."""
    build_datamodule(cfg)
    if rehearse_trainer(cfg).world_size > 1 or find_place().size > 1:
        raise UserError(
            "A proxy classifier trains on one device: add trainer.devices=1, and start it without torchrun or srun."
        )


def train(cfg: DictConfig, task: ProxyTask) -> dict[str, Any]:
    """Train, judge and leave a run folder; returns the content of `metrics.json`.

    A finished run of this very config is skipped, an unfinished one begins anew. Raises UserError for what cannot run,
    for a folder with another run in it, and for one in which another process trains.
    """
    rehearse(cfg)
    whole: Any = OmegaConf.to_container(cfg, resolve=True)
    config = {key: whole[key] for key in KEYS if key in whole}
    folder = RunFolder(cfg.run_dir)
    if folder.holds_finished(config) and not cfg.overwrite:
        log.info("%s is finished already (overwrite=true runs it again).", folder.path)
        return folder.read_metrics()
    quiet()
    for words in passed_over(typed(), task.schedule.iterations):
        log.warning("%s", words)
    seed_everything(cfg.seed, verbose=False)
    data = build_datamodule(cfg)
    data.source = auxiliary(data.source)
    data.setup()
    lit, batches = task.build(data, cfg.seed)
    train_batches = batches.train()
    try:
        folder.open(config, cfg.overwrite)
        log_to_file(folder.path / "train.log")
        for split, skipped in data.skipped_counts.items():
            if skipped:
                left_out = ", ".join(f"{number} × {kind}" for kind, number in skipped.items())
                log.warning("%s: left out %s (data.on_error).", split, left_out)
        return _fit(cfg, config, lit, batches, train_batches, folder)
    except Exception as error:
        if folder.claimed:
            folder.record_failure(error, command=command_line(), commit=git_commit())
        raise
    finally:
        folder.release()


def passed_over(settings: Sequence[str], iterations: int) -> list[str]:
    """What to say of typed settings that speak of a detector's schedule, which a classifier does not take."""
    keys = [setting.partition("=")[0].lstrip("+~") for setting in settings]
    return [
        f"{key} is a detector's and does not count for task=proxy, which trains for {iterations} iterations: "
        f"task.schedule.{key.partition('.')[2] or 'iterations'} is the classifier's."
        for key in keys
        if key == "schedule" or key.startswith("schedule.")
    ]


def _fit(
    cfg: DictConfig,
    config: dict[str, Any],
    lit: LitClassifier,
    batches: ClassifierData,
    train_batches: Any,
    folder: RunFolder,
) -> dict[str, Any]:
    data, classifier, schedule = batches.data, lit.classifier, lit.schedule
    history = HistoryLogger(folder.history)
    tracker = instantiate(cfg.logger.tracker, _convert_="all") if cfg.logger.get("tracker") else None
    loggers = [history, *([tracker.logger(folder, config)] if tracker else [])]
    speed = Speed()
    trainer: lightning.Trainer = instantiate(
        cfg.trainer,
        max_steps=schedule.iterations,
        max_epochs=-1,
        val_check_interval=schedule.val_every,
        check_val_every_n_epoch=None,
        gradient_clip_val=schedule.clip_norm,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        log_every_n_steps=cfg.logger.every,
        default_root_dir=str(folder.path),
        logger=loggers,
        callbacks=[TrainingProgress(), speed],
        _convert_="all",
    )
    parameters = sum(p.numel() for p in classifier.parameters()) / 1e6
    log.info(
        "%s: crops of %d images, %d classes and reject, sizes %s, %.2f M parameters, %d iterations of %d crops.",
        folder.path, len(data.train_index), classifier.reject,
        " ".join(f"{w}×{h}" for w, h in classifier.centres.tolist()), parameters, schedule.iterations,
        batches.batch_size,
    )  # fmt: skip
    begun, commit = time.monotonic(), git_commit()
    try:
        try:
            trainer.fit(lit, train_batches, batches.judged("val"))
            trainer.test(lit, batches.judged("test"), verbose=False)
        except SystemExit:
            if trainer.interrupted:
                raise KeyboardInterrupt from None  # Lightning answers Ctrl-C so
            raise
        save(classifier, folder.last)
        history.save()
        values = history.latest("val/") | history.latest("test/")
        pictures = _draw(lit, folder)
        result = {
            "name": cfg.name,
            "task": "proxy",
            "experiment": experiment_row(),
            "setting": cfg.setting,
            "seed": cfg.seed,
            "command": command_line(),
            "commit": commit,
            "device": str(trainer.strategy.root_device).upper(),
            "minutes": round((time.monotonic() - begun) / 60, 2),
            "crops_per_second": round(speed.images_per_second, 1),
            "memory_gib": round(speed.memory_gib, 2),
            "parameters_million": round(parameters, 3),
            "iterations": schedule.iterations,
            "skipped_images": data.skipped_counts,
            **{
                stage: {
                    name.partition("/")[2]: rounded(value)
                    for name, value in values.items()
                    if name.startswith(f"{stage}/")
                }
                for stage in ("val", "test")
            },
            "status": "finished",
            "config_hash": config_hash(config),
            "dataset": {"train": fingerprint(data.train_index), "test": fingerprint(data.test_index)},
            "classes": classifier.classes,
            "centres": classifier.centres.tolist(),
        }
        if tracker:
            tracker.summarise(result, pictures)
        write_atomic(folder.metrics, json.dumps(result, indent=1))
    finally:
        history.save()
        if tracker:
            tracker.finish()
    log.info("Finished in %.1f min: %s", result["minutes"], _sentence(result["test"]))
    return result


def _sentence(test: dict[str, float | None]) -> str:
    """The figures of a test, each without and with patch-drop."""

    def both(name: str) -> str:
        plain, dropped = (test.get(name + suffix) for suffix in ("", "_patch_drop"))
        return " → ".join("–" if value is None else f"{value:.3f}" for value in (plain, dropped))

    return (
        f"test accuracy {both('accuracy')}, reject AUROC {both('reject_AUROC')}, ECE {both('ECE')} "
        "(as it is → with patch-drop)."
    )


def _draw(lit: LitClassifier, folder: RunFolder) -> list[Path]:
    """`figures/example_reliability.png` and `figures/example_confusion.png`, which reports of runs show as they are."""
    names = {"": "as it is", "_patch_drop": "with patch-drop"}
    panels: dict[str, Any] = {}
    for suffix, probs in lit.judged.items():
        _, accuracy, count = reliability(probs, lit.labels)
        ece = float(lit.trainer.callback_metrics.get(f"test/ECE{suffix}", float("nan")))
        panels[f"Reliability {names[suffix]}: ECE {ece:.3f}"] = (accuracy.numpy(), count.numpy())
    words = [*lit.classifier.classes, "(reject)"]
    counts = confusion(lit.judged["_patch_drop"], lit.labels).numpy()
    matrix = confusion_matrix(counts, words, "Test crops, %, with patch-drop")
    paths = [folder.figures / f"example_{name}.png" for name in ("reliability", "confusion")]
    for path, figure in zip(paths, (reliability_diagram(panels), matrix)):
        write_atomic(path, png_bytes(figure))
    return paths
