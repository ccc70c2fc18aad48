"""`detlab anchors`: the shapes that a YOLO's anchors should have for a data set."""

from __future__ import annotations

from typing import cast

import numpy as np
from omegaconf import DictConfig

from detlab.config.instantiate import build_datamodule, rehearse
from detlab.config.launch import launch
from detlab.config.schema import validate
from detlab.data.transforms import Pipeline
from detlab.engine.logs import quiet
from detlab.errors import UserError
from detlab.models.anchor_clusters import AnchorShapes, find_anchor_shapes, resized_sides
from detlab.reporting.terminal.anchors import print_anchor_shapes


def check(cfg: DictConfig, experiment: str | None = None) -> None:  # noqa: ARG001
    """Raise UserError for a config that cannot be trained or whose detector has no anchors of given shapes."""
    validate(cfg, "anchors")
    if cfg.detector.anchors.get("shapes") is None:
        raise UserError("detlab anchors finds the shapes of a YOLO's anchors: take method=yolo or detector=yolo.")
    local = cfg.copy()  # with as many shapes as will be found
    local.detector.anchors.shapes = [[[1, 1]] * cfg.per_level] * len(cfg.detector.fpn.levels)
    rehearse(local)


def anchors(cfg: DictConfig) -> AnchorShapes:
    """k-means of the training boxes' sizes, as the training's resize leaves them; what augmentations enlarge or shrink
    is not foreseen. Raises UserError where fewer different sizes are left than anchors are wanted."""
    check(cfg)
    quiet()
    data = build_datamodule(cfg)
    sides = resized_sides(data.train_index, cast(Pipeline, data.train_transform).resize, cfg.seed)
    levels = list(cfg.detector.fpn.levels)
    wanted = len(levels) * cfg.per_level
    if len(np.unique(sides, axis=0)) < wanted:
        raise UserError(
            f"{cfg.data.name}: its boxes have too few different sizes for {wanted} anchors: lower per_level=."
        )
    now = np.array(cfg.detector.anchors.shapes, float).reshape(-1, 2) * cfg.detector.anchors.shrink
    return find_anchor_shapes(sides, levels, cfg.per_level, now, cfg.seed, cfg.repeats)


def main() -> None:
    launch("anchors", lambda cfg: print_anchor_shapes(anchors(cfg)), check)


if __name__ == "__main__":
    main()
