"""How many hyper-parameters a loss has, counted from the lab's configs beside the paper (Oksuz et al. 2020, Table 1).

``python -m experiments.alrp.table1`` (or ``make table1-alrp``). `loss_parameters.py` says what
counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from detlab.config.groups import CONFIG_DIR, groups

from .loss_parameters import Parameter, loss_parameters


class Row(NamedTuple):
    """A method: its loss as the paper writes it, the paper's count (None: not in its Table 1), conf/loss/<this> (None:
    the lab does not have it), and the numbers of the loss that the method's detector holds."""

    method: str
    formula: str
    paper: int | None
    loss: str | None = None
    elsewhere: tuple[str, ...] = ()


PAPER = (
    Row("AP Loss", "AP Loss + α SL1", 3, "ap_l1"),
    Row("Focal Loss", "FL + α SL1", 4, "focal_l1"),
    Row("FCOS (here: ATSS, with GIoU)", "FL + α IoU + β CE", 4, "focal_giou_centerness"),
    Row("DR Loss", "DR Loss + α SL1", 5),
    Row("FreeAnchor", "α log(max(exp(CE) × exp(β SL1))) + γ FL", 8),
    Row(
        "Faster R-CNN",
        "CE + α SL1 + β CE + γ SL1",
        9,
        "faster_rcnn",
        ("detector.sampler.number", "detector.sampler.positive", "detector.head.beta"),  # of the second stage
    ),
    Row("CenterNet", "FL + FL + α L2 + β H + γ (SL1 + SL1)", 10),
    Row("aLRP Loss", "aLRP Loss", 1, "alrp_giou"),
)


def rows() -> list[Row]:
    """The paper's, then every other loss of the lab."""
    named = {row.loss for row in PAPER}
    return [*PAPER, *(Row(f"loss={loss}", "", None, loss) for loss in groups()["loss"] if loss not in named)]


def methods() -> dict[str, list[str]]:
    """Loss → the lab's methods that take it. Needs Hydra to be initialised with the lab's configs."""
    found: dict[str, list[str]] = {}
    for method in groups()["method"]:
        choices = compose("train", [f"method={method}"], return_hydra_config=True).hydra.runtime.choices
        found.setdefault(choices.loss, []).append(method)
    return found


def parameters(loss: str, elsewhere: Sequence[str] = ()) -> list[Parameter]:
    """The numbers of conf/loss/<loss>.yaml, and those that the method of its name holds at these keys of its config,
    all of which count. Needs Hydra to be initialized with the lab's configs."""
    container = OmegaConf.to_container(compose(f"loss/{loss}").loss, resolve=False)
    assert isinstance(container, dict)
    own = loss_parameters({str(key): value for key, value in container.items()})
    if not elsewhere:
        return own
    method = compose("train", ["scale=paper", f"method={loss}"])
    return [*own, *(Parameter(key, float(OmegaConf.select(method, key, throw_on_missing=True))) for key in elsewhere)]


def main() -> None:
    table = Table("method", "loss", "lab's methods", "hyper-parameters here", box=SIMPLE, header_style="bold")
    for title in ("here", "paper"):
        table.add_column(title, justify="right")
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        taken = methods()
        for row in rows():
            found = [p for p in parameters(row.loss, row.elsewhere) if p.counts] if row.loss else []
            table.add_row(
                row.method,
                row.formula,
                ", ".join(taken.get(row.loss or "", [])),
                ", ".join(f"{p.key} {p.value:g}" for p in found),
                str(len(found)) if row.loss else "–",
                "–" if row.paper is None else str(row.paper),
            )
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = 200  # a log: nothing need be folded
    console.print(table)


if __name__ == "__main__":
    main()
