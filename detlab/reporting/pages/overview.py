"""A line for every table: what is recorded of it and how its claims came out.

``python -m detlab.reporting.pages.overview`` writes the lines into ``experiments/README.md``, between its two markers.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

from detlab.data.files import write_atomic
from detlab.errors import UserError
from detlab.reporting.pages.content import counts
from detlab.reporting.pages.markdown import code, grid
from detlab.reporting.study.definition import EXPERIMENTS, Study, find_studies, read_study
from detlab.reporting.study.record import table_of_record
from detlab.reporting.study.table import Table

BEGIN, END = "<!-- overview: python -m detlab.reporting.pages.overview -->", "<!-- end of overview -->"
HEADER = ["table", "recorded at", "seeds", "hold", "fail", "undecided", "not judged, and why"]


def overview(experiments: Path) -> str:
    """A Markdown table of the studies in a folder, a line for each setting that is recorded in ``<paper>/results/``."""
    lines = []
    for paper in sorted(experiments.glob("*/")):
        for path in find_studies(paper):
            study = read_study(path, experiments)
            records = sorted((paper / "results").glob(f"{path.stem}-*.json"))
            lines += [_recorded(study, table_of_record(record)) for record in records] or [_not_recorded(study)]
    return grid(HEADER, lines, left=2)


def _link(study: Study) -> str:
    return f"[{study.name}]({study.name}.yaml)"


def _recorded(study: Study, table: Table) -> list[str]:
    fewest, most = (f(len(row.finished) for row in table.rows) for f in (min, max))
    seeds = str(most) if fewest == most else f"{fewest} to {most}"
    page = f"[{table.setting}]({study.name.partition('/')[0]}/results/{study.path.stem}-{table.setting}.md)"
    said = counts(table)
    numbers = [str(count) if table.verdicts else "–" for count in said.values()]
    return [_link(study), page, seeds, *numbers, _why(study, table)]


def _why(study: Study, table: Table) -> str:
    """The reasons of undecided claims, each with how often; rows and claims that came after the record."""
    reasons = Counter(verdict.reason for verdict in table.verdicts if verdict.decision == "undecided")
    said = [f"{reason} ({count})" if count > 1 else reason for reason, count in reasons.items()]
    rows = {row.name for row in study.rows} - {row.name for row in table.rows}
    said += [f"rows to be trained: {', '.join(map(code, sorted(rows)))}"] if rows else []
    return "; ".join(said) or ("" if study.claims else "no claims")


def _not_recorded(study: Study) -> list[str]:
    claims = f", {len(study.claims)} claim{'s' * (len(study.claims) != 1)}" if study.claims else ""
    return [_link(study), "–", "–", "–", "–", "–", f"no recorded runs{claims}"]


def replaced(page: str, block: str) -> str:
    """`page` with `block` between the markers. Raises UserError where it lacks them."""
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise UserError(f"The page needs one line '{BEGIN}' and, below it, one line '{END}'.")
    return re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: f"{BEGIN}\n{block}\n{END}", page, flags=re.DOTALL)


def main() -> int:
    page = EXPERIMENTS.resolve() / "README.md"
    try:
        write_atomic(page, replaced(page.read_text(encoding="utf-8"), overview(page.parent)))
    except UserError as error:
        print(f"detlab: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
