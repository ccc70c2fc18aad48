"""From folders of runs to a comparison: the rows of a study, or whatever runs lie in a folder."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from detlab.config.groups import CONFIG_DIR
from detlab.errors import UserError
from detlab.reporting.files import Content
from detlab.reporting.study.claims import judge, parse_claim
from detlab.reporting.study.definition import METRICS, Study
from detlab.reporting.study.differences import recipe
from detlab.reporting.study.needs import stages_of
from detlab.reporting.study.record import table_of_record
from detlab.reporting.study.run import find_runs, read_run, seed_folders
from detlab.reporting.study.table import Run, Table, TableRow

SEEDS = (0, 1, 2)  # where nobody says which
_MOST_IN_TITLE = 3
# Overrides that say which run it is, where it lies or how conveniently it is made, not what is computed.
_OF_A_RUN = (
    "experiment=", "seed=", "run_dir=", "trained_as=", "name=", "overwrite=", "hydra", "logger", "report=",
    "save_every=", "loader.num_workers=", "loader.cache_images=",
)  # fmt: skip
_WATCHING = ("callbacks=assignments", "callbacks=gradients")


def table_of_study(
    study: Study,
    runs: str | Path = "runs",
    setting: str = "mini",
    seeds: Sequence[int] | None = None,
    recorded: Table | None = None,
) -> Table:
    """The study's rows with their runs in ``<runs>/<experiment>/<setting>/seed=<n>``, and its claims judged on them.

    seeds: those that should be there; a run that is not then appears as missing. Runs of further seeds count too.
    recorded: an earlier table of this study; its finished runs count where no finished run of that seed is here, its
    failed ones where no run of that seed is here at all.
    """
    earlier = {row.name: row.runs for row in recorded.rows} if recorded else {}
    found = {
        row.name: _with(earlier.get(row.name, ()), _runs_of(Path(runs) / row.experiment / setting, seeds or ()))
        for row in study.rows
    }
    everything = [run for row in found.values() for run in row]
    wanted = sorted({run.seed for run in everything}) or list(seeds or SEEDS)
    own = {row.experiment: found[row.name] for row in study.rows}
    order = stages_of(study)
    chosen = {
        experiment: _chosen(
            setting, [*(own.get(experiment) or _elsewhere(study, runs, experiment, setting)), *everything]
        )
        for stage in order
        for experiment in stage
    }
    rows = [
        TableRow(
            row.name, row.title, row.paper, found[row.name], _command([row.experiment], chosen[row.experiment], wanted)
        )
        for row in study.rows
    ]
    names = [row.name for row in rows]
    return Table(
        title=study.title,
        name=study.name,
        setting=setting,
        metrics=study.metrics,
        rows=rows,
        verdicts=[
            verdict
            for text, source, headline in study.claims
            for verdict in judge(parse_claim(text, names), rows, source, headline)
        ],
        source=study.source,
        notes=study.notes,
        command=_commands(study, order, chosen, wanted),
        by_class=study.by_class,
    )


def _runs_of(folder: Path, seeds: Iterable[int]) -> list[Run]:
    runs = [read_run(path) for path in seed_folders(folder)]
    there = {run.seed for run in runs}
    missing = [Run(folder / f"seed={seed}", seed, "missing") for seed in seeds if seed not in there]
    return sorted([*runs, *missing], key=lambda run: (run.seed, run.folder))


def _with(recorded: Iterable[Run], runs: Sequence[Run]) -> list[Run]:
    outdone = {
        "finished": {run.seed for run in runs if run.state == "finished"},
        "failed": {run.seed for run in runs if run.state != "missing"},
    }
    added = {run.seed: run for run in recorded if run.state in outdone and run.seed not in outdone[run.state]}
    return sorted(
        [*added.values(), *(run for run in runs if run.seed not in added)], key=lambda run: (run.seed, run.folder)
    )


def _elsewhere(study: Study, runs: str | Path, experiment: str, setting: str) -> list[Run]:
    """The runs of an experiment that is needed but no row: those that are here, else those that its table records."""
    table, _, name = experiment.rpartition("/")
    paper, _, stem = table.rpartition("/")
    record = study.path.resolve().parent.parent / paper / "results" / f"{stem}-{setting}.json"
    if here := _runs_of(Path(runs) / experiment / setting, ()):
        return here
    recorded = table_of_record(record).rows if record.is_file() else ()
    return [run for row in recorded if row.name == name for run in row.runs]


def _chosen(setting: str, runs: Sequence[Run]) -> list[str]:
    """The overrides that lead to a setting and to its results: those of the first of `runs` that has a command with
    them. That run's seed may be part of other runs' folders there. A scale's name is one of these overrides; any other
    name is taken for that of a data config where no command explains it."""
    config: Content = next((run.config for run in runs if run.config), {})
    named = (CONFIG_DIR / "scale" / f"{setting}.yaml").is_file()
    kept: list[str] | None = None
    for run in runs:
        words = shlex.split(str(run.result.get("command") or ""))
        if words and (named or f"setting={setting}" in words):
            kept = [word for word in words if "=" in word and not word.startswith(_OF_A_RUN) and word not in _WATCHING]
            kept = [re.sub(rf"/seed={run.seed}\b", "/seed=${seed}", word) for word in kept]
            break
    if not named:
        scale = config.get("scale_name") or "small"
        return kept or [f"scale={scale}", f"data={setting}", f"setting={setting}"]
    kept = [word for word in kept or [] if word not in (f"scale={setting}", f"setting={setting}")]
    data = config.get("data")
    root = data.get("root") if isinstance(data, Mapping) else None
    if root and setting != "mini" and not any(word.startswith("data.root=") for word in kept):
        kept.insert(0, f"data.root={root}")
    return kept if setting == "mini" else [f"scale={setting}", *kept]


def _commands(
    study: Study, order: Sequence[Sequence[str]], chosen: Mapping[str, Sequence[str]], seeds: Sequence[int]
) -> str:
    """What trains the table and what it needs: a line per stage, or several where rows were made with different
    overrides."""
    lines = []
    for stage in order:
        by_words: dict[tuple[str, ...], list[str]] = {}
        for experiment in stage:
            by_words.setdefault(tuple(chosen[experiment]), []).append(experiment)
        lines += [_command(_shortened(study, rows), words, seeds) for words, rows in by_words.items()]
    return "\n".join(lines)


def _shortened(study: Study, experiments: Sequence[str]) -> Sequence[str]:
    """Every row of a study, where it owns them all, as a glob."""
    whole = {f"{study.name}/{row.name}" for row in study.rows}
    return [f"glob({study.name}/*)"] if set(experiments) == whole else experiments


def _command(experiments: Sequence[str], chosen: Sequence[str], seeds: Sequence[int]) -> str:
    """What trains these rows."""
    swept = [f"experiment={','.join(experiments)}", *chosen, f"seed={','.join(map(str, seeds))}"]
    return shlex.join(["detlab", "train", "-m", *swept])


def table_of_folder(folder: str | Path) -> Table:
    """Every run found in a folder at any depth, grouped into rows that differ in nothing but the seed.

    Rows are titled by the name of their runs and, where names are equal, by what differs in their configs, or else
    by where they lie. Raises UserError where there is no such folder, or no run in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; give a study, or a folder that holds runs.")
    runs = [read_run(path) for path in find_runs(folder)]
    if not runs:
        raise UserError(f"{folder}: there is no run in this folder; give one that detlab train has written into.")
    groups = _grouped(runs)
    titles = _titles(groups)
    rows = [
        TableRow(title, title, {}, sorted(group, key=lambda run: run.seed), _last_command(group))
        for title, group in zip(titles, groups)
    ]
    settings = {_setting(run.config) for run in runs}
    return Table(
        title=f"Runs in {folder}",
        name=str(folder),
        setting=settings.pop() if len(settings) == 1 else "",
        metrics=METRICS,
        rows=rows,
    )


