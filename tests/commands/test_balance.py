"""`detlab balance`: estimates of w_loc, against a training's own first batches."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from detlab.commands.balance import balance, without_weights
from detlab.config.launch import CONFIG_DIR

FEW = ["data.train=64", "data.val=4", "data.test=4"]  # scenes


def composed(*overrides: str):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("balance", [*FEW, *overrides])


@pytest.mark.slow
def test_the_weight_keeps_the_sum_of_the_first_step(toy) -> None:
    """Trained with the estimate of its first batch, the loss of that batch is that of the plain loss."""
    from lightning import seed_everything

    from detlab.config.instantiate import build_datamodule, build_module
    from detlab.ops.matching import gather

    cfg = composed(*toy, "batches=1", "lambdas=[0.7]")
    (estimate,) = balance(cfg)
    losses = []
    for extra in ([], ["loss=iou_balanced_loc", "loss.localization.lambda_=0.7",
                       f"loss.localization.weight={estimate.weight}"]):  # fmt: skip
        local = composed(*toy, *extra)
        seed_everything(local.seed, verbose=False)
        data = build_datamodule(local)
        data.setup()
        module = build_module(local, data.classes, training=False).train()
        batch = next(iter(data.train_dataloader()))
        with torch.no_grad():
            predictions, anchors = module(batch.images)
            assignment = module.assigner(anchors, batch.targets, predictions)
            losses.append(
                float(module.criterion(gather(anchors, batch.targets, assignment, predictions))["localization"])
            )
    assert losses[0] > 0
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert estimate.low == estimate.weight == estimate.high > 1


@pytest.mark.slow
def test_a_detector_that_starts_from_a_run_is_estimated_as_it_starts(toy, finished) -> None:
    words = [*toy, "batches=1", "lambdas=[1.5]"]
    (anew,), (after,) = balance(composed(*words)), balance(composed(*words, f"start_from={finished}/run"))
    assert after.weight != anew.weight


@pytest.mark.slow
def test_the_balanced_loss_is_looked_into(toy) -> None:
    """λ and its weight, even a missing one, are what is asked for and do not matter."""
    plain = balance(composed(*toy, "batches=2"))
    inside = balance(composed(*toy, "batches=2", "loss=iou_balanced_loc", "loss.localization.lambda_=0.7"))
    assert inside == plain
    assert [e.lambda_ for e in plain] == [0.5, 1.0, 1.5, 1.8]
    weights = [e.weight for e in plain]
    assert weights == sorted(weights)
    assert without_weights(composed(*toy)).loss == composed(*toy).loss


@pytest.mark.slow
def test_on_the_command_line(detlab, toy) -> None:
    answer = detlab("balance", *FEW, *toy, "batches=1", "lambdas=[0.5,0.7]")
    assert answer.status == 0, answer.err
    assert re.search(r"0\.5 +\d\.\d{3} +\d\.\d{3}–\d\.\d{3} +1\.575", answer.out)
    assert re.search(r"loss\.localization\.lambda_=0\.7 loss\.localization\.weight=\d\.\d{3}", answer.out)
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method=alrp"], "ALRPCriterion has no localization loss of its own"),
        (["batches=0"], "batches=0"),
        (["lambdas=[-1.0]"], "lambdas"),
        (["lambdas=[]"], "lambdas"),
    ],
)
def test_bad_input_is_answered_in_a_sentence(detlab, toy, overrides: list[str], message: str) -> None:
    answer = detlab("balance", *FEW, *toy, *overrides)
    assert answer.status == 1
    assert message in answer.err
    assert "Traceback" not in answer.err
    assert len(answer.err.strip().splitlines()) == 1
