"""The reference of config groups and keys, `conf/README.md`: ``python -m detlab.config.reference`` writes it anew."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from hydra.utils import get_object

from detlab.config.launch import CONFIG_DIR, groups
from detlab.config.presets import FILE, read_presets

INTRO = """# Configs

Written by `python -m detlab.config.reference` from the files of this folder and the signatures of what they build; edit
those.

- A run is a choice of one option per group (`assigner=atss`) and of values (`schedule.lr=0.01`), on the command line or
  in a row of a table, `experiments/<paper>/<table>/<row>.yaml` (`experiment=<paper>/<table>/<row>`).
- An option is a file `conf/<group>/<option>.yaml`, or an entry of [`presets.yaml`](presets.yaml): another option with a
  few values of its own. Both are chosen alike. `--config-dir <folder>` adds options of your own.
- `method` and `scale` choose several groups at once; what is chosen besides wins. `recipe` is what `scale=paper` takes.
- A folder named after a scale (`method/mini/`, `localization/mini/`) holds what follows the scale; `detector/shapes/`
  and `loss/w_loc/` hold numbers measured on data. `hydra/launcher/` and `hydra/sweeper/` carry out sweeps, `sweeps/`
  holds files for `wandb sweep`.
- `detlab <verb> --help` lists groups and keys, `detlab train --cfg job` prints the whole config;
  [examples](GUIDE.md) show how parts are swapped and combined.
"""
WRITTEN = CONFIG_DIR / "README.md"
VERB_FILE = re.compile(r"# (detlab \w+): (.*)")


def reference() -> str:
    """The text of `conf/README.md`."""
    options = groups()
    sections = [INTRO, *_verbs(), *_overview(options)]
    for group in options:
        sections += _section(group)
    return "\n".join(sections)


def _verbs() -> Iterator[str]:
    yield "## Verbs\n"
    yield "| File | |\n|---|---|"
    for path in sorted(CONFIG_DIR.glob("*.yaml")):
        if found := VERB_FILE.match(path.read_text()):
            yield f"| [`{path.name}`]({path.name}) | `{found[1]}`: {_cell(found[2])} |"
    yield "\nKeys of `detlab train` outside all groups:\n"
    yield from _table(CONFIG_DIR / "train.yaml")


def _overview(options: dict[str, list[str]]) -> Iterator[str]:
    yield "\n## Groups\n"
    yield "| Group | Options |\n|---|---|"
    for group, names in options.items():
        yield f"| [`{group}`](#{group.replace('/', '')}) | {', '.join(f'`{name}`' for name in names)} |"


def _section(group: str) -> Iterator[str]:
    yield f"\n### {group}"
    for path in sorted((CONFIG_DIR / group).glob("*.yaml")):
        text = path.read_text()
        yield f"\n[`{group}={path.stem}`]({group}/{path.name}){_remark_above(text)}{_begins_with(text)}\n"
        yield from _table(path)
    presets = [preset for preset in read_presets(CONFIG_DIR) if preset.group == group]
    if presets:
        yield f"\nPresets ([`{FILE}`]({FILE})):\n"
        yield "| Preset | Is | With |\n|---|---|---|"
    for preset in presets:
        values = {key: value for key, value in preset.content.items() if key != "defaults"}
        bases = ", ".join(f"`{_base(entry)}`" for entry in preset.content["defaults"])
        yield f"| `{preset.name}` | {bases} | {f'`{_flow(values)[1:-1]}`' if values else ''} |"


def _begins_with(text: str) -> str:
    """What a file takes before its own keys, as a sentence."""
    defaults = (yaml.safe_load(text) or {}).get("defaults", [])
    bases = [f"`{_base(entry)}`" for entry in defaults if entry != "_self_"]
    return f" Takes {', '.join(bases)}." if bases else ""


def _base(entry: Any) -> str:
    """An entry of a defaults list as one would say it: ``localization=giou`` for ``override localization: giou``."""
    if isinstance(entry, str):
        return entry
    ((group, option),) = entry.items()
    return f"{group.removeprefix('override ').removeprefix('optional ').lstrip('/')}={_flow(option)}"


def _table(path: Path) -> Iterator[str]:
    rows = list(_keys(path.read_text()))
    if rows:
        yield "| Key | Value | Type | |\n|---|---|---|---|"
        yield from (
            f"| `{key}` | `{value}` | {f'`{kind}`' if kind else ''} | {remark} |" for key, value, kind, remark in rows
        )


def _keys(text: str) -> Iterator[tuple[str, str, str, str]]:
    """Dotted key, value, type by the signature of what its mapping builds, and the remark behind it, of each leaf."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if isinstance(root, yaml.MappingNode):
        yield from _leaves(root, "", text.splitlines())


def _leaves(node: yaml.MappingNode, prefix: str, lines: list[str]) -> Iterator[tuple[str, str, str, str]]:
    names = {key.value: value for key, value in node.value}
    parameters = _parameters(names["_target_"].value) if "_target_" in names else {}
    for key, value in node.value:
        if key.value == "defaults" and not prefix:
            continue
        path = f"{prefix}{key.value}"
        if isinstance(value, yaml.MappingNode) and value.value:
            yield from _leaves(value, f"{path}.", lines)
            continue
        kind = parameters[key.value].annotation if key.value in parameters else inspect.Parameter.empty
        shown = (
            "" if kind is inspect.Parameter.empty else kind if isinstance(kind, str) else getattr(kind, "__name__", "")
        )
        content = _flow(yaml.safe_load(yaml.serialize(value)))
        remark = lines[key.start_mark.line].partition(" # ")[2].strip()
        yield path, _cell(content), _cell(shown), _cell(remark)


def _parameters(target: str) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(get_object(target)).parameters)


def _remark_above(text: str) -> str:
    """The first paragraph of the comment that a file begins with, as a sentence behind the option's name."""
    lines: list[str] = []
    for line in text.splitlines():
        if not line.startswith("#") or line == "#" or line.startswith("#  "):
            break
        if not line.startswith("# @package"):
            lines.append(line.lstrip("# "))
    return f": {_cell(' '.join(lines))}" if lines else ""


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...").strip()


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def main() -> None:
    WRITTEN.write_text(reference())


if __name__ == "__main__":
    main()
