from __future__ import annotations

import re
from dataclasses import replace

import pytest

from detlab.reporting.pages.content import class_names
from detlab.reporting.pages.markdown import code, comparison_markdown, grid, text
from detlab.reporting.study.table import Table


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def tables(page: str) -> list[list[list[str]]]:
    found: list[list[list[str]]] = [[]]
    for line in page.splitlines():
        if line.startswith("|"):
            found[-1].append(cells(line))
        elif found[-1]:
            found.append([])
    return [table for table in found if table]


def test_every_line_of_a_table_has_all_its_cells(sample: Table) -> None:
    results, claims, costs = tables(comparison_markdown(sample))
    for table in (results, claims, costs):
        assert len({len(line) for line in table}) == 1
    assert results[0] == ["row", "seeds", "AP", "paper", "AP50", "paper", "AP75", "AP90"]
    assert results[2] == ["9 anchors, max-IoU, focal + smooth-L1 `nine_l1`", "3", "48.1 ± 0.4", "36.3", "72.1 ± 0.6", "55.0", "55.3 ± 0.4", "9.6 ± 0.1"]  # fmt: skip # noqa: E501
    assert results[-1][2:4] == ["**55.9 ± 0.0**", "**39.25**"]
    assert claims[3] == ["`AP: nine_giou - nine_l1 >= 2.0 & <more>`", "**fails**", "§4.2", "-0.82", "[-1.40, -0.20]", "[-1.60, -0.10]", "3"]  # fmt: skip # noqa: E501
    assert len(claims) == 2 + len(sample.verdicts)
    assert costs[2][1:] == ["3.2 min", "140.2", "1.20", "1.251"]


def test_words_around_the_tables(sample: Table) -> None:
    page = comparison_markdown(sample)
    for words in (
        "# One anchor or nine, and &lt;how&gt; they are assigned\n",
        "1 anchor, max-IoU, &lt;focal&gt; & GIoU \\| \\[b\\] `one_giou`: seed 2: The loss is nan at iteration 412 "
        "&lt;focal & GIoU&gt;; lower schedule.lr (0.02) or check the boxes.",
        "seed 2 missing",
        f"```sh\n{sample.command}\n```",
        "`fedcba9876+changes`, `0123456789`",
        "`detector.anchors.octaves: 3 → 1`",
        "(9 degrees of freedom)",
    ):
        assert words in page, words


def test_of_a_folder_and_of_nothing(of_folder: Table, empty: Table) -> None:
    page = comparison_markdown(of_folder)
    assert "## Claims" not in page
    assert "paper" not in page
    assert "| bare | 0 | – | – |" in page
    page = comparison_markdown(empty)
    assert "## Cost" not in page
    assert page.count(f"```sh\n{empty.command}\n```") == 2  # makes what is missing, and the whole


@pytest.mark.parametrize(
    ("words", "written"),
    [("a|b", "a\\|b"), ("*_`", "\\*\\_\\`"), ("<b>\n c", "&lt;b&gt; c"), ("back\\slash", "back\\\\slash")],
)
def test_words_stand_for_themselves(words: str, written: str) -> None:
    assert text(words) == written


def test_code() -> None:
    assert code("abs(a) | b") == "`abs(a) \\| b`"
    assert code("a ` b") == "`` a ` b ``"
    assert code("") == ""


def test_grid() -> None:
    assert grid(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | ---: |\n| 1 | 2 |"


def test_a_metric_by_class_says_in_how_many_a_row_is_above_the_first(sample: Table) -> None:
    assert "by class" not in comparison_markdown(sample)
    table = replace(sample, by_class="AP")
    found = tables(comparison_markdown(table))[2]
    finished = [row for row in sample.rows if row.finished]
    assert found[0] == ["class", *(f"`{row.name}`" for row in finished)]
    classes = found[2:-1]
    names = class_names(sample)
    assert [line[0] for line in classes] == [text(name) for name in names]
    better, known = ({row.name: 0 for row in finished} for _ in range(2))
    for name, (_, *values) in zip(names, classes, strict=True):
        means = [row.summary(f"AP/{name}") for row in finished]
        assert [value.strip("*") for value in values] == [f"{mean.mean:.1f}" if mean else "–" for mean in means]
        for row, mean in zip(finished, means, strict=True):
            if mean and means[0]:
                better[row.name] += mean.mean > means[0].mean
                known[row.name] += 1
    counts = [f"{better[row.name]} of {known[row.name]}" for row in finished[1:]]
    assert found[-1] == ["above `nine_l1`", "", *counts]
