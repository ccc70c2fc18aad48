from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from detlab.reporting.pages.comparison import comparison_page
from detlab.reporting.pages.content import headline
from detlab.reporting.study.table import Run, Table, TableRow

VOID = {"meta", "img", "br", "wbr", "path", "use", "line", "circle", "rect", "link"}


class Page(HTMLParser):
    """The tags with their attributes, and the words of a page, each element's set apart."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.parts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.words = re.sub(r"\s+", " ", " ".join(self.parts))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.parts.append(data)

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def body_of(kind: str, text: str) -> list[list[str]]:
    """The words of the cells in the body of the table with that class."""
    body = text.split(f'<table class="{kind}">')[1].split("</table>")[0].split("<tbody>")[1]
    lines = re.findall(r"<tr.*?</tr>", body, re.DOTALL)
    return [[Page(cell).words.strip() for cell in re.findall(r"<td.*?</td>", line, re.DOTALL)] for line in lines]


@pytest.mark.slow
def test_everything_is_on_the_page(sample: Table) -> None:
    text = comparison_page(sample)
    page = Page(text)
    assert not page.open  # every element is closed
    for row in sample.rows:
        assert row.title in page.words
        assert row.name in page.words
    for verdict in sample.verdicts:
        for words in filter(None, (verdict.claim, verdict.source, verdict.reason)):
            assert words in page.words, words
    for words in (sample.title, "incomplete", sample.source, sample.notes, sample.command, headline(sample),
                  sample.failures[0][1].error, str(sample.failures[0][1].folder), "seed 2 missing",
                  "reached iteration 900 of 1,800", "fedcba9876+changes", "0123456789", "12ab34cd",
                  "loss.localization._target_: 'SmoothL1' → 'GIoU'",
                  "detlab train experiment=baselines/anchors/one_l1 seed=1",
                  "about 75 % of cases with three seeds"):  # fmt: skip
        assert words in page.words, words
    assert "nan" not in page.words.replace("is nan at", "").replace("unfinished", "")
    assert "<focal" not in text
    assert "<how>" not in text
    assert "<dog>" not in text


@pytest.mark.slow
def test_numbers_equal_those_of_the_runs(sample: Table) -> None:
    text = comparison_page(sample)
    results = body_of("results", text)
    for row, cells in zip(sample.rows, results):
        values = [100 * run.result["test"]["AP"] for run in row.runs if run.state == "finished"]
        sd = np.sqrt(sum((v - sum(values) / len(values)) ** 2 for v in values) / (len(values) - 1))
        assert cells[2] == f"{sum(values) / len(values):.1f} ± {sd:.1f}"
        assert cells[3] == (str(row.paper["AP"]) if row.paper else "")
    assert [cells[1] for cells in results] == ["3", "3", "3", "2 of 3", "2 of 3", "2 of 3"]
    heat = body_of("heat", text)
    for name, *cells in heat:
        for row, cell in zip(sample.rows, cells):
            known = [100 * v for run in row.finished if (v := run.result["test"][f"AP/{name}"]) is not None]
            assert cell == (f"{sum(known) / len(known):.1f}" if known else "–")
    assert len(heat) == 6
    claims = body_of("claims", text)
    assert [(*cells[1:5], cells[6]) for cells in claims][:2] == [
        ("holds", "+0.94", "[+0.31, +1.62]", "–", "2"),
        ("fails", "-0.82", "[-1.40, -0.20]", "[-1.60, -0.10]", "3"),
    ]


@pytest.mark.slow
def test_what_is_drawn(sample: Table) -> None:
    page = Page(comparison_page(sample))
    drawn = [attributes.get("class") for tag, attributes in page.tags if tag == "svg"]
    assert drawn.count("interval") == 4  # the fifth claim has no seed
    assert len(drawn) == 4 + 3  # seeds, validation, loss
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == 6 * 6
    assert all((attributes["alt"] or "").strip() for attributes in pictures)
    ids = [attributes["id"] for _, attributes in page.tags if attributes.get("id")]
    assert len(set(ids)) == len(ids)


@pytest.mark.slow
def test_the_page_needs_nothing_else(sample: Table) -> None:
    text = comparison_page(sample)
    for tag, attributes in Page(text).tags:
        for name in ("src", "href", "xlink:href", "srcset", "data", "poster", "action"):
            address = attributes.get(name) or "#"
            assert address.startswith(("#", "data:")), (tag, address)
        for name, value in attributes.items():
            # Names of vocabularies are no addresses that a browser asks for.
            assert name.startswith("xmlns") or "http" not in (value or ""), (tag, name, value)
    assert Page(text).count("script") == Page(text).count("link") == 0
    assert not re.search(r"@import|url\((?!#)", text)


@pytest.mark.parametrize("states", [[], ["missing"], ["unfinished"], ["failed"], ["finished"]])
def test_rows_of_any_state(states: list) -> None:
    runs = [Run(Path("x"), 0, state, {"test": {"AP": 0.5}} if state == "finished" else {}) for state in states]
    page = Page(comparison_page(Table("t", "t", "", ["AP"], [TableRow("a", "a", {}, runs)])))
    assert not page.open
    assert ("complete" in page.words.split()) == (states == ["finished"])


@pytest.mark.slow
def test_of_a_folder_and_of_nothing(of_folder: Table, empty: Table, complete: Table) -> None:
    page = Page(comparison_page(of_folder))
    assert "Claims" not in page.words
    assert "paper" not in page.words
    assert "bare not trained yet" in page.words
    page = Page(comparison_page(empty))
    assert [attributes.get("class") for tag, attributes in page.tags if tag == "svg"] == []
    assert "Cost of a run" not in page.words
    page = Page(comparison_page(complete))
    assert "complete" in page.words.split()
    assert "Not there yet" not in page.words
    assert "Failed" not in page.words
    assert not Page(comparison_page(replace(empty, rows=[], verdicts=[]))).open


def test_classes_without_any_difference_are_no_error(complete: Table) -> None:
    runs = [Run(Path(), 0, "finished", {"test": {"AP": 0.5, "AP/a": 0.5, "AP/b": 0.5}})]
    text = comparison_page(replace(complete, rows=[TableRow("a", "a", {}, runs)]))
    assert body_of("heat", text) == [["a", "50.0"], ["b", "50.0"]]
