"""`detlab label`: the labels that a data set lacks, as a finished detector sees them, to be corrected by a person."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from detlab.config.instantiate import build_pseudo_labels, command_line, pick_device
from detlab.config.launch import launch
from detlab.config.load_run import load_finished
from detlab.config.plain import plain
from detlab.config.schema import validate
from detlab.data.formats.folder_writer import refuse_used
from detlab.data.relabel import relabel
from detlab.engine.autolabel import (
    Options,
    autolabel,
    pseudo_label_predictor,
    refuse_data_folders,
    wanted_classes,
    write_labels,
)
from detlab.engine.logs import quiet
from detlab.engine.run_folder import RunFolder
from detlab.errors import UserError


def label(cfg: DictConfig) -> Path:
    """Label a split as `cfg` (conf/label.yaml) says; returns the folder with the labels, in the format asked for, links
    to the images, and `labels.json`, which says how they were made."""
    validate(cfg, "label")
    device = pick_device(cfg.accelerator)
    quiet()
    options = Options(cfg.split, cfg.score, cfg.missing, cfg.known, cfg.format, cfg.scores, cfg.overwrite)
    chosen = {group: cfg.get(group) for group in ("data", "postprocess", "testing")}
    run = load_finished(cfg.ckpt_path, device, chosen, cfg.batch_size)
    folder = Path(cfg.output or run.home / "labels" / f"{run.config.data.name}-{cfg.split}-{cfg.format}")
    refuse_used(folder, cfg.overwrite)
    wanted = wanted_classes(cfg.classes, run.classes, RunFolder(run.home).read_metrics().get("annotated", run.classes))
    predict = None
    if cfg.by == "proxy":
        callback = build_pseudo_labels(run.config)
        if callback is None or not callback.finds_labels:
            raise UserError(
                "by=proxy: this run was not trained with labels of its own (pseudo=proxy); take by=detector for what "
                "its detector finds."
            )
        predict = pseudo_label_predictor(run.module, callback, device, cfg.missing)
    known = run.data.index(cfg.split)
    refuse_data_folders(folder, known, plain(run.config.data))
    index = relabel(known, [*known.classes, *(name for name in run.classes if name not in known.classes)])
    found = autolabel(index, lambda shown: run.look(shown, predict), run.classes, wanted, options)
    record = {"checkpoint": str(cfg.ckpt_path), "by": cfg.by, "command": command_line()}
    write_labels(folder, index, found, options, record)
    return folder


def main() -> None:
    launch("label", label)


if __name__ == "__main__":
    main()
