"""`detlab anchors`: the shapes a YOLO's anchors should have for a data set (YOLOv2, Redmon and Farhadi 2017)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from detlab.config.launch import launch
from detlab.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)


class Found(NamedTuple):
    """levels: of the pyramid; shapes: (width, height) in pixels, a list per level, rising in area; boxes: how many are
    nearest to each. iou: mean over the boxes of the IoU with the nearest shape, both with one centre; matched: share
    of the boxes where it exceeds 0.5. iou_now, matched_now: of the shapes that the config has."""

    levels: list[int]
    shapes: list[list[tuple[int, int]]]
    boxes: list[list[int]]
    iou: float
    matched: float
    iou_now: float
    matched_now: float


def check(cfg: Any, experiment: str | None = None) -> None:  # noqa: ARG001
    """Raise UserError for a config that cannot be trained or whose detector has no anchors of given shapes."""
    from detlab.config.instantiate import rehearse
    from detlab.config.schema import validate

    validate(cfg, "anchors")
    if cfg.detector.anchors.get("shapes") is None:
        raise UserError("detlab anchors finds the shapes of a YOLO's anchors: take method=yolo or detector=yolo.")
    local = cfg.copy()  # with as many shapes as will be found
    local.detector.anchors.shapes = [[[1, 1]] * cfg.per_level] * len(cfg.detector.fpn.levels)
    rehearse(local)


def anchors(cfg: Any) -> Found:
    """k-means of the training boxes' sizes, in pixels of the resized pictures; nothing is trained or written.

    scipy's k-means of log(width), log(height), of `cfg.repeats` random starts the one of highest mean IoU. The distance
    of YOLOv2, 1 − IoU, depends on ratios of sides alone, as distances of logarithms do. Sizes are those that the
    training's resize rule gives; what augmentations enlarge or shrink is not foreseen. Boxes flagged `ignore` or
    without area do not count.

    Raises UserError where fewer different sizes are left than anchors are wanted.
    """
    import numpy as np

    from detlab.config.instantiate import build_datamodule
    from detlab.data.transforms import Pipeline
    from detlab.engine.logs import quiet

    check(cfg)
    quiet()
    data = build_datamodule(cfg)
    index = data.train_index
    rng = np.random.default_rng(cfg.seed)
    resize = cast(Pipeline, data.train_transform).resize
    resized = [resize(int(h), int(w), rng) for h, w in zip(index.heights, index.widths)]
    scale = np.array(resized, float)[:, ::-1] / np.stack([index.widths, index.heights], 1)
    sides = (index.boxes[:, 2:] - index.boxes[:, :2]) * scale[index.box_images]
    sides = sides[~index.ignore & (sides > 0).all(1)]
    levels = list(cfg.detector.fpn.levels)
    wanted = len(levels) * cfg.per_level
    if len(np.unique(sides, axis=0)) < wanted:
        raise UserError(
            f"{cfg.data.name}: its boxes have too few different sizes for {wanted} anchors: lower per_level=."
        )
    shapes = cluster(sides, wanted, cfg.seed, cfg.repeats)
    best, nearest = best_iou(sides, shapes)
    now = np.array(cfg.detector.anchors.shapes, float).reshape(-1, 2) * cfg.detector.anchors.shrink
    best_now, _ = best_iou(sides, now)
    counts = np.bincount(nearest, minlength=wanted).reshape(len(levels), -1).tolist()
    by_level = [[(int(w), int(h)) for w, h in level] for level in shapes.reshape(len(levels), -1, 2)]
    return Found(
        levels, by_level, counts, float(best.mean()), float((best > 0.5).mean()),
        float(best_now.mean()), float((best_now > 0.5).mean()),
    )  # fmt: skip


def cluster(sides: NDArray[np.float64], count: int, seed: int = 0, repeats: int = 20) -> NDArray[np.float64]:
    """`count` (width, height) that stand for ``sides [N, 2]``, both in pixels, rising in area, rounded to whole pixels
    of at least 1. Of `repeats` starts of k-means the best by the mean IoU with the nearest."""
    import numpy as np
    from scipy.cluster.vq import kmeans2

    rng = np.random.default_rng(seed)
    found = []
    for _ in range(repeats):
        centers, _ = kmeans2(np.log(sides), count, minit="++", rng=rng)
        shapes = np.exp(centers).round().clip(min=1)
        found.append((best_iou(sides, shapes)[0].mean(), shapes))
    shapes = max(found, key=lambda each: each[0])[1]
    return shapes[shapes.prod(1).argsort(kind="stable")]


def best_iou(sides: NDArray[np.float64], shapes: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Of each of ``sides [N, 2]`` the highest IoU with one of ``shapes [K, 2]``, centre on centre, and which."""
    import numpy as np

    shared = np.minimum(sides[:, None], shapes).prod(2)
    iou = shared / (sides.prod(1)[:, None] + shapes.prod(1) - shared)
    return iou.max(1), iou.argmax(1)


def print_found(found: Found) -> None:
    """A line per level, how well the shapes fit, and how to use them."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE, header_style="bold")
    for title in ("stride", "anchors (width × height, pixels)", "boxes nearest"):
        table.add_column(title, justify="right")
    for level, shapes, boxes in zip(found.levels, found.shapes, found.boxes):
        text = ", ".join(f"{w} × {h}" for w, h in shapes)
        table.add_row(str(2**level), text, ", ".join(map(str, boxes)))
    console = Console(highlight=False)
    console.print(table)
    print(
        f"Mean best IoU {found.iou:.3f}, above 0.5 for {found.matched:.1%} of the boxes; "
        f"with the config's anchors {found.iou_now:.3f}, {found.matched_now:.1%}."
    )
    text = ",".join("[" + ",".join(f"[{w},{h}]" for w, h in level) + "]" for level in found.shapes)
    print(f"Use: detector.anchors.shapes=[{text}] detector.anchors.shrink=1.0")


def main() -> None:
    launch("anchors", lambda cfg: print_found(anchors(cfg)), check)


if __name__ == "__main__":
    main()
