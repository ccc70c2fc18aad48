"""`detlab eval`: a trained detector on any data, from a run folder or a checkpoint."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from detlab.config.launch import launch

log = logging.getLogger(__name__)


def evaluate(cfg: Any) -> dict[str, Any]:
    """Evaluate as `cfg` (conf/eval.yaml) says; writes metrics.json, predictions.json and example pictures to
    the output folder and returns the metrics by name (AP, AP50, …)."""
    import torch
    from lightning import Trainer
    from omegaconf import OmegaConf

    from detlab.config.instantiate import (
        build_datamodule,
        build_module,
        evaluation_loader,
        find_checkpoint,
        load_run,
        load_weights,
        pick_device,
    )
    from detlab.config.schema import validate
    from detlab.data.files import write_atomic
    from detlab.data.relabel import fingerprint, relabel
    from detlab.engine.logs import quiet
    from detlab.engine.outputs import pr_curves, rounded, save_examples, save_predictions
    from detlab.engine.provenance import tested_with
    from detlab.engine.run_folder import RunFolder, config_hash

    validate(cfg, "eval")
    pick_device(cfg.accelerator)
    quiet()
    run_cfg, classes, state, home = load_run(cfg.ckpt_path)
    merged: Any = OmegaConf.create(OmegaConf.to_container(run_cfg, resolve=True))
    chosen = [group for group in ("data", "postprocess", "testing") if cfg.get(group) is not None]
    for group in chosen:
        merged[group] = cfg[group]
    merged.loader.eval_batch_size = cfg.batch_size or merged.loader.eval_batch_size
    if "weights" in merged.backbone:
        merged.backbone.weights = merged.detector.backbone.weights = None
    data = build_datamodule(merged)
    index = relabel(data.index(cfg.split), classes)
    loader = evaluation_loader(data, index)
    module = build_module(merged, classes, training=False)
    load_weights(module, state, cfg.ckpt_path)
    trainer = Trainer(
        accelerator=cfg.accelerator, devices=1, logger=False, enable_checkpointing=False, enable_model_summary=False,
        enable_progress_bar=False, default_root_dir=str(home),
    )  # fmt: skip
    values = trainer.test(module, loader, verbose=False)[0]
    metrics = {name.removeprefix("test/"): float(value) for name, value in values.items()}
    weights = find_checkpoint(str(cfg.ckpt_path)).stem
    resolved: Any = OmegaConf.to_container(merged, resolve=True)
    after = {name: resolved[name] for name in ("postprocess", "testing") if resolved.get(name)}
    place = f"{merged.data.name}-{cfg.split}-{fingerprint(index)}-{weights}"
    if {"postprocess", "testing"} & set(chosen):
        place += f"-{config_hash(after)}"
    folder = RunFolder(cfg.output or home / "eval" / place)
    save_predictions(folder, module.evaluation.detections, index.class_ids)
    save_examples(folder, index, module.evaluation.detections, classes, cfg.pictures)
    content = {
        "checkpoint": str(cfg.ckpt_path), "data": merged.data.name, "split": cfg.split, "images": len(index),
        "device": torch.cuda.get_device_name() if module.device.type == "cuda" else module.device.type,
        "test": {name: rounded(value) for name, value in metrics.items()}, "pr_curves": pr_curves(module, "test"),
        **after, **({"tested_with": others} if (others := tested_with(after)) else {}),
    }  # fmt: skip
    write_atomic(folder.metrics, json.dumps(content, indent=1))
    print_metrics(metrics, f"{merged.data.name} {cfg.split}: {len(index)} images")
    log.info("Written to %s", Path(folder.path))
    return metrics


def print_metrics(metrics: dict[str, float], title: str) -> None:
    """The metric table on the terminal: the summary, then AP and AP50 per class."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    from detlab.reporting.pages.wording import lower_is_better, number
    from detlab.reporting.study.table import points

    def cell(name: str) -> str:
        return number(metrics.get(name, float("nan")) * points(name), name)

    console = Console(markup=False, emoji=False, highlight=False)  # class names may hold brackets
    console.print(title)
    names = [name for name in metrics if "/" not in name]
    precision = [name for name in names if points(name) > 1 and not lower_is_better(name)]
    for columns in (precision, [name for name in names if name not in precision]):
        summary = Table(box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)  # fits 80 columns, as in a log
        for name in columns:
            summary.add_column(name, justify="right")
        summary.add_row(*map(cell, columns))
        console.print(summary)
    per_class = Table("class", "AP", "AP50", box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for name in (name for name in metrics if name.startswith("AP/")):
        label = name.removeprefix("AP/")
        per_class.add_row(label, cell(name), cell(f"AP50/{label}"))
    console.print(per_class)


def main() -> None:
    launch("eval", evaluate)


if __name__ == "__main__":
    main()
