"""A student's training step beside its parts: the teacher's look at the unlabelled half, and a step with given labels.

    python experiments/benchmarks/student_step.py [--threads 2] [--rounds 9]

Of `scale=mini` on long-tailed scenes, forward, labels, assignment, losses and backward; one batch of 8 labelled and 8
unlabelled pictures, the same for all. The step with given labels has the boxes that the teacher found as labels of the
second half, so that nothing but the making of pseudo-labels differs. Teacher and student have the weights of the start
of a training. The ratio is the median over rounds of the student's time over the sum of the two in the same round.
"""

from __future__ import annotations

import argparse
import statistics
from copy import deepcopy
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from training_step import alternate

from detlab.config.instantiate import build_datamodule, build_module
from detlab.config.launch import CONFIG_DIR
from detlab.pseudo_labels.base import PseudoLabelCallback
from detlab.pseudo_labels.teacher import unlabelled

METHODS = {
    "Faster R-CNN, intervals": ["method=faster_rcnn", "localization=intervals"],
    "RetinaNet": ["method=retinanet"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        for name, words in METHODS.items():
            compare(name, words, args.rounds)


def compare(name: str, words: list[str], rounds: int) -> None:
    torch.manual_seed(0)
    cfg: Any = compose("train", [*words, "data=scenes_semi", "data.source.train=640", "pseudo=teacher"])
    cfg = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    data = build_datamodule(cfg)
    student = build_module(cfg, data.train_index and data.classes, training=True)
    student.log = student.log_dict = lambda *_, **__: None
    plain = deepcopy(student)
    plain.pseudo_labels = PseudoLabelCallback()
    student.pseudo_labels.teachers = [deepcopy(plain).eval().requires_grad_(False)]
    batch = next(iter(data.train_dataloader()))
    given = student.pseudo_labels.before_forward(batch, 0)  # the same pictures, with the teacher's boxes as labels
    alone = unlabelled(batch.targets)
    assert batch.views is not None
    assert len(batch.views) == int(alone.sum()) == len(batch) // 2

    def look() -> None:
        student.pseudo_labels.detect(batch.views, batch.sizes[alone])

    def supervised() -> None:
        plain.detector.zero_grad()
        plain.training_step(given, 0).backward()

    def whole() -> None:
        student.detector.zero_grad()
        student.training_step(batch, 0).backward()

    times = alternate([whole, supervised, look], rounds)
    seconds = [statistics.median(each) for each in times]
    ratio = statistics.median(w / (s + t) for w, s, t in zip(*times))
    print(
        f"{name}: {seconds[0] * 1000:.0f} ms; with given labels {seconds[1] * 1000:.0f} ms and the teacher "
        f"{seconds[2] * 1000:.0f} ms: {ratio:.3f} of the sum"
    )


if __name__ == "__main__":
    main()
