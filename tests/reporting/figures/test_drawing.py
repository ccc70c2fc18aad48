from __future__ import annotations

import numpy as np
import pytest

from detlab.errors import UserError
from detlab.reporting.figures.drawing import Runs, seeds

STEPS = np.array([9.0, 19.0, 20.0])
LOSS = np.array([3.0, 2.0, np.nan])


def test_finished_runs_of_rows(make_run, tmp_path):
    make_run("p/t/a", 0)
    make_run("p/t/a", 2)
    make_run("p/t/a", 3, status="running")
    make_run("p/t/a", 4, setting="paper")
    make_run("p/t/b", 0)
    found = Runs(tmp_path / "runs", "mini").of(["p/t/a", "p/t/b"])
    assert {row: [run.seed for run in runs] for row, runs in found.items()} == {"p/t/a": [0, 2], "p/t/b": [0]}


@pytest.mark.parametrize(
    ("setting", "words"), [("mini", ""), ("paper", " scale=paper"), ("my_data", " setting=my_data")]
)
def test_missing_runs_are_answered_with_the_command_that_makes_them(make_run, tmp_path, setting, words):
    make_run("p/t/a", 0, setting=setting)
    with pytest.raises(UserError) as error:
        Runs(tmp_path / "runs", setting).of(["p/t/a", "p/t/b", "p/t/c"])
    assert str(error.value) == (
        f"no finished run of p/t/b, p/t/c at {setting} in {tmp_path / 'runs'}; make them with "
        f"'detlab train -m experiment=p/t/b,p/t/c{words} seed=0,1,2'."
    )


def test_curves_of_the_history(make_run, tmp_path):
    make_run("p/t/a", 0, {"step": STEPS, "train/loss": LOSS})
    make_run("p/t/a", 1, {"step": STEPS, "train/loss": 2 * LOSS})
    ((first, second),) = Runs(tmp_path / "runs", "mini").curves(["p/t/a"], ["train/loss"])["p/t/a"]
    np.testing.assert_equal(first, (STEPS, LOSS))
    np.testing.assert_equal(second[1], 2 * LOSS)


@pytest.mark.parametrize(
    ("column", "end"), [("train/gradient_ratio", "overwrite=true callbacks=gradients"), ("train/x", "overwrite=true")]
)
def test_a_run_that_did_not_log_a_column(make_run, tmp_path, column, end):
    folder = make_run("p/t/a", 0, {"step": STEPS, "train/loss": LOSS, column: np.full(3, np.nan)})
    with pytest.raises(UserError) as error:
        Runs(tmp_path / "runs", "mini").curves(["p/t/a"], [column])
    assert str(error.value) == (
        f"{folder} has no {column} in its history; train it again with "
        f"'detlab train -m experiment=p/t/a seed=0,1,2 {end}'."
    )


def test_seeds_in_words():
    assert seeds({"a": [1]}) == "one seed"
    assert seeds({"p/t/a": [1, 2], "p/t/b": [1, 2]}) == "2 seeds: mean, and from the least to the largest"
    assert seeds({"p/t/a": [1, 2], "p/t/b": [1]}) == "seeds: a 2, b 1"
