"""Comparisons of tables: read from runs or records, written as pages, printed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from detlab.data.files import write_atomic
from detlab.reporting.pages.comparison import comparison_page
from detlab.reporting.pages.markdown import comparison_markdown
from detlab.reporting.pages.terminal import print_comparison, print_index
from detlab.reporting.study.collect import table_of_folder, table_of_study
from detlab.reporting.study.definition import Study
from detlab.reporting.study.record import record_text, table_of_record
from detlab.reporting.study.table import Table

log = logging.getLogger(__name__)


class Comparison(NamedTuple):
    """A table and where it is written: `page` without its suffix, `record` (without too) where it is to be kept."""

    table: Table
    page: Path
    record: Path | None = None


def compare_study(
    study: Study,
    runs: str,
    setting: str,
    seeds: list[int] | None,
    output: Path | None,
    record: bool | Literal["add"] = False,
) -> Comparison:
    """A table's runs beside its paper.

    Args:
        study: The table.
        runs: The folder of all runs.
        setting: Which runs.
        seeds: Of which seeds; None: all.
        output: Where pages go; None: beside the runs.
        record: Keep the results beside the table's file; "add": to those that are there.
    """
    kept = study.path.resolve().parent / "results" / f"{study.path.stem}-{setting}" if record else None
    earlier = kept.with_name(f"{kept.name}.json") if kept and record == "add" else None
    recorded = table_of_record(earlier) if earlier and earlier.is_file() else None
    table = table_of_study(study, runs, setting, seeds, recorded)
    return Comparison(table, _page(table, runs, output, "report"), kept)


def compare_record(path: Path, runs: str, output: Path | None) -> Comparison:
    """The table of a file of recorded results."""
    table = table_of_record(path)
    return Comparison(table, _page(table, runs, output, "recorded"))


def compare_folder(folder: Path, output: Path | None) -> Comparison:
    """The runs below a folder."""
    return Comparison(table_of_folder(folder), (output or folder) / "report")


def _page(table: Table, runs: str, output: Path | None, kind: str) -> Path:
    """Without its suffix: `output` may take several tables, so that the table's name is in the file's there."""
    if output:
        return output / f"{table.name.rpartition('/')[2]}-{table.setting}"
    return Path(runs) / table.name / f"{kind}-{table.setting}"


def publish(comparisons: Sequence[Comparison]) -> None:
    """Write and print; of several, an index of their pages comes last."""
    files: dict[Path, str] = {}
    for table, page, record in comparisons:
        markdown = comparison_markdown(table)
        files |= {
            page.with_name(f"{page.name}.html"): comparison_page(table),
            page.with_name(f"{page.name}.md"): markdown,
        }
        if record:
            files |= {
                record.with_name(f"{record.name}.json"): record_text(table),
                record.with_name(f"{record.name}.md"): markdown,
            }
    for path, text in files.items():
        write_atomic(path, text)
    for comparison in comparisons:
        print_comparison(comparison.table)
    if len(comparisons) > 1:
        print_index([comparison.table for comparison in comparisons])
    for path in files:
        log.info("%s: %s", "Report" if path.suffix == ".html" else "Written", path)
