"""Where the parts of earlier versions live now: keeps stored configs, checkpoints and recorded results readable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Module that a stored `_target_` may name -> the module that holds it today.
MOVED_MODULES = {
    "detlab.boxes": "detlab.ops.boxes",
    "detlab.callbacks.assignments": "detlab.engine.callbacks.assignments",
    "detlab.callbacks.averaging": "detlab.engine.callbacks.averaging",
    "detlab.callbacks.barren": "detlab.engine.callbacks.stop_without_positives",
    "detlab.callbacks.bounds": "detlab.engine.callbacks.bounds",
    "detlab.callbacks.gradients": "detlab.engine.callbacks.gradients",
    "detlab.callbacks.progress": "detlab.engine.callbacks.progress",
    "detlab.callbacks.pseudo_labels": "detlab.engine.callbacks.pseudo_labels",
    "detlab.data.coco": "detlab.data.formats.coco",
    "detlab.data.custom": "detlab.data.sources.custom",
    "detlab.data.merge": "detlab.data.sources.merge",
    "detlab.data.semi": "detlab.data.sources.semi",
    "detlab.data.simulate": "detlab.data.sources.simulate",
    "detlab.data.simulate_voc": "detlab.data.sources.simulate_voc",
    "detlab.data.voc": "detlab.data.formats.voc",
    "detlab.finished": "detlab.config.load_run",
    "detlab.intervals": "detlab.ops.interval_coder",
    "detlab.models.backbones": "detlab.models.backbones.resnet",
    "detlab.models.box_head": "detlab.models.heads.box",
    "detlab.models.dense": "detlab.models.detectors.dense",
    "detlab.models.faster_rcnn": "detlab.models.detectors.faster_rcnn",
    "detlab.models.fpn": "detlab.models.necks.fpn",
    "detlab.models.heads": "detlab.models.heads.dense",
    "detlab.models.interval_head": "detlab.models.heads.interval",
    "detlab.models.rois": "detlab.models.roi_sampler",
    "detlab.models.rpn": "detlab.models.heads.rpn",
    "detlab.models.yolo": "detlab.models.detectors.yolo",
    "detlab.models.yolo_head": "detlab.models.heads.yolo",
    "detlab.proxy_classifier.task": "detlab.engine.classifier_task",
    "detlab.pseudo.background": "detlab.pseudo_labels.none",
    "detlab.pseudo.classifier.crops": "detlab.proxy_classifier.crops",
    "detlab.pseudo.classifier.task": "detlab.engine.classifier_task",
    "detlab.pseudo.offline": "detlab.pseudo_labels.offline",
    "detlab.pseudo.proxy": "detlab.pseudo_labels.proxy",
    "detlab.pseudo.soft_sampling": "detlab.pseudo_labels.soft_sampling",
    "detlab.pseudo.teacher": "detlab.pseudo_labels.teacher",
    "detlab.pseudo.treatment": "detlab.pseudo_labels.base",
    "detlab.schedule": "detlab.engine.optim",
    "detlab.testing": "detlab.postprocess.tta",
    "detlab.tracking": "detlab.engine.loggers",
}

# What was renamed besides, by today's module.
MOVED_NAMES = {
    "detlab.pseudo_labels.base.Treatment": "detlab.pseudo_labels.base.PseudoLabelCallback",
}


def modernize(config: Any) -> Any:
    """Return a stored config (nested mappings, lists and plain values) with today's `_target_` paths."""
    if isinstance(config, Mapping):
        return {
            key: modernize_target(value) if key == "_target_" and isinstance(value, str) else modernize(value)
            for key, value in config.items()
        }
    if isinstance(config, list | tuple):
        return [modernize(value) for value in config]
    return config


def modernize_target(target: str) -> str:
    """Return the dotted path by which a part that earlier configs call `target` is imported today."""
    module, _, name = target.rpartition(".")
    if not module:
        return target
    path = f"{MOVED_MODULES.get(module, module)}.{name}"
    return MOVED_NAMES.get(path, path)
