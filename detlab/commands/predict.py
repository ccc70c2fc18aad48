"""`detlab predict`: boxes on the user's images."""

from __future__ import annotations

import logging
from pathlib import Path

from omegaconf import DictConfig

from detlab.config.instantiate import pick_device
from detlab.config.launch import launch
from detlab.config.load_run import load_finished
from detlab.config.schema import validate
from detlab.data.image_files import find_images, readable_images, unlabeled_index
from detlab.engine.logs import quiet
from detlab.engine.outputs import draw_detections, save_coco_detections

log = logging.getLogger(__name__)


def predict(cfg: DictConfig) -> Path:
    """Detect on `cfg.source` as conf/predict.yaml says; returns the folder with the drawn images and
    `predictions.json` (COCO format: images, categories, annotations with a score)."""
    validate(cfg, "predict")
    device = pick_device(cfg.accelerator)
    quiet()
    paths = find_images(Path(cfg.source))
    chosen = {group: cfg.get(group) for group in ("postprocess", "testing")}
    run = load_finished(cfg.ckpt_path, device, chosen, cfg.batch_size)
    readable, sizes = readable_images(paths)
    index = unlabeled_index(run.classes, readable, sizes)
    found = run.look(index)
    folder = Path(cfg.output) if cfg.output else run.home / "predictions" / Path(cfg.source).stem
    for image, path in enumerate(readable, 1):
        if image in found:
            draw_detections(path, found[image], run.classes, cfg.score, folder / f"{image:04d}_{path.stem}.png")
    save_coco_detections(folder / "predictions.json", index, found)
    count = sum(int((d.scores >= cfg.score).sum()) for d in found.values())
    log.info("%d boxes with score ≥ %g on %d images: %s", count, cfg.score, len(found), folder)
    return folder


def main() -> None:
    launch("predict", predict)


if __name__ == "__main__":
    main()
