"""Training steps with each treatment of missing labels beside the baseline, in alternating runs of one process.

    python experiments/benchmarks/pseudo_step.py [--threads 2] [--rounds 9]

A whole step of `scale=mini` on the merge of scenes: forward, treatment, assignment, losses, backward; one batch of 16
half-labelled pictures, the same for all. Weights are and stay those of the start of a training and the classifier,
of the size that mini scale has, is not trained. With ``pseudo.min_score=0`` the proxy is asked about as many regions as
its cap allows; with ``pseudo.confidence=0`` it looks at each of them and at its copies, which is the most that it can
cost, and with ``=1`` at none of the copies, as at what is background. A training lies between. A ratio is the median
over rounds of the step's time over that of the baseline in the same round.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from training_step import Step, alternate

from detlab.build import build_datamodule, build_module
from detlab.data.scenes.shapes import CLASSES
from detlab.launch import CONFIG_DIR
from detlab.pseudo.classifier import ProxyClassifier, save
from detlab.structures import Batch

SIZES = torch.tensor([[18, 14], [26, 20], [20, 28], [32, 26], [28, 32], [32, 32]])  # of crops, as k-means finds them


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder, initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        classifier = Path(folder) / "h.ckpt"
        save(ProxyClassifier(CLASSES, SIZES, largest=32, width=0.5), classifier)
        for method in ("yolo", "retinanet"):
            compare(method, classifier, args.rounds)


def compare(method: str, classifier: Path, rounds: int) -> None:
    proxy = ["pseudo=proxy", f"pseudo.classifier={classifier}", "pseudo.start=0", "pseudo.min_score=0"]
    four = [*proxy, "pseudo.cap=4"]  # what cap=auto comes to on these data
    ways = {
        "background": ["pseudo=none"],
        "mask": ["pseudo=mask"],
        "soft sampling": ["pseudo=ignore"],
        "proxy, unsure of 4 regions": [*four, "pseudo.confidence=1"],
        "proxy, sure of 4 regions": [*four, "pseudo.confidence=0"],
        "proxy, sure of 20 regions": [*proxy, "pseudo.confidence=0", "pseudo.cap=20"],
    }
    batch: Batch | None = None
    steps = []
    for words in ways.values():
        torch.manual_seed(0)
        cfg: Any = compose("train", [f"method={method}", "data=scenes_split", "data.source.train=64", *words])
        cfg = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
        data = build_datamodule(cfg)
        module = build_module(cfg, data.train_index and data.classes, training=True)
        batch = next(iter(data.train_dataloader())) if batch is None else batch
        steps.append(step_of(module, batch))
    times = alternate(steps, rounds)
    print(f"{method}: {statistics.median(times[0]) * 1000:.0f} ms with all that is unlabelled as background")
    for name, seconds in list(zip(ways, times))[1:]:
        print(f"  {name:<29} {statistics.median(a / b for a, b in zip(seconds, times[0])):.3f} of that")


def step_of(module: Any, batch: Batch) -> Step:
    module.log = module.log_dict = lambda *_, **__: None

    def step() -> None:
        module.detector.zero_grad()
        module.training_step(batch, 0).backward()

    return step


if __name__ == "__main__":
    main()
