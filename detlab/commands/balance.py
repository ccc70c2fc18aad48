"""`detlab balance`: the weight w_loc that an IoU-balanced localization loss needs (Wu and Li 2020, Section 3.2)."""

from __future__ import annotations

import itertools

from lightning import seed_everything
from omegaconf import DictConfig, open_dict

from detlab.config.init_from import load_initial_weights, validate_init_from
from detlab.config.instantiate import build_datamodule, build_module, pick_device, rehearse
from detlab.config.launch import launch
from detlab.config.schema import validate
from detlab.engine.loss_weight import Estimate, estimate_loss_weights
from detlab.errors import UserError
from detlab.reporting.terminal.loss_weight import print_estimates


def check(cfg: DictConfig, experiment: str | None = None) -> None:  # noqa: ARG001
    """Raise UserError for a config that cannot be trained or whose box loss is not one per positive."""
    plain = without_weights(cfg)
    validate(plain, "balance")
    validate_init_from(plain)
    rehearse(plain)


def without_weights(cfg: DictConfig) -> DictConfig:
    """A copy of `cfg` whose localization loss is the one inside the IoU-balanced one, if that is what it has.

    Raises UserError where no localization loss stands by itself (aLRP, Rank & Sort).
    """
    plain = cfg.copy()
    if plain.loss.get("localization") is None:
        raise UserError(
            f"loss={plain.loss.get('_target_', '?').rpartition('.')[2]} has no localization loss of its own to weight; "
            "take loss=focal_l1 or another with one."
        )
    with open_dict(plain):
        while plain.loss.localization.get("base") is not None:
            plain.loss.localization = plain.loss.localization.base
    return plain


def balance(cfg: DictConfig) -> list[Estimate]:
    """Estimate w_loc of each λ in `cfg.lambdas` over the first `cfg.batches` batches of a training, with a detector
    that has learned nothing yet, or has the weights of `cfg.start_from`. Nothing is trained or written."""
    plain = without_weights(cfg)
    check(cfg)
    device = pick_device(plain.trainer.get("accelerator", "auto"))
    seed_everything(plain.seed, verbose=False)
    data = build_datamodule(plain)
    data.setup()
    module = build_module(plain, data.classes, training=False).to(device).train()
    load_initial_weights(plain, module)
    found = estimate_loss_weights(module, itertools.islice(data.train_dataloader(), plain.batches), plain.lambdas)
    if found is None:
        raise UserError(
            f"batches={plain.batches}: no predicted box overlaps an object yet, so no weight can be told; "
            "take more batches or start from trained weights."
        )
    return found


def main() -> None:
    launch("balance", lambda cfg: print_estimates(balance(cfg)), check)


if __name__ == "__main__":
    main()
