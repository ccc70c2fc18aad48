"""A training in which nothing is ever positive ends as failed, and no other does."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from detlab.assigners.counts import Counts
from detlab.engine.callbacks.stop_without_positives import StopBarren
from detlab.errors import UserError


def play(steps, patience, every=1, accumulate=1):
    """Iterations of (objects, positives); returns how many there were before it stopped."""
    callback = StopBarren(patience, every)
    module = SimpleNamespace(device=torch.device("cpu"), counts=None)
    callback.on_train_start(None, module)
    for number, step in enumerate(steps, 1):
        module.counts = None if step is None else Counts(*map(torch.tensor, (float(step[0]), float(step[1]), 0.0)))
        try:
            callback.on_train_batch_end(
                SimpleNamespace(global_step=number // accumulate, accumulate_grad_batches=accumulate), module
            )
        except UserError:
            return number
    return None


def test_counts_iterations_in_a_row():
    assert play([(3, 0)] * 10, 4) == 4
    assert play([(3, 0)] * 3 + [(3, 1)] + [(3, 0)] * 10, 4) == 8
    assert play([(3, 0)] * 3, 4) is None
    assert play([(3, 1)] * 20, 4) is None


def test_batches_without_objects_say_nothing():
    assert play([(3, 0), (0, 0)] * 4, 4) == 7
    assert play([(0, 0)] * 20, 4) is None
    assert play([None] * 20, 4) is None


def test_looks_now_and_then():
    assert play([(3, 0)] * 20, 4, every=5) == 5
    assert play([(3, 0)] * 20, 6, every=5) == 10


def test_an_iteration_is_an_optimiser_step():
    assert play([(3, 0)] * 20, 4, accumulate=3) == 12


@pytest.mark.parametrize("values", [(0, 1), (1, 0)])
def test_bad_values(values):
    with pytest.raises(ValueError, match="at least 1"):
        StopBarren(*values)


@pytest.mark.slow
def test_a_run_without_positives_is_kept_as_failed(detlab, tiny):
    result = detlab("train", *tiny, "run_dir=run", "logger=csv", "report=false", "method=paa", "assigner=score_range",
                    "assigner.threshold=0.999", "callbacks.barren.patience=2", "callbacks.barren.every=1")  # fmt: skip
    assert result.status == 1
    sentence = "Training failed: for 2 iterations in a row no anchor was positive"
    assert sentence in result.err
    assert sentence in json.loads(Path("run/failure.json").read_text())["error"]
