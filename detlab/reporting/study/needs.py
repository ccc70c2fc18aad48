"""Which experiments a table needs, in the order in which they can be trained.

``python -m detlab.reporting.study.needs certainty/table6`` prints a line per stage: experiments separated by commas, as
``detlab train -m experiment=...`` takes them. A stage needs only what the stages before it have trained.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from detlab.errors import UserError
from detlab.reporting.study.definition import EXPERIMENTS, Study, find_studies, read_study


def stages(pattern: str, without: Collection[str] = (), experiments: str | Path | None = None) -> list[list[str]]:
    """Every row of some tables and what these rows need, each experiment once.

    A row that another table owns (`experiment:`) counts like one of the table's own. A row is trained after what it
    and the table that owns it name under `needs`, and as late as possible: what nothing else needs is the last stage.

    Args:
        pattern: ``<paper>/<table>``; ``*`` stands for any characters.
        without: Tables whose experiments are left out.
        experiments: The folder that holds the papers' folders; None: the one beside the configs.

    Returns:
        The stages in order, each a list of experiments ``<paper>/<table>/<row>`` in the order of the tables.

    Raises:
        UserError: No table fits, a table cannot be read, or experiments need each other in a circle.
    """
    folder = EXPERIMENTS if experiments is None else Path(experiments)
    names = [f"{file.parent.name}/{file.stem}" for paper in sorted(folder.glob("*/")) for file in find_studies(paper)]
    chosen = [name for name in names if fnmatchcase(name, pattern) and name not in without]
    if not chosen:
        raise UserError(f"No table fits '{pattern}'; there are {', '.join(names)}.")
    needed = _Needs(folder)
    return needed.order([needed.study(name) for name in chosen], without)


def stages_of(study: Study) -> list[list[str]]:
    """`stages` of one table that has been read already."""
    needed = _Needs(study.path.absolute().parent.parent)
    needed.studies[study.name] = study
    return needed.order([study])


class _Needs:
    """The tables of a folder, each read once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.studies: dict[str, Study] = {}

    def study(self, name: str) -> Study:
        if name not in self.studies:
            self.studies[name] = read_study(name, self.folder)
        return self.studies[name]

    def order(self, chosen: Iterable[Study], without: Collection[str] = ()) -> list[list[str]]:
        height: dict[str, int] = {}
        for study in chosen:
            for experiment in [row.experiment for row in study.rows] + self.expand(study.needs):
                self.raise_above(experiment, 0, height, ())
        kept = [(experiment, level) for experiment, level in height.items() if _table(experiment) not in without]
        levels = sorted({level for _, level in kept}, reverse=True)
        return [[experiment for experiment, own in kept if own == level] for level in levels]

    def expand(self, names: Iterable[str]) -> list[str]:
        """Tables as the experiments of their rows; experiments stay."""
        result: list[str] = []
        for name in names:
            result += [row.experiment for row in self.study(name).rows] if name.count("/") == 1 else [name]
        return list(dict.fromkeys(result))

    def of(self, experiment: str) -> list[str]:
        """What an experiment needs: what the table that owns it says for all of its rows and for this one."""
        table = _table(experiment)
        if table not in self.studies and not (self.folder / f"{table}.yaml").is_file():
            return []
        study = self.study(table)
        own = [name for row in study.rows if row.experiment == experiment for name in row.needs]
        return self.expand([*study.needs, *own])

    def raise_above(self, experiment: str, level: int, height: dict[str, int], above: tuple[str, ...]) -> None:
        """Put an experiment at `level` or higher, and what it needs higher still. above: what has led here."""
        if experiment in above:
            circle = [*above[above.index(experiment) :], experiment]
            raise UserError(f"These experiments need each other: {' → '.join(circle)}; take one of the needs away.")
        if height.setdefault(experiment, level) > level:
            return
        height[experiment] = level
        for other in self.of(experiment):
            self.raise_above(other, level + 1, height, (*above, experiment))


def _table(experiment: str) -> str:
    return experiment.rpartition("/")[0]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m detlab.reporting.study.needs", description=__doc__)
    parser.add_argument("table", help="<paper>/<table>, or a pattern such as 'alrp/*'")
    parser.add_argument("--without", action="append", default=[], help="a table to leave out; may be repeated")
    options = parser.parse_args(arguments)
    try:
        for stage in stages(options.table, options.without):
            print(",".join(stage))
    except UserError as error:
        print(f"detlab: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
