"""Which numbers of a loss's config are hyper-parameters, as the aLRP paper counts them (Oksuz et al. 2020, Table 1).

The paper counts what somebody has to choose, a change of which changes the value of the loss, and with it the balance
between its terms (Appendix B.1). Read off a config, that is every number in it, at any depth, except

- the weight of one term: only the ratios of the weights balance the terms (Eq. 1 has one weight for two terms), and a
  common factor goes with the learning rate. The first term's is taken as the unit;
- the weight of a term that is not there;
- what the loss borrows from another group (``${...}``), such as the box coder, which the detector has with any loss;
- what the definition of the loss fixes (`FIXED`: by class and key, with the reason).

Switches and names (true, giou) choose among losses and tune none; null stands for a number that follows from another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

FIXED = {
    "detlab.losses.alrp.ALRPCriterion": {
        "tau": "the IoU from which on a detection counts as true, part of the metric LRP (section 2.2)",
        "initial": "scales the box gradient in the first period alone, never the value of the loss (section 4.2)",
        "period": "how often the factor of the box gradient is updated, never the value of the loss (section 4.2)",
    },
    "detlab.losses.two_stage.TwoStageCriterion": {
        "objectness_weight": "the unit of the other weights",  # whose terms it makes by itself
    },
}
_WEIGHT = "_weight"


class Parameter(NamedTuple):
    """A number of a loss: its dotted key in the config, its value, and why it does not count ("": it does)."""

    key: str
    value: float
    reason: str = ""

    @property
    def counts(self) -> bool:
        return not self.reason


def loss_parameters(loss: Mapping[str, object]) -> list[Parameter]:
    """Every number in the config of a loss, in its order. loss: a plain mapping, interpolations unresolved."""
    return list(_numbers(loss, ""))


def count(loss: Mapping[str, object]) -> int:
    """How many hyper-parameters a loss has."""
    return sum(parameter.counts for parameter in loss_parameters(loss))


def _numbers(node: object, path: str) -> Iterator[Parameter]:
    if isinstance(node, Mapping):
        weights = [key for key in node if _weighs(key, node)]
        fixed = FIXED.get(str(node.get("_target_")), {})
        for key, value in node.items():
            where = f"{path}.{key}" if path else str(key)
            if key in fixed and _is_number(value):
                yield Parameter(where, value, fixed[key])
            elif key in weights and _is_number(value):
                yield Parameter(where, value, _why_no_weight(key, node, weights))
            else:
                yield from _numbers(value, where)
    elif isinstance(node, Sequence) and not isinstance(node, str):
        for position, value in enumerate(node):
            yield from _numbers(value, f"{path}[{position}]")
    elif _is_number(node):
        yield Parameter(path, node)


def _weighs(key: object, node: Mapping[str, object]) -> bool:
    """Whether ``x_weight`` stands beside the term ``x``."""
    return str(key).endswith(_WEIGHT) and str(key).removesuffix(_WEIGHT) in node


def _why_no_weight(key: str, node: Mapping[str, object], weights: Sequence[str]) -> str:
    if node[key.removesuffix(_WEIGHT)] is None:
        return "there is no such term"
    present = [weight for weight in weights if node[weight.removesuffix(_WEIGHT)] is not None]
    return "the unit of the other weights" if key == present[0] else ""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
