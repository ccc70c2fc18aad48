"""One self-contained HTML page about a run, from the files in its folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from detlab.data.files import read_text, write_atomic
from detlab.errors import UserError
from detlab.reporting.files import Content, read_json
from detlab.reporting.history import read_history
from detlab.reporting.pages.data_address import data_address
from detlab.reporting.pages.render import render
from detlab.visualization import assignment_curves, loss_curves, metric_curves, pr_curves, pseudo_curves, svg_text

RUN_FILES = ("config.yaml", "metrics.json", "metrics.csv", "failure.json")
MOST_EXAMPLES = 8
MAIN_METRICS = ("AP", "AP50", "AP75", "mAP_voc")
FURTHER_METRICS = (
    *("AP60", "AP70", "AP80", "AP90", "APs", "APm", "APl", "AR100", "AP_rare", "oLRP", "rho", "IoU_error"),
    *(f"{name}{how}" for name in ("accuracy", "reject_AUROC", "ECE") for how in ("", "_patch_drop")),  # of a classifier
)


def write_report(run_dir: str | Path, output: Path | None = None) -> Path:
    """Write ``report.html`` into a run's folder, or into `output`, and return its path.

    It shows what is there of ``metrics.json`` (results, PR curves, who ran what), ``metrics.csv`` (history),
    ``figures/example_*.png`` (the first 8), ``figures/pseudo_*.png``, ``config.yaml`` and ``failure.json``, so a run
    that is still going, was cut off or failed has a report too. The page needs no network and no other file.

    Raises UserError where there is no run, or a file of it cannot be read.
    """
    folder = Path(run_dir)
    if not folder.is_dir():
        raise UserError(
            f"{folder}: there is no such folder; give the folder of a run, such as runs/<name>/<scale>/seed=0."
        )
    files = [folder / name for name in RUN_FILES]
    if not any(file.is_file() for file in files):
        raise UserError(
            f"{folder}: this folder holds no run (no config.yaml, metrics.json or metrics.csv); "
            "give the folder that training wrote, such as runs/<name>/<scale>/seed=0."
        )
    config, metrics, history = read_text(files[0]), read_json(files[1]), read_history(files[2])
    failure = {} if metrics.get("status") == "finished" else read_json(files[3])
    page = render(
        "run.html.j2",
        name=metrics.get("name") or folder.resolve().name,
        status=metrics.get("status") or ("failed" if failure else "unfinished"),
        failure=failure,
        facts=_facts(metrics, history),
        headline=_headline(metrics),
        results=_results(metrics),
        per_class=_per_class(metrics),
        curves=_curves(metrics, history),
        examples=_examples(folder / "figures", "example"),
        pseudo=_pseudo(metrics, history, folder / "figures"),
        command=metrics.get("command") or failure.get("command") or "",
        config=config,
        folder=str(folder),
    )
    path = (output or folder) / "report.html"
    write_atomic(path, page)
    return path


def _number(values: object, name: str) -> float | None:
    """The value if it is there and known, else None."""
    value = values.get(name) if isinstance(values, Mapping) else None
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known and value is not None else None


def _splits(metrics: Content) -> list[str]:
    return [split for split in ("test", "val") if isinstance(metrics.get(split), Mapping) and metrics[split]]


def _facts(metrics: Content, history: Mapping[str, NDArray[np.float64]]) -> list[tuple[str, str]]:
    """What stands under the title: (what, value)."""
    facts = [(what, str(metrics[what])) for what in ("seed", "commit", "device") if metrics.get(what) is not None]
    minutes = _number(metrics, "minutes")
    if minutes is not None:
        facts.append(("duration", f"{minutes / 60:.1f} h" if minutes >= 90 else f"{minutes:.1f} min"))
    iterations = _number(metrics, "iterations")
    if iterations is None and len(history.get("step", ())):
        iterations = float(np.nanmax(history["step"]))
    if iterations is not None:
        facts.append(("iterations", f"{iterations:,.0f}"))
    speed = _number(metrics, "images_per_second")
    if speed is not None:
        facts.append(("images/s", f"{speed:.1f}"))
    return facts


def _headline(metrics: Content) -> list[tuple[str, str]]:
    """The four figures in large print, of the test split if there is one: (what, value)."""
    splits = _splits(metrics)
    if not splits:
        return []
    known = ((name, _number(metrics[splits[0]], name)) for name in MAIN_METRICS)
    return [(f"{splits[0]} {name}", f"{value:.3f}") for name, value in known if value is not None]


def _results(metrics: Content) -> dict[str, object]:
    """The table of splits: its columns, and rows of (split, cells)."""
    splits = _splits(metrics)
    columns = [
        name
        for name in MAIN_METRICS + FURTHER_METRICS
        if any(_number(metrics[split], name) is not None for split in splits)
    ]
    return {"columns": columns, "rows": [(s, [_number(metrics[s], name) for name in columns]) for s in splits]}


def _per_class(metrics: Content) -> dict[str, object]:
    """AP and AP50 of each class on the first split that has them; classes without ground truth have None."""
    for split in _splits(metrics):
        values = metrics[split]
        names = metrics.get("classes") or [key[3:] for key in values if key.startswith("AP/")]
        rows = [(name, _number(values, f"AP/{name}"), _number(values, f"AP50/{name}")) for name in names]
        if any(ap is not None for _, ap, _ in rows):
            return {"split": split, "rows": rows}
    return {"split": "", "rows": []}


def _curves(metrics: Content, history: Mapping[str, NDArray[np.float64]]) -> list[tuple[str, str]]:
    """(what it is, SVG) of each figure for which there is data."""
    result: list[tuple[str, str]] = []
    curves = metrics.get("pr_curves") or {}
    if curves:
        lines = {name: (curve["recall"], curve["precision"]) for name, curve in curves.items()}
        figure = pr_curves(lines, title="Precision over recall at IoU 0.5")
        result.append(("precision over recall", Markup(svg_text(figure, "pr"))))
    if np.isfinite(history.get("train/loss", np.empty(0))).any():
        result.append(("training loss", Markup(svg_text(loss_curves(history), "loss"))))
    if np.isfinite(history.get("train/positives_per_object", np.empty(0))).any():
        result.append(("anchors per object", Markup(svg_text(assignment_curves(history), "assignment"))))
    if np.isfinite(history.get("pseudo/recall", np.empty(0))).any():
        result.append(("pseudo-labels", Markup(svg_text(pseudo_curves(history), "pseudo"))))
    if np.isfinite(history.get("val/AP", np.empty(0))).any():
        result.append(("validation metrics", Markup(svg_text(metric_curves(history), "val"))))
    return result


def _pseudo(metrics: Content, history: Mapping[str, NDArray[np.float64]], folder: Path) -> dict[str, object]:
    """Pseudo-labels at the last look: how many per picture, rows of (class, precision, recall), pictures."""

    def last(name: str) -> float | None:
        values = history.get(f"pseudo/{name}", np.empty(0))
        known = values[np.isfinite(values)]
        return float(known[-1]) if len(known) else None

    names = metrics.get("classes") or [key[17:] for key in history if key.startswith("pseudo/precision/")]
    rows = [(name, last(f"precision/{name}"), last(f"recall/{name}")) for name in names]
    return {
        "count": last("labels_per_image"),
        "rows": [row for row in rows if row[1] is not None or row[2] is not None],
        "pictures": _examples(folder, "pseudo"),
    }


def _examples(folder: Path, kind: str) -> list[tuple[str, str]]:
    """(name, data address) of the first pictures called ``<kind>_<number>.png``."""
    files = sorted(folder.glob(f"{kind}_*.png"))[:MOST_EXAMPLES]
    return [(file.stem, data_address(file.read_bytes())) for file in files]
