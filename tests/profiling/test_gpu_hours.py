"""Hours by hand, and the published training times and speeds that the estimates rest on."""

from __future__ import annotations

import math

import pytest

from detlab.profiling import gpu_hours
from detlab.profiling.gpu_hours import GPUS, assumptions, estimates

V100, A100, H100 = GPUS


def test_hours_by_hand():
    # 1.5 TFLOP × 16 images × 90,000 = 2.16e18 FLOPs; at 1e13 FLOP/s 216,000 s.
    assert gpu_hours.gpu_hours(1.5e12, 16, 90_000, 1e13) == pytest.approx(60)


def test_the_reference_gives_back_the_published_time():
    flops = gpu_hours.REFERENCE_FLOPS_PER_PIXEL * gpu_hours.REFERENCE_PIXELS
    hours = estimates(flops, 16, 90_000, "32-true")["V100"]
    assert hours["hours"] == pytest.approx(8 * 0.205 * 90_000 / 3600)  # 41
    assert hours["low"] * 1.5 == pytest.approx(hours["hours"]) == pytest.approx(hours["high"] / 1.5)


def test_speeds_are_the_means_of_what_was_published():
    ssd = {"v100": 107.22, "v100_mixed": 296.80, "a100": 364.27, "a100_mixed": 662.91}  # images/s
    mask = {"v100": 11.37, "v100_mixed": 9.01, "a100": 4.81, "a100_mixed": 3.77}  # hours
    speed = {name: math.sqrt(ssd[name] / ssd["v100"] * mask["v100"] / mask[name]) for name in ssd}
    assert V100.full.speed == 1
    assert V100.mixed.speed == pytest.approx(speed["v100_mixed"], rel=0.01)
    assert A100.full.speed == pytest.approx(speed["a100"], rel=0.01)
    assert A100.mixed.speed == pytest.approx(speed["a100_mixed"], rel=0.01)
    assert H100.full.speed / A100.full.speed == pytest.approx(14.4 / 7.8, rel=0.01)
    assert H100.mixed.speed / A100.mixed.speed == pytest.approx(14.4 / 7.8, rel=0.01)


@pytest.mark.parametrize("gpu", GPUS)
def test_no_chip_is_taken_to_be_faster_than_it_is(gpu):
    assert 0 < gpu.full.utilisation < 0.7
    assert 0 < gpu.mixed.utilisation < gpu.full.utilisation
    assert gpu.full.utilisation * gpu.full.peak == pytest.approx(gpu.full.flops)


@pytest.mark.parametrize(("name", "mixed"), [("32-true", False), ("16-mixed", True), ("bf16-mixed", True), (32, False)])
def test_precision_as_the_trainer_names_it(name, mixed):
    assert A100.precision(name) is (A100.mixed if mixed else A100.full)


def test_iterations_too_small_for_a_gpu_have_no_estimate():
    assert estimates(0.9e9, 16, 1500, "32-true") == {}
    assert estimates(1e12, 1, 1500, "32-true") != {}


def test_what_is_assumed_is_told():
    told = assumptions()
    assert told["gpus"]["V100"]["32-true"]["utilisation"] == pytest.approx(0.618, abs=0.001)
    assert told["gpus"]["V100"]["32-true"]["uncertainty_factor"] == 1.5
    assert told["gpus"]["V100"]["mixed"]["uncertainty_factor"] == 2
    assert told["reference"]["address"].startswith("https://")
