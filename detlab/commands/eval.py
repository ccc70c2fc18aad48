"""`detlab eval`: a trained detector on any data, from a run folder or a checkpoint."""

from __future__ import annotations

import logging

from omegaconf import DictConfig

from detlab.config.instantiate import evaluation_loader, find_checkpoint, pick_device
from detlab.config.launch import launch
from detlab.config.load_run import load_finished
from detlab.config.plain import plain
from detlab.config.schema import validate
from detlab.data.relabel import fingerprint, relabel
from detlab.engine.inference import evaluate_detector
from detlab.engine.logs import quiet
from detlab.engine.outputs import save_evaluation
from detlab.engine.run_folder import RunFolder, config_hash
from detlab.reporting.terminal.metrics import print_metrics

log = logging.getLogger(__name__)

AFTER_TRAINING = ("postprocess", "testing")


def evaluate(cfg: DictConfig) -> dict[str, float]:
    """Evaluate as `cfg` (conf/eval.yaml) says; writes metrics.json, predictions.json and example images to the output
    folder and returns the metrics by name (AP, AP50, …)."""
    validate(cfg, "eval")
    device = pick_device(cfg.accelerator)
    quiet()
    chosen = {group: cfg.get(group) for group in ("data", *AFTER_TRAINING)}
    run = load_finished(cfg.ckpt_path, device, chosen, cfg.batch_size)
    index = relabel(run.data.index(cfg.split), run.classes)
    metrics = evaluate_detector(run.module, evaluation_loader(run.data, index), cfg.accelerator)
    resolved = plain(run.config)
    after = {name: resolved[name] for name in AFTER_TRAINING if resolved.get(name)}
    place = f"{run.config.data.name}-{cfg.split}-{fingerprint(index)}-{find_checkpoint(str(cfg.ckpt_path)).stem}"
    if any(chosen[group] is not None for group in AFTER_TRAINING):
        place += f"-{config_hash(after)}"
    folder = RunFolder(cfg.output or run.home / "eval" / place)
    about = {"checkpoint": str(cfg.ckpt_path), "data": run.config.data.name, "split": cfg.split, "images": len(index)}
    save_evaluation(folder, run.module, index, run.classes, metrics, cfg.pictures, about, after)
    print_metrics(metrics, f"{run.config.data.name} {cfg.split}: {len(index)} images")
    log.info("Written to %s", folder.path)
    return metrics


def main() -> None:
    launch("eval", evaluate)


if __name__ == "__main__":
    main()
