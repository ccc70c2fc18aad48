"""Whether the parts that a config chooses fit each other, from what their classes declare.

A class may have `provides` and `requires`, each a set of the names in `FEATURES`, or a function that makes the set of
the options that its config node has. A group whose classes declare nothing is taken at its word, so that a part of
one's own needs no declaration.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from detlab.errors import UserError


class Feature(NamedTuple):
    """What one part has and another may need.

    Attributes:
        group: config group of the part that has it.
        take: override that brings it.
        leave: override without which no part needs it, or none has it; "": none.
        trained_by: override that brings a loss which trains it; "": it is not trained.
    """

    group: str
    take: str
    leave: str = ""
    trained_by: str = ""


FEATURES = {  # in the order in which they are compared
    "two_stages": Feature("detector", "method=faster_rcnn", trained_by="loss=faster_rcnn"),
    "one_stage": Feature("detector", "method=retinanet", trained_by="loss=focal_l1"),
    "objectness": Feature("detector", "method=yolo", trained_by="loss=yolo"),
    "quality": Feature(
        "detector",
        "detector.head.quality=iou or =centerness, whichever the loss predicts",
        leave="detector.head.quality=none",
        trained_by="loss=paa",
    ),
    "intervals": Feature("detector", "localization=dense_intervals", trained_by="loss=focal_intervals"),
    "class_scores": Feature("detector", "method=retinanet", leave="pseudo.beta=0"),
    "soft_weights": Feature("loss", "loss=focal_l1", leave="pseudo.mode=hard"),
    "softmax": Feature("postprocess", "postprocess.classes=softmax"),
    "sigmoid": Feature("postprocess", "postprocess.classes=sigmoid"),
}
OTHERS = {  # what to choose in the place of a part, by group
    "detector": "another detector",
    "assigner": "another assigner",
    "loss": "another loss",
    "postprocess": "another postprocess",
    "pseudo": "pseudo=mask",
    "callbacks": "callbacks=default",
}


class Declared(NamedTuple):
    """A part of the config at `path` and what its class declares; None: nothing."""

    path: str
    name: str
    provides: frozenset[str] | None
    requires: frozenset[str] | None

    @property
    def title(self) -> str:
        return f"{self.path} ({self.name})"


Parts = Mapping[str, list[Declared]]


def validate_compatibility(cfg: DictConfig) -> None:
    """Raise UserError for the first of `FEATURES` that is predicted but not trained, or required but not provided."""
    parts = {group: list(declared_parts(cfg.get(group), group)) for group in OTHERS}
    for name in FEATURES:
        if misfit := untrained(parts, name) or missing(parts, name):
            sentence, *choices = misfit
            raise UserError(f"{sentence}: take {', or '.join(_as_override(cfg, choice) for choice in choices)}.")


def untrained(parts: Parts, name: str) -> tuple[str, str, str] | None:
    """What is wrong, and what to choose instead, where the detector predicts what the loss does not train."""
    feature, trained = FEATURES[name], [part.requires for part in parts["loss"] if part.requires is not None]
    if feature.trained_by and trained and not any(name in names for names in trained):
        for part in parts["detector"]:
            if name in (part.provides or ()):
                sentence = f"{part.title} predicts {name}, which {parts['loss'][0].title} does not train"
                return sentence, feature.trained_by, feature.leave or OTHERS["detector"]
    return None


def missing(parts: Parts, name: str) -> tuple[str, str, str] | None:
    """The same where a part requires what no part of the feature's group provides."""
    feature = FEATURES[name]
    provided = [other.provides for other in parts[feature.group] if other.provides is not None]
    if provided and not any(name in names for names in provided):
        for part in (part for group in parts.values() for part in group):
            if name in (part.requires or ()):
                group = part.path.partition(".")[0]
                sentence = f"{part.title} needs {name}, which {parts[feature.group][0].title} does not provide"
                leave = feature.leave if feature.leave.startswith(f"{group}.") else OTHERS[group]
                return sentence, feature.take, leave
    return None


def declared_parts(node: Any, path: str) -> Iterator[Declared]:
    """The parts that a config node and the nodes below it name by `_target_`, the outermost first."""
    if not isinstance(node, DictConfig):
        return
    if "_target_" in node:
        target = get_object(node["_target_"])
        provides, requires = (_declared(target, name, node) for name in ("provides", "requires"))
        yield Declared(path, str(node["_target_"]).rpartition(".")[2], provides, requires)
    for key in node:
        if not OmegaConf.is_missing(node, key):
            yield from declared_parts(node[key], f"{path}.{key!s}")


def _declared(target: Any, name: str, options: Mapping[str, Any]) -> frozenset[str] | None:
    value = getattr(target, name, None)
    if value is None:
        return None
    names = frozenset(value(options) if callable(value) else value)
    if unknown := names - FEATURES.keys():
        raise ValueError(f"{target.__name__}.{name}: expected names of detlab.config.compatibility, got {unknown}.")
    return names


def _as_override(cfg: DictConfig, choice: str) -> str:
    """An override as it has to be typed: with a + where the config has no such key yet."""
    key = choice.partition("=")[0]
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(cfg, parent) if parent else None
    return f"+{choice}" if isinstance(node, DictConfig) and name not in node else choice


def validate_frozen_backbone(cfg: DictConfig) -> None:
    """Raise UserError where random weights would stay frozen."""
    if cfg.backbone.get("frozen_stages") and cfg.backbone.get("weights") is None and not cfg.get("start_from"):
        raise UserError(
            f"backbone.weights=null with backbone.frozen_stages={cfg.backbone.frozen_stages} would keep random weights "
            "frozen: add backbone.frozen_stages=0 backbone.norm=bn to train from random weights."
        )


def validate_precision(cfg: DictConfig) -> None:
    """Raise UserError where ground-truth coordinates would be cast to 16 bits."""
    precision = str(cfg.trainer.get("precision", "32-true")) if "trainer" in cfg else "32-true"
    if precision.endswith("-true") and not precision.startswith(("32", "64")):
        raise UserError(
            f"trainer.precision={precision} would cast ground-truth coordinates to 16 bits; "
            f"take {precision.replace('-true', '-mixed')}."
        )
