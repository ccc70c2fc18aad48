from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from detlab.reporting.pages.content import headline
from detlab.reporting.pages.terminal import print_comparison, print_index
from detlab.reporting.study.table import Table


def shown(table: Table, width: int, *, terminal: bool = False) -> str:
    file = io.StringIO()
    how: Any = {"force_terminal": terminal, "color_system": "standard" if terminal else None}
    console = Console(file=file, width=width, markup=False, emoji=False, highlight=False, **how)
    print_comparison(table, console)
    return file.getvalue()


@pytest.mark.parametrize("width", [50, 80, 100, 160])
def test_everything_is_there_and_fits(sample: Table, width: int) -> None:
    text = shown(sample, width)
    assert "\x1b" not in text
    tables = text[text.index(" row ") : text.index("\nfailed")]  # sentences and commands below are never broken
    assert max(cell_len(line) for line in tables.splitlines()) <= width
    assert "…" not in text
    flat = re.sub(r"\s+", " ", text)
    for words in ("48.1 ± 0.4", "36.3", "39.25", "2 of 3", "+0.94", "[-0.10, +11.20]", "holds", "fails", "undecided",
                  "<focal & GIoU>; lower schedule.lr (0.02) or check the boxes.", "seed 2 missing", headline(sample),
                  "reached iteration 900 of 1,800", f"→ {sample.command}"):  # fmt: skip
        assert words in flat, words
    for row in sample.rows:
        assert row.name in text
        assert all(word in flat for word in row.title.split())


def test_the_paper_stands_beside_ours_where_there_is_room_and_below_where_not(sample: Table) -> None:
    assert re.search(r"48\.1 ± 0\.4 +36\.3 +72\.1 ± 0\.6 +55\.0 +55\.3 ± 0\.4", shown(sample, 160))
    assert re.search(r"48\.1 ± 0\.4 +72\.1 ± 0\.6 +55\.3 ± 0\.4 +9\.6 ± 0\.1", shown(sample, 80))
    assert re.search(r"paper 36\.3 +paper 55\.0", shown(sample, 80))


def test_verdicts_in_colour(sample: Table) -> None:
    text = shown(sample, 120, terminal=True)
    for decision, code in (("holds", 32), ("fails", 31), ("undecided", 33)):
        assert f"\x1b[{code}m{decision}" in text


def test_a_folder_of_runs_and_an_empty_study(of_folder: Table, empty: Table) -> None:
    text = shown(of_folder, 80)
    assert "claim" not in text
    assert "paper" not in text
    assert "bare, not trained yet" in text
    text = shown(empty, 80)
    assert text.count(empty.command) == 1
    assert "seeds 0, 1 and 2 missing" in text


def test_index(sample: Table, of_folder: Table) -> None:
    file = io.StringIO()
    print_index([sample, of_folder], Console(file=file, width=40))
    assert file.getvalue().splitlines() == [
        "",
        f"baselines/anchors: {headline(sample)}",
        f"runs/x: {headline(of_folder)}",
    ]
