"""Finished runs of earlier code evaluate to the numbers that their training ended with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden import runs


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint", ["", "checkpoints/last.ckpt"])
@pytest.mark.parametrize("name", runs.DETECTORS)
def test_a_finished_run_evaluates_as_it_did(name: str, checkpoint: str, tmp_path: Path) -> None:
    now, then = runs.evaluate(name, tmp_path, checkpoint), runs.recorded(name)
    assert {"AP", "AP50", "oLRP", "AP/car"} <= now.keys()
    assert {key: then[key] for key in now} == pytest.approx(now, abs=1.1e-6)  # written with six decimals


@pytest.mark.parametrize("name", runs.DETECTORS)
def test_there_is_something_to_evaluate(name: str) -> None:
    assert runs.recorded(name)["AP50"] > 0.05
