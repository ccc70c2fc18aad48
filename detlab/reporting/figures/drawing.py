"""What a figure of a paper is, and where the runs that it is drawn from lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detlab.config.groups import CONFIG_DIR
from detlab.errors import UserError
from detlab.reporting.study.run import read_run, seed_folders
from detlab.reporting.study.table import Run
from detlab.visualization.panels import Panel, Series, draw_panels, over_seeds, panels_csv
from detlab.visualization.seeds import Curve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from detlab.reporting.figures.picture import Picture

SEEDS = "0,1,2"


class Drawing(NamedTuple):
    """Panels side by side, and in words what they show and from which runs; from_runs: whether it needs any."""

    panels: Sequence[Panel]
    caption: str
    from_runs: bool = True

    def picture(self) -> Figure:
        return draw_panels(self.panels)

    def csv(self) -> str:
        return panels_csv(self.panels)


@dataclass(frozen=True)
class Runs:
    """The runs of rows at a setting: ``<runs>/<paper>/<table>/<row>/<setting>/seed=<n>``."""

    folder: Path
    setting: str

    def of(self, rows: Sequence[str]) -> dict[str, list[Run]]:
        """Row → its finished runs by seed. Raises UserError, with the command that makes them, where rows have none."""
        every = {row: map(read_run, seed_folders(self.folder / row / self.setting)) for row in rows}
        found = {row: [run for run in runs if run.state == "finished"] for row, runs in every.items()}
        missing = [row for row in rows if not found[row]]
        if missing:
            raise UserError(
                f"no finished run of {', '.join(missing)} at {self.setting} in {self.folder}; make them with "
                f"'{self.command(missing)}'."
            )
        return found

    def curves(self, rows: Sequence[str], columns: Sequence[str]) -> dict[str, list[list[Curve]]]:
        """Row → for each column of the history (steps, values) of each finished run.

        Raises UserError as `of` does, and for a column that a run did not log.
        """
        result = {}
        for row, runs in self.of(rows).items():
            for run, column in product(runs, columns):
                if column not in run.history or not np.isfinite(run.history[column]).any():
                    watched = " callbacks=gradients" if column.startswith("train/gradient") else ""
                    raise UserError(
                        f"{run.folder} has no {column} in its history; train it again with "
                        f"'{self.command([row])} overwrite=true{watched}'."
                    )
            result[row] = [[(run.history["step"], run.history[column]) for run in runs] for column in columns]
        return result

    def command(self, rows: Sequence[str]) -> str:
        """What trains these rows at this setting."""
        scale = (CONFIG_DIR / "scale" / f"{self.setting}.yaml").is_file()
        chosen = "" if self.setting == "mini" else f" {'scale' if scale else 'setting'}={self.setting}"
        return f"detlab train -m experiment={','.join(rows)}{chosen} seed={SEEDS}"


Figures = Mapping[str, "Callable[[Runs], Drawing | Picture]"]


def seeds(found: Mapping[str, Sequence[object]]) -> str:
    """How many runs each row has, in words."""
    counts = {row.rpartition("/")[2]: len(runs) for row, runs in found.items()}
    if len(set(counts.values())) == 1:
        count = next(iter(counts.values()))
        return "one seed" if count == 1 else f"{count} seeds: mean, and from the least to the largest"
    return "seeds: " + ", ".join(f"{row} {count}" for row, count in counts.items())


def difference(
    found: Mapping[str, Sequence[Run]],
    rows: Sequence[str],
    names: Mapping[str, str],
    x: NDArray[np.float64],
    values: Mapping[str, NDArray[np.float64]],
) -> Series:
    """The second of two rows minus the first, ``values[row] [seeds, N]`` over ``x [N]``: over the seeds that both have,
    or of the means where they share none."""
    first, second = ([run.seed for run in found[row]] for row in rows)
    shared = [seed for seed in first if seed in second]
    if shared:
        pairs = [values[rows[1]][second.index(s)] - values[rows[0]][first.index(s)] for s in shared]
    else:
        means = [np.ma.masked_invalid(values[row]).mean(0).filled(np.nan) for row in rows]
        pairs = [means[1] - means[0]]
    return over_seeds(f"{names[rows[1]]} − {names[rows[0]]}", x, pairs, colour=2, marked=True)


def beside_and_change(
    found: Mapping[str, Sequence[Run]],
    names: Mapping[str, str],
    x: NDArray[np.float64],
    values: Mapping[str, NDArray[np.float64]],
    titles: tuple[str, str],
    axes: tuple[str, str, str],
) -> list[Panel]:
    """Two panels: both rows of ``values[row] [seeds, N]`` over ``x [N]``, and the second minus the first. axes: what
    stands at that of x, and at those of the values and of their difference."""
    rows = list(values)
    lines = [over_seeds(names[row], x, values[row], colour=n, marked=True) for n, row in enumerate(rows)]
    change = [difference(found, rows, names, x, values)]
    return [
        Panel(titles[0], axes[0], axes[1], lines),
        Panel(titles[1], axes[0], axes[2], change, level=0.0),
    ]
