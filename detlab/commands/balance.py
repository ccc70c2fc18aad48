"""`detlab balance`: the weight w_loc that an IoU-balanced localisation loss needs (Wu and Li 2020, Section 3.2)."""

from __future__ import annotations

import itertools
import logging
from typing import Any, NamedTuple

from detlab.config.launch import launch
from detlab.errors import UserError

log = logging.getLogger(__name__)


class Estimate(NamedTuple):
    """weight: w_loc of lambda_; low, high: the least and the largest of single batches."""

    lambda_: float
    weight: float
    low: float
    high: float


def check(cfg: Any, experiment: str | None = None) -> None:  # noqa: ARG001
    """Raise UserError for a config that cannot be trained or whose box loss is not one per positive."""
    from detlab.config.init_from import refuse_no_start
    from detlab.config.instantiate import rehearse
    from detlab.config.schema import validate

    plain = without_weights(cfg)
    validate(plain, "balance")
    refuse_no_start(plain)
    rehearse(plain)


def without_weights(cfg: Any) -> Any:
    """A copy of `cfg` whose localisation loss is the one inside the IoU-balanced one, if that is what it has.

    Raises UserError where no localisation loss stands by itself (aLRP, Rank & Sort).
    """
    from omegaconf import open_dict

    plain = cfg.copy()
    if plain.loss.get("localization") is None:
        raise UserError(
            f"loss={plain.loss.get('_target_', '?').rpartition('.')[2]} has no localisation loss of its own to weight; "
            "take loss=focal_l1 or another with one."
        )
    with open_dict(plain):
        while plain.loss.localization.get("base") is not None:
            plain.loss.localization = plain.loss.localization.base
    return plain


def balance(cfg: Any) -> list[Estimate]:
    """Estimate w_loc of each λ in `cfg.lambdas` over the first `cfg.batches` batches of a training.

    w_loc = Σ ℓ_i / Σ iou_i^λ · ℓ_i over the positives of a detector that has learnt nothing yet, or what the run has
    that it starts from: with it the sum of the localisation loss at the first step stays what it was. Nothing is
    trained or written.
    """
    import torch
    from lightning import seed_everything

    from detlab.config.init_from import begin
    from detlab.config.instantiate import build_datamodule, build_module, pick_device
    from detlab.losses.quality import predicted_iou
    from detlab.ops.matching import gather

    plain = without_weights(cfg)
    check(cfg)
    device = pick_device(plain.trainer.get("accelerator", "auto"))
    seed_everything(plain.seed, verbose=False)
    data = build_datamodule(plain)
    data.setup()
    module = build_module(plain, data.classes, training=False).to(device).train()
    begin(plain, module)
    loss: Any = module.criterion
    lambdas = torch.tensor([float(value) for value in plain.lambdas], device=device)
    sums = []
    for batch in itertools.islice(data.train_dataloader(), plain.batches):
        batch = batch.to(device)
        if not len(batch):
            continue
        with torch.no_grad():
            predictions, anchors = module(batch.images)
            matched = gather(anchors, batch.targets, module.assigner(anchors, batch.targets, predictions), predictions)
            each = loss.localization(matched) * matched.box_weights
            weighted = (predicted_iou(matched)[:, None] ** lambdas * each[:, None]).sum(0)
        sums.append(torch.cat([each.sum()[None], weighted]).double().cpu())
        log.info("Batch %d of %d: %d positives.", len(sums), plain.batches, len(each))
    table = torch.stack(sums) if sums else torch.zeros(1, 1 + len(lambdas))
    total, single = table.sum(0), table[(table[:, 1:] > 0).all(1)]
    if not bool((total > 0).all()):
        raise UserError(
            f"batches={plain.batches}: no predicted box overlaps an object yet, so no weight can be told; "
            "take more batches or start from trained weights."
        )
    ratios = single[:, :1] / single[:, 1:]
    return [
        Estimate(float(value), float(total[0] / total[1 + k]), float(ratios[:, k].min()), float(ratios[:, k].max()))
        for k, value in enumerate(plain.lambdas)
    ]


def print_estimates(estimates: list[Estimate]) -> None:
    """A line per λ beside the paper's value, and how to use one."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    from detlab.losses.iou_balanced import W_LOC

    table = Table(box=SIMPLE, header_style="bold")
    for title in ("lambda_", "w_loc", "single batches", "paper's"):
        table.add_column(title, justify="right")
    for e in estimates:
        paper = f"{W_LOC[e.lambda_]:g}" if e.lambda_ in W_LOC else "–"
        table.add_row(f"{e.lambda_:g}", f"{e.weight:.3f}", f"{e.low:.3f}–{e.high:.3f}", paper)
    console = Console(highlight=False)
    console.print(table)
    last = estimates[-1]
    print(
        f"Use: loss=iou_balanced_loc loss.localization.lambda_={last.lambda_:g} "
        f"loss.localization.weight={last.weight:.3f}"
    )


def main() -> None:
    launch("balance", lambda cfg: print_estimates(balance(cfg)), check)


if __name__ == "__main__":
    main()
