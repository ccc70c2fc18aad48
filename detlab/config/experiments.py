"""The rows of tables as Hydra experiments: which there are, and `glob(...)` over them.

A row is `experiments/<paper>/<table>/<row>.yaml` beside a study `experiments/<paper>/<table>.yaml`; Hydra finds it as
`experiment=<paper>/<table>/<row>`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from hydra.core.override_parser.types import Glob

from detlab.config.groups import GROUP
from detlab.errors import UserError, nearest


def rows_in(folders: Iterable[Path]) -> list[str]:
    """``paper/table/row`` of every row below the `experiment` folders of some config folders, sorted."""
    found: set[str] = set()
    for folder in folders:
        for study in (folder / GROUP).glob("*/*.yaml"):
            found.update(f"{study.parent.name}/{study.stem}/{row.stem}" for row in study.with_suffix("").glob("*.yaml"))
    return sorted(found)


def config_folders(arguments: Sequence[str], default: Path) -> list[Path]:
    """`default` and the folder that ``--config-dir`` (``-cd``) adds on the command line."""
    folders = [default]
    for argument, following in zip(arguments, [*arguments[1:], ""]):
        flag, equals, value = argument.partition("=")
        if flag in ("--config-dir", "-cd"):
            folders.append(Path(value if equals else following))
    return folders


def expand(value: object, rows: Sequence[str]) -> str | None:
    """``glob(baselines/anchors/*)``, parsed by Hydra, as the rows it stands for, separated by commas: Hydra's own glob
    does not reach into folders. None for anything else.

    Raises UserError where no row fits, for a name that is no row, and for a table named in place of its rows.
    """
    if isinstance(value, Glob):
        chosen = value.filter(list(rows))
        if not chosen:
            raise UserError(f"{GROUP}=glob({','.join(value.include)}) fits no row{_tables(rows)}.")
        return ",".join(chosen)
    for name in getattr(value, "list", [value]):
        if not isinstance(name, str) or name in rows or name == "null":
            continue
        if any(row.startswith(f"{name}/") for row in rows):
            raise UserError(f"{GROUP}={name} is a table; for its rows write -m '{GROUP}=glob({name}/*)'.")
        raise UserError(f"There is no {GROUP}={name}{nearest(name, rows) or _tables(rows)}.")
    return None


def check_name(choice: str | None, name: str, overridden: bool) -> None:
    """Raise UserError where a row's `name` is not its place: its runs would not be found again."""
    if choice and name != choice and not overridden:
        raise UserError(f"{GROUP}/{choice}.yaml: name is '{name}'; write name: {choice} there, runs are filed by it.")


def _tables(rows: Sequence[str]) -> str:
    tables = sorted({row.rpartition("/")[0] for row in rows})
    return f" (tables: {', '.join(tables)})" if tables else " (there is no table yet)"
