"""The config of every row, method, recipe, option and debug preset, resolved, and how it is kept and compared."""

from __future__ import annotations

import copy
import gc
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal import defaults_list
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from detlab.config.experiments import rows_in
from detlab.config.launch import CONFIG_DIR, groups
from tests.golden.command import HERE
from tests.golden.renames import rename

FILE = HERE / "configs.json"
BASE = "scale=mini"  # what nobody has to ask for: the first in the file, written out in full
ELSEWHERE = {"method", "recipe", "scale", "hydra"}  # groups whose options stand in the entries by scale
ALL_ROWS, FIRST_ROWS = ("mini", "paper"), ("mini_2x", "small")  # which rows of a table are composed at which scales
FOLDERS = {str(CONFIG_DIR.parent): "<detlab>", str(Path.home()): "~"}
UNCOLLECTED = 100  # configs composed before their cycles are collected: 150 MB

Flat = dict[str, Any]


def entries() -> dict[str, list[str]]:
    """Overrides, as one word → where their config may be told as differences from, itself an earlier entry.

    Rows: all of them at mini and paper; at mini_2x and small, which set the same keys as mini, the first of each table.
    """
    found: dict[str, list[str]] = {BASE: []}
    options = groups()
    scales, methods = options["scale"], options["method"]
    found |= {f"scale={scale}": [BASE] for scale in scales if f"scale={scale}" != BASE}
    found |= {f"scale={scale} method={method}": [f"scale={scale}"] for scale in scales for method in methods}
    found |= {f"scale=paper recipe={recipe}": ["scale=paper"] for recipe in options["recipe"]}
    for group in sorted(options.keys() - ELSEWHERE):
        found |= {f"{group}={option}": [BASE] for option in options[group]}
    first: dict[str, str] = {}
    for row in rows_in([CONFIG_DIR]):
        table = row.rpartition("/")[0]
        leads = first.setdefault(table, row) == row
        for scale in [*ALL_ROWS, *(FIRST_ROWS if leads else ())]:
            usual = [f"scale={scale}", *(f"scale={scale} method={method}" for method in methods)]
            found[f"scale={scale} experiment={row}"] = usual if leads else [f"scale={scale} experiment={first[table]}"]
    return found


def compose_all(names: Iterable[str]) -> dict[str, Flat]:
    """The flattened config of each entry, as `detlab train` composes it."""
    configs: dict[str, Flat] = {}
    with _quick_hydra():
        for name in names:
            configs[name] = resolved(name.split())
            if len(configs) % UNCOLLECTED == 0:
                gc.collect()
    return configs


def resolved(overrides: list[str]) -> Flat:
    config = compose("train", overrides)
    return flatten(OmegaConf.to_container(config, resolve=True))


@contextmanager
def _quick_hydra() -> Iterator[None]:
    """Hydra over `conf/`, made quicker: each file is parsed once, what `${...}` in a defaults list may stand for is
    listed for those lists alone that hold one, and the collector does not walk all of it at every turn."""
    load, choices = FileConfigSource.load_config, defaults_list._create_interpolation_map
    cache: dict[tuple[str, str], Any] = {}

    def load_once(self: FileConfigSource, config_path: str) -> Any:
        key = self.path, config_path
        if key not in cache:
            cache[key] = load(self, config_path)
        return copy.deepcopy(cache[key])

    def choices_if_asked(overrides: Any, children: list[Any], self_added: bool) -> Any:
        asked = any(child.is_interpolation() for child in children)
        return choices(overrides, children, self_added) if asked else None

    GlobalHydra.instance().clear()
    collecting = gc.isenabled()
    gc.disable()
    FileConfigSource.load_config, defaults_list._create_interpolation_map = load_once, choices_if_asked
    try:
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            yield
    finally:
        FileConfigSource.load_config, defaults_list._create_interpolation_map = load, choices
        if collecting:
            gc.enable()


def flatten(node: Any, prefix: str = "") -> Flat:
    """Dotted keys → values; lists and empty mappings are values. Folders of this machine have a name in their place."""
    if isinstance(node, Mapping) and node:
        return {key: value for name, child in node.items() for key, value in flatten(child, f"{prefix}{name}.").items()}
    return {prefix.removesuffix("."): _anywhere(node)}


def _anywhere(value: Any) -> Any:
    if isinstance(value, list):
        return [_anywhere(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _anywhere(item) for key, item in value.items()}
    if isinstance(value, str):
        for folder, name in FOLDERS.items():
            value = value.replace(folder, name)
    return value


def short_hash(flat: Flat) -> str:
    return hashlib.sha256(json.dumps(flat, sort_keys=True).encode()).hexdigest()[:12]


def differences(old: Flat, new: Flat) -> list[str]:
    """``key: old -> new`` for each key that differs; a key that one of them does not have is absent there."""
    keys = sorted(key for key in old.keys() | new.keys() if _word(old, key) != _word(new, key))
    return [f"{key}: {_word(old, key)} -> {_word(new, key)}" for key in keys]


def _word(flat: Flat, key: str) -> str:
    return json.dumps(flat[key], sort_keys=True) if key in flat else "(absent)"


def record() -> None:
    """Write `configs.json`."""
    parents = entries()
    write(compose_all(parents), parents)


def write(configs: dict[str, Flat], parents: dict[str, list[str]]) -> None:
    """For each entry its hash, what it is told from, and what it has otherwise."""
    lines = [f'"{name}": {_told(configs, name, parents[name])}' for name in parents]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def _told(configs: dict[str, Flat], name: str, parents: list[str]) -> str:
    """An entry of the file, each key on a line of its own: told from the parent that it differs from least."""
    config = configs[name]
    told = [_from(configs[parent], config, parent) for parent in parents] or [{"set": config}]
    least = min(told, key=lambda one: len(one["set"]) + len(one.get("without", [])))
    return json.dumps({"hash": short_hash(config), **least}, indent=1, sort_keys=True)


def _from(parent: Flat, config: Flat, name: str) -> dict[str, Any]:
    other = {key: value for key, value in config.items() if _word(parent, key) != _word(config, key)}
    gone = sorted(parent.keys() - config.keys())
    return {"from": name, "set": other, **({"without": gone} if gone else {})}


def read() -> dict[str, Flat]:
    """The recorded config of each entry, under today's names. Raises ValueError where the file is not whole."""
    configs: dict[str, Flat] = {}
    for name, entry in json.loads(FILE.read_text()).items():
        parent = configs[entry["from"]] if "from" in entry else {}
        gone = set(entry.get("without", []))
        configs[name] = {key: value for key, value in parent.items() if key not in gone} | entry["set"]
        if short_hash(configs[name]) != entry["hash"]:
            raise ValueError(f"{FILE.name}: what is told of {name} does not have its hash.")
    return {name: rename(config) for name, config in configs.items()}


def report(recorded: dict[str, Flat], composed: dict[str, Flat]) -> str:
    """What changed, and in which entries: equal changes of several entries are told once. Empty where nothing did."""
    changed: dict[str, list[str]] = {}
    for name in [*recorded, *(name for name in composed if name not in recorded)]:
        if name not in composed:
            changed.setdefault("no longer composed", []).append(name)
        elif name not in recorded:
            changed.setdefault("not recorded", []).append(name)
        elif short_hash(recorded[name]) != short_hash(composed[name]):
            for line in differences(recorded[name], composed[name]):
                changed.setdefault(line, []).append(name)
    return "\n".join(f"{line}   [{_some(names)}]" for line, names in sorted(changed.items()))


def _some(names: list[str], shown: int = 3) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
