"""The learning rate against its definition, written out for a handful of iterations."""

import math

import pytest
import torch
from torch import nn

from detlab.engine.optim import Schedule


def test_multistep_warms_up_linearly_and_drops_at_milestones():
    s = Schedule(100, lr=0.01, warmup=10, warmup_factor=0.1, milestones=[60, 80])
    assert s.factor(0) == pytest.approx(0.1)
    assert s.factor(5) == pytest.approx(0.55)
    assert s.factor(10) == s.factor(59) == 1.0
    assert s.factor(60) == pytest.approx(0.1)
    assert s.factor(99) == pytest.approx(0.01)


def test_cosine_ends_at_its_final_factor():
    s = Schedule(110, lr=0.01, warmup=10, decay="cosine", final_factor=0.05)
    assert s.factor(10) == 1.0
    assert s.factor(60) == pytest.approx(0.05 + 0.95 * (1 + math.cos(math.pi / 2)) / 2)
    assert s.factor(110) == pytest.approx(0.05)


@pytest.mark.parametrize(("batch", "rate"), [(16, 0.01), (4, 0.0025), (64, 0.04)])
def test_rate_scales_linearly_with_the_total_batch(batch, rate):
    built = Schedule(10, lr=0.01, base_batch=16, warmup=0).build(nn.Linear(2, 2), batch)
    assert built["optimizer"].param_groups[0]["lr"] == pytest.approx(rate)
    assert built["lr_scheduler"]["interval"] == "step"


def test_norms_and_biases_can_be_kept_from_decay_and_frozen_weights_are_left_out():
    module = nn.Sequential(nn.Conv2d(3, 8, 1), nn.GroupNorm(2, 8), nn.Conv2d(8, 8, 1, bias=False))
    module[2].requires_grad_(False)
    built = Schedule(10, lr=0.1, optimizer="adamw", weight_decay=0.05, decay_norm=False).build(module, 16)
    assert isinstance(built["optimizer"], torch.optim.AdamW)
    decayed, plain = built["optimizer"].param_groups
    assert [p.shape for p in decayed["params"]] == [module[0].weight.shape]
    assert decayed["weight_decay"] == 0.05
    assert len(plain["params"]) == 3
    assert plain["weight_decay"] == 0


def test_validation_runs_at_the_end_where_no_interval_is_given():
    assert Schedule(70, lr=0.1).val_every == 70
    assert Schedule(70, lr=0.1, val_every=30).val_every == 30


@pytest.mark.parametrize(
    "wrong",
    [{"iterations": 0}, {"lr": 0}, {"lr": -1}, {"warmup": -1}, {"momentum": 1}, {"gamma": 0}, {"clip_norm": 0},
     {"milestones": [5, 3]}, {"base_batch": 0}, {"weight_decay": -1}, {"val_every": -1}],
)  # fmt: skip
def test_values_out_of_range_are_refused_with_what_was_expected(wrong):
    with pytest.raises(ValueError, match=r"Expected .*, got"):
        Schedule(**{"iterations": 10, "lr": 0.1, **wrong})