def _setting(config: Content) -> str:
    return str(config.get("setting") or config.get("scale_name") or "")


def _name(run: Run) -> str:
    return str(run.config.get("name") or run.result.get("name") or run.folder.parent)


def _grouped(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs of the same name, setting and config together; a seed that comes twice begins another group."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        key = json.dumps([_name(run), _setting(run.config), recipe(run.config)], sort_keys=True, default=str)
        again = 0
        while any(other.seed == run.seed for other in groups.get(f"{key}{again}", ())):
            again += 1
        groups.setdefault(f"{key}{again}", []).append(run)
    return list(groups.values())


def _titles(groups: Sequence[Sequence[Run]]) -> list[str]:
    titles = []
    for group in groups:
        name = _name(group[0])
        namesakes = [_settings(other[0]) for other in groups if _name(other[0]) == name]
        own = _settings(group[0])
        differing = [key for key in own if any(other.get(key) != own[key] for other in namesakes)]
        differing.sort(key=lambda key: not key.endswith(("setting", "name")))  # the words that people gave, first
        said = [f"{key}={own[key]}" for key in differing[:_MOST_IN_TITLE]]
        said += ["…"] if len(differing) > _MOST_IN_TITLE else []
        titles.append(f"{name}, {', '.join(said)}" if said else name)
    return [f"{title}, {group[0].folder}" if titles.count(title) > 1 else title for title, group in zip(titles, groups)]


def _settings(run: Run) -> dict[str, object]:
    """Every value of a config by its dotted key, the setting first."""
    return {"setting": _setting(run.config), **_flat(recipe(run.config))}


def _flat(config: Content, prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in config.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _last_command(runs: Sequence[Run]) -> str:
    return next((str(run.result["command"]) for run in reversed(runs) if run.result.get("command")), "")
