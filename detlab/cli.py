"""`detlab <verb> [overrides]`: finds the verb and imports its command alone; answers `--help` without any."""

from __future__ import annotations

import importlib
import sys

from detlab import __version__
from detlab.config.help import help_text
from detlab.errors import nearest

VERBS = {
    "train": "train a detector, evaluate it and write a report",
    "eval": "evaluate a finished run or a checkpoint on any data",
    "predict": "detect on an image or a folder: pictures and a COCO-format JSON",
    "label": "write the labels that a data set lacks, as a detector sees them, to be corrected",
    "check": "read a data set and name every problem in it",
    "cost": "what a run would cost: one step on synthetic pictures, GPU hours",
    "balance": "estimate the weight of an IoU-balanced localisation loss",
    "anchors": "find the shapes of a YOLO's anchors for a data set",
    "bounds": "what AP would be if scores and overlaps ranked alike, from saved predictions",
    "report": "show a run, or compare the runs of a table with its paper",
    "draw": "draw the figures of a paper from its runs",
    "dashboard": "write a W&B dashboard for the runs of a study, or save it to W&B",
}

HELP = """detlab: keep everything fixed, swap one thing, and know whether it helps.

usage: detlab <verb> [key=value ...]

{verbs}

Everything after the verb is a Hydra override. `detlab <verb> --help` lists the choices and keys,
`detlab <verb> --cfg job` prints the whole config, `detlab train -m key=a,b` runs a sweep.

  detlab train                                    the embedded scenes, on the CPU, in minutes
  detlab train data=custom data.format=voc data.root=my_data data.split=train scale=small
  detlab eval ckpt_path=runs/scenes-retinanet/mini/seed=0
  detlab predict ckpt_path=runs/scenes-retinanet/mini/seed=0 source=photos/
  detlab check data=custom data.format=coco data.images=img data.annotations=ann.json
  detlab report runs/scenes-retinanet/mini/seed=0
  detlab report baselines/anchors
"""


def main(argv: list[str] | None = None) -> None:
    """Run the verb in `argv` (default: the command line). Exits with status 2 on an unknown verb."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        width = max(map(len, VERBS))
        print(HELP.format(verbs="\n".join(f"  {verb:<{width}}  {text}" for verb, text in VERBS.items())), end="")
        return
    verb, *rest = arguments
    if verb in {"-V", "--version"}:
        print(__version__)
        return
    if verb not in VERBS:
        print(f"detlab: there is no verb '{verb}'{nearest(verb, VERBS)}.", file=sys.stderr)
        raise SystemExit(2)
    if {"-h", "--help"} & set(rest):
        print(help_text(verb))
        return
    sys.argv = [f"detlab {verb}", *rest]
    importlib.import_module(f"detlab.commands.{verb}").main()  # one command alone: others may need what it does not
