from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from detlab.reporting.pages.content import (
    best,
    class_names,
    counts,
    failures,
    gaps,
    headline,
    mean_of,
    mending,
    result_rows,
    with_paper,
)
from detlab.reporting.study.table import Run, Table, TableRow


def row(name: str, values: list[dict[str, Any]], paper: dict[str, float] | None = None) -> TableRow:
    runs = [Run(Path(), seed, "finished", {"test": value, "minutes": seed + 1}) for seed, value in enumerate(values)]
    return TableRow(name, name, paper or {}, runs)


TABLE = Table(
    "t",
    "t",
    "mini",
    ["AP", "oLRP", "other"],
    [
        row("a", [{"AP": 0.40, "oLRP": 0.7}, {"AP": 0.42, "oLRP": 0.7}, {"AP": 0.44}], {"AP": 36.3}),
        row("b", [{"AP": 0.50, "oLRP": 0.6, "other": 0.25}], {"AP": 36.3}),
        row("c", [{"AP": None, "oLRP": math.nan}]),
    ],
)


def test_cells_equal_the_hand_computation() -> None:
    first, second, third = (result.cells for result in result_rows(TABLE))
    assert [cell.ours for cell in first] == ["42.0 ± 2.0", "70.0 ± 0.0 (2)", "–"]
    assert [cell.ours for cell in second] == ["50.0", "60.0", "0.250"]
    assert [cell.ours for cell in third] == ["–", "–", "–"]
    assert [cell.paper for cell in first] == ["36.3", "", ""]
    assert [cell.best for cell in second] == [True, True, False]  # least oLRP; nothing to compare `other` with
    assert not any(cell.best_paper for cell in [*first, *second])  # both are the same
    assert with_paper(TABLE) == [True, False, False]


def test_best() -> None:
    assert best([1.0, None, 3.0], "AP") == 3.0
    assert best([1.0, None, 3.0], "oLRP") == 1.0
    assert best([None, 3.0], "AP") is best([3.0, 3.0], "AP") is best([], "AP") is None


def test_what_is_missing(sample: Table) -> None:
    assert [(gap.row.name, gap.words) for gap in gaps(sample)] == [
        ("atss_l1", "seed 1 is unfinished: reached iteration 900 of 1,800"),
        ("atss_giou", "seed 2 missing"),
    ]
    ((gap),) = failures(sample)
    assert (gap.row.name, gap.words.split(":")[0]) == ("one_giou", "seed 2")
    assert gap.folder.endswith("baselines/anchors/one_giou/mini/seed=2")


def test_several_gaps_are_closed_by_the_command_of_the_table(sample: Table) -> None:
    assert mending(sample) == [sample.command]
    only = replace(sample, rows=[one for one in sample.rows if one.name != "atss_l1"])
    assert mending(only) == ["detlab train -m experiment=baselines/anchors/atss_giou seed=0,1,2"]
    assert len(mending(replace(sample, command=""))) == 2


def test_a_finished_run_that_cannot_be_read_whole_is_named() -> None:
    run = Run(Path(), 0, "finished", {}, error="metrics.csv, line 3: expected a number.")
    (gap,) = gaps(replace(TABLE, rows=[TableRow("a", "a", runs=[run])]))
    assert gap.words == "seed 0 is finished, but: metrics.csv, line 3: expected a number."


def test_headlines(sample: Table, empty: Table, of_folder: Table) -> None:
    assert counts(sample) == {"holds": 2, "fails": 1, "undecided": 2}
    assert headline(sample) == "Of 5 claims 2 hold, 1 fails and 2 are undecided; 15 of 18 runs finished."
    assert headline(empty) == "Of 5 claims 0 hold, 0 fail and 5 are undecided; 0 of 18 runs finished."
    assert headline(of_folder) == "9 of 9 runs finished, 1 row without any."
    one = replace(sample, verdicts=[replace(sample.verdicts[2])])
    assert headline(one).startswith("Of 1 claim 0 hold, 0 fail and 1 is undecided;")
    assert headline(replace(TABLE, rows=[TableRow("a", "a")])) == "no run is there yet."


def test_means_and_classes(sample: Table) -> None:
    assert mean_of(TABLE.rows[0], "minutes") == pytest.approx(2.0)
    assert mean_of(TABLE.rows[0], "memory_gib") is None
    assert class_names(sample) == ["car", "van", "truck", "bus", "<dog> & cat", "star|5"]
    assert class_names(TABLE) == []
