"""`detlab predict`: boxes on the user's pictures."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from detlab.config.launch import launch

log = logging.getLogger(__name__)

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def predict(cfg: Any) -> Path:
    """Detect on `cfg.source` as conf/predict.yaml says; returns the folder with the pictures and
    `predictions.json` (COCO format: images, categories, annotations with a score)."""
    from omegaconf import OmegaConf

    from detlab.config.instantiate import (
        build_datamodule,
        build_module,
        evaluation_loader,
        load_run,
        load_weights,
        pick_device,
    )
    from detlab.config.schema import validate
    from detlab.data.files import write_atomic
    from detlab.data.index import AnnotationIndex
    from detlab.engine.logs import quiet
    from detlab.metrics.coco_json import predictions_to_coco

    validate(cfg, "predict")
    device = pick_device(cfg.accelerator)
    quiet()
    paths = find_images(Path(cfg.source))
    run_cfg, classes, state, home = load_run(cfg.ckpt_path)
    merged: Any = OmegaConf.create(OmegaConf.to_container(run_cfg, resolve=True))
    for group in ("postprocess", "testing"):
        if cfg.get(group) is not None:
            merged[group] = cfg[group]
    if "weights" in merged.backbone:
        merged.backbone.weights = merged.detector.backbone.weights = None
    merged.loader.eval_batch_size = cfg.batch_size
    module = build_module(merged, classes, training=False)
    load_weights(module, state, cfg.ckpt_path)
    readable, sizes = readable_images(paths)
    index = AnnotationIndex.build(
        classes, paths=[str(p) for p in readable], widths=[w for w, _ in sizes], heights=[h for _, h in sizes],
        box_images=[], boxes=[], labels=[], ids=range(1, len(readable) + 1),
    )  # fmt: skip
    found = detect(module, evaluation_loader(build_datamodule(merged), index), device)
    folder = Path(cfg.output) if cfg.output else home / "predictions" / Path(cfg.source).stem
    rows = predictions_to_coco(list(found.values()), list(found), index.class_ids.tolist())
    content = {
        "images": [
            {"id": i + 1, "file_name": str(path), "width": w, "height": h}
            for i, (path, (w, h)) in enumerate(zip(readable, sizes, strict=True))
        ],
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(classes)],
        "annotations": [
            {"id": i + 1, "iscrowd": 0, "area": round(row["bbox"][2] * row["bbox"][3], 2), **row}
            for i, row in enumerate(rows)
        ],
    }
    for i, path in enumerate(readable):
        if i + 1 in found:
            draw(path, found[i + 1], classes, cfg.score, folder / f"{i + 1:04d}_{path.stem}.png")
    write_atomic(folder / "predictions.json", json.dumps(content))
    count = sum(int((d.scores >= cfg.score).sum()) for d in found.values())
    log.info("%d boxes with score ≥ %g on %d pictures: %s", count, cfg.score, len(found), folder)
    return folder


def find_images(source: Path) -> list[Path]:
    """The picture itself, or every picture below a folder in order of name. UserError where there is none."""
    from detlab.errors import UserError

    if source.is_file():
        return [source]
    if not source.is_dir():
        raise UserError(f"source={source}: there is no such image or folder.")
    paths = sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not paths:
        raise UserError(f"source={source}: no pictures there (looked for {', '.join(SUFFIXES)}).")
    return paths


def readable_images(paths: list[Path]) -> tuple[list[Path], list[tuple[int, int]]]:
    """Those that decode, with (width, height); the others are named in the log. UserError when none does."""
    from detlab.data.image import read_image
    from detlab.errors import UserError

    good, sizes, errors = [], [], []
    for path in paths:
        try:
            height, width = read_image(path).shape[:2]
        except UserError as error:
            errors.append(str(error))
            continue
        good.append(path)
        sizes.append((width, height))
    if not good:
        several = f"none of the {len(paths)} pictures can be read, to begin with "
        raise UserError((several if len(paths) > 1 else "") + errors[0])
    for message in errors:
        log.warning("Left out: %s", message)
    return good, sizes


def detect(module: Any, loader: Any, device: Any) -> dict[int, Any]:
    """Detections by image id, in pixels of the files."""
    import torch

    from detlab.structures import Detections

    module = module.to(device).eval()
    found: dict[int, Detections] = {}
    with torch.inference_mode():
        for batch in loader:
            detections = module.detect(batch.to(device))
            for image_id, one in zip(batch.image_ids.tolist(), detections, strict=True):
                found[image_id] = Detections(*(t.cpu() for t in one))
    return found


def draw(path: Path, found: Any, classes: list[str], score: float, target: Path) -> None:
    from detlab.data.files import write_atomic
    from detlab.data.image import read_image
    from detlab.visualization import draw_boxes, png_bytes, with_legend

    keep = found.scores >= score
    labels = found.labels[keep].numpy()
    picture = draw_boxes(read_image(path), found.boxes[keep].numpy(), labels, found.scores[keep].numpy(), classes)
    write_atomic(target, png_bytes(with_legend(picture, labels, classes)))


def main() -> None:
    launch("predict", predict)


if __name__ == "__main__":
    main()
