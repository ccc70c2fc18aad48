"""A study file: a paper's table, its numbers and its claims, read and checked."""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from detlab.config.groups import CONFIG_DIR
from detlab.errors import UserError, nearest
from detlab.reporting.study.grammar import parse_claim
from detlab.reporting.study.metric_names import PER_CLASS, check_metric
from detlab.reporting.study.strict_yaml import read_yaml

EXPERIMENTS = CONFIG_DIR / "experiment"
METRICS = ("AP", "AP50", "AP75", "AP90")

_KEYS = ("title", "source", "needs", "metrics", "by_class", "rows", "claims", "notes")
_ROW_KEYS = ("title", "paper", "experiment", "needs")
_CLAIM_KEYS = ("claim", "source", "headline")


@dataclass(frozen=True)
class RowSpec:
    """A row: its name in claims, its printed title, the paper's numbers in points, and the Hydra experiment. `needs`:
    the tables and experiments whose finished runs it begins with."""

    name: str
    title: str
    paper: Mapping[str, float] = field(default_factory=dict)
    experiment: str = ""
    needs: tuple[str, ...] = ()


class ClaimSpec(NamedTuple):
    """A claim and where it stands. headline: one of the paper's main claims, which wants five seeds."""

    text: str
    source: str = ""
    headline: bool = False


@dataclass(frozen=True)
class Study:
    """`name` is ``<paper>/<table>``, `metrics` the columns in order; by_class: a metric to be shown for each class too
    (AP, AP50), or empty; needs: the tables and experiments whose finished runs the rows come from or begin with
    (`detlab.reporting.study.needs`); the rest is as written in the file."""

    path: Path
    name: str
    title: str
    rows: tuple[RowSpec, ...]
    source: str = ""
    metrics: tuple[str, ...] = METRICS
    claims: tuple[ClaimSpec, ...] = ()
    notes: str = ""
    by_class: str = ""
    needs: tuple[str, ...] = ()


def find_studies(paper_folder: str | Path) -> list[Path]:
    """The studies of a paper: every ``<table>.yaml`` in its folder that has `rows`, sorted.

    A file that cannot be read counts, so that reading it says what is wrong with it.
    """
    return [path for path in sorted(Path(paper_folder).glob("*.yaml")) if path.is_file() and _may_be_study(path)]


def _may_be_study(path: Path) -> bool:
    try:
        content = read_yaml(path)
    except UserError:
        return True
    return isinstance(content, Mapping) and "rows" in content


def read_study(path_or_name: str | Path, experiments: str | Path | None = None) -> Study:
    """Read a study from its file, or by its name ``<paper>/<table>`` from the folder `experiments` (None: the one
    beside the configs; of a file: the folder that holds the paper's).

    Raises UserError for the first mistake: a file that is no YAML, unknown keys, rows without a Hydra experiment and
    experiments that are no row, numbers that are none, claims that cannot be read.
    """
    path = _find(path_or_name, EXPERIMENTS if experiments is None else Path(experiments))
    content = _mapping(read_yaml(path), str(path), _KEYS)
    for key in ("title", "rows"):
        if not content.get(key):
            raise UserError(f"{path}: {key} is missing; a study needs a title and rows.")
    name = f"{path.absolute().parent.name}/{path.stem}"
    folder = path.absolute().parent.parent if experiments is None else Path(experiments)
    rows = _rows(path, name, content["rows"], folder)
    return Study(
        path=path,
        name=name,
        title=_text(content["title"], f"{path}: title"),
        source=_text(content.get("source"), f"{path}: source"),
        metrics=_metrics(path, content.get("metrics", METRICS)),
        by_class=_by_class(path, content.get("by_class")),
        rows=rows,
        claims=_claims(path, content.get("claims"), [row.name for row in rows]),
        notes=_text(content.get("notes"), f"{path}: notes"),
        needs=_needs(content.get("needs"), f"{path}: needs", folder),
    )


def _find(path_or_name: str | Path, experiments: Path) -> Path:
    path = Path(path_or_name)
    if path.suffix == ".yaml":
        if not path.is_file():
            raise UserError(f"{path}: there is no such file; give a study, such as experiments/<paper>/<table>.yaml.")
        return path
    named = experiments / f"{path}.yaml"
    if named.is_file():
        return named
    names = [f"{file.parent.name}/{file.stem}" for paper in experiments.glob("*/") for file in find_studies(paper)]
    raise UserError(f"There is no study '{path}'{nearest(str(path), names)}; give <paper>/<table> or a file.")


def _mapping(content: object, where: str, keys: tuple[str, ...]) -> Mapping[str, object]:
    if not isinstance(content, Mapping):
        raise UserError(f"{where}: expected keys {', '.join(keys)}, got {_short(content)}.")
    for key in content:
        if key not in keys:
            raise UserError(f"{where}: there is no key '{key}'{nearest(str(key), keys)}.")
    return content


