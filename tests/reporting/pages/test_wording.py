from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from detlab.reporting.pages.wording import (
    counted,
    duration,
    effect,
    listed,
    lower_is_better,
    mean_sd,
    number,
    printed,
    progress,
    seeds_of,
    short_commit,
)
from detlab.reporting.study.table import Run, Summary, TableRow, Verdict


def test_numbers() -> None:
    assert number(48.26, "AP") == "48.3"
    assert number(0.4826, "rho") == "0.483"
    assert number(71.04, "oLRP_Loc") == "71.0"
    assert number(None, "AP") == number(math.nan, "AP") == "–"
    assert mean_sd(Summary(48.26, 0.51, 3), "AP50") == "48.3 ± 0.5"
    assert mean_sd(Summary(48.26, math.nan, 1), "AP") == "48.3"
    assert mean_sd(None, "AP") == "–"
    assert [printed(value) for value in (36.3, 39.25, None)] == ["36.3", "39.25", ""]
    assert number(0.0934, "IoU_error") == "0.093"


def test_errors_are_better_when_they_are_less() -> None:
    directions = {name: lower_is_better(name) for name in ("AP", "rho", "oLRP", "oLRP_Loc", "IoU_error")}
    assert directions == {"AP": False, "rho": False, "oLRP": True, "oLRP_Loc": True, "IoU_error": True}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((0.94, 0.31, 1.62), ("+0.94", "[+0.31, +1.62]")),
        ((-0.82, -1.4, -0.2), ("-0.82", "[-1.40, -0.20]")),
        ((0.031, 0.012, 0.05), ("+0.0310", "[+0.0120, +0.0500]")),
        ((1.0, None, None), ("+1.00", "–")),
        ((None, None, None), ("–", "–")),
    ],
)
def test_effects(values: tuple, said: tuple[str, str]) -> None:
    assert effect(Verdict("c", "", "holds", *values)) == said


def test_words() -> None:
    assert [counted(n, "run") for n in (0, 1, 2)] == ["0 runs", "1 run", "2 runs"]
    assert [listed(words) for words in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]
    assert [duration(minutes) for minutes in (3.21, 90, None)] == ["3.2 min", "1.5 h", "–"]
    assert short_commit("0123456789abcdef+changes") == "0123456789+changes"
    assert short_commit("") == ""


def test_seeds_and_progress() -> None:
    done, cut = Run(Path(), 0, "finished"), Run(Path(), 1, "unfinished", history={"step": np.array([19.0, 1399.0])})
    assert seeds_of(TableRow("a", "a", runs=[done])) == "1"
    assert seeds_of(TableRow("a", "a", runs=[done, cut])) == "1 of 2"
    assert seeds_of(TableRow("a", "a")) == "0"
    assert progress(cut) == "reached iteration 1,400"
    planned = Run(Path(), 1, "unfinished", config={"schedule": {"iterations": 1800}})
    assert progress(planned) == "reached iteration 0 of 1,800"