def _text(value: object, where: str) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping | list):
        raise UserError(f"{where}: expected words, got {_short(value)}; put them in quotation marks.")
    return str(value).strip()


def _metrics(path: Path, value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not value or not all(isinstance(name, str) for name in value):
        raise UserError(f"{path}: metrics: expected a list of names such as [AP, AP50], got {_short(value)}.")
    for position, name in enumerate(value):
        check_metric(name, f"{path}: metrics")
        if name in value[:position]:
            raise UserError(f"{path}: metrics: '{name}' stands there twice; take one away.")
    return tuple(value)


def _by_class(path: Path, value: object) -> str:
    if value is not None and value not in PER_CLASS:
        raise UserError(f"{path}: by_class: expected {' or '.join(PER_CLASS)}, got {_short(value)}.")
    return value or ""


def _rows(path: Path, study: str, value: object, experiments: str | Path) -> tuple[RowSpec, ...]:
    if not isinstance(value, Mapping):
        example = "'rows: {baseline: {}}'"
        raise UserError(f"{path}: rows: expected a name for each row, as in {example}, got {_short(value)}.")
    rows = tuple(_row(path, study, name, content, Path(experiments)) for name, content in value.items())
    folder = path.with_suffix("")
    for file in sorted(folder.glob("*.yaml")):
        if f"{study}/{file.stem}" not in {row.experiment for row in rows}:
            raise UserError(
                f"{path}: {folder.name}/{file.name} is an experiment but no row; list '{file.stem}' under rows or move "
                "the file elsewhere."
            )
    return rows


def _row(path: Path, study: str, name: object, value: object, experiments: Path) -> RowSpec:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or keyword.iskeyword(name):
        raise UserError(
            f"{path}: row '{name}' cannot be named in claims; use letters, digits and _, a letter first (and none of "
            "Python's or YAML's own words, such as 'not' or 'on')."
        )
    where = f"{path}: row {name}"
    content = _mapping({} if value is None else value, where, _ROW_KEYS)
    experiment = content.get("experiment", f"{study}/{name}")
    file = path.with_suffix("") / f"{name}.yaml" if "experiment" not in content else experiments / f"{experiment}.yaml"
    if not isinstance(experiment, str) or not file.is_file():
        raise UserError(f"{where}: there is no {file}; write this experiment, or name another table's with experiment.")
    paper = content.get("paper") or {}
    if not isinstance(paper, Mapping):
        raise UserError(f"{where}: paper: expected numbers by metric, as in {{AP: 36.3}}, got {_short(paper)}.")
    numbers = {str(metric): _number(metric, number, f"{where}: paper") for metric, number in paper.items()}
    needs = _needs(content.get("needs"), f"{where}: needs", experiments)
    return RowSpec(name, _text(content.get("title"), f"{where}: title") or name, numbers, experiment, needs)


def _needs(value: object, where: str, experiments: Path) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise UserError(
            f"{where}: expected a list of tables or rows such as [paper/table, paper/table/row], got {_short(value)}."
        )
    for name in value:
        if name.count("/") not in (1, 2) or not (experiments / f"{name}.yaml").is_file():
            known = [
                file.relative_to(experiments).with_suffix("").as_posix()
                for depth in ("*/*.yaml", "*/*/*.yaml")
                for file in experiments.glob(depth)
            ]
            raise UserError(f"{where}: there is no table and no row '{name}'{nearest(name, known)}.")
    return tuple(dict.fromkeys(value))


def _number(metric: object, value: object, where: str) -> float:
    check_metric(str(metric), where)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{where}: {metric} is {_short(value)}; expected the printed number, or leave the metric out.")
    return float(value)


def _claims(path: Path, value: object, rows: list[str]) -> tuple[ClaimSpec, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise UserError(f"{path}: claims: expected a list, got {_short(value)}; begin each claim with '- '.")
    return tuple(_claim(path, number, entry, rows) for number, entry in enumerate(value, 1))


def _claim(path: Path, number: int, entry: object, rows: list[str]) -> ClaimSpec:
    where = f"{path}: claim {number}"
    if isinstance(entry, Mapping) and "claim" not in entry:
        raise UserError(f"{where}: put the whole claim in quotation marks, as YAML takes the colon for its own.")
    fields = _mapping(entry, where, _CLAIM_KEYS) if isinstance(entry, Mapping) else {"claim": entry}
    if not isinstance(fields["claim"], str):
        raise UserError(f'{where}: expected words such as "AP: a > b", got {_short(fields["claim"])}.')
    try:
        parse_claim(fields["claim"], rows)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    headline = fields.get("headline", False)
    if not isinstance(headline, bool):
        raise UserError(f"{where}: headline: expected true or false, got {_short(headline)}.")
    return ClaimSpec(" ".join(fields["claim"].split()), _text(fields.get("source"), f"{where}: source"), headline)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
