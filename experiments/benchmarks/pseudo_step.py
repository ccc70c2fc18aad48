"""Training steps with each treatment of missing labels beside the baseline, in alternating runs of one process.

    python experiments/benchmarks/pseudo_step.py [--threads 2] [--rounds 9]
    python experiments/benchmarks/pseudo_step.py --run runs/proxy/table1/proxy/mini/seed=0

A whole step of `scale=mini` on the merge of scenes: forward, treatment, assignment, losses, backward, optimiser. A
ratio is the median over rounds of the step's time over that of the baseline in the same round.

Without a run: one batch of 16 half-labelled pictures, the same for all; weights are and stay those of the start of a
training and the classifier, of the size that mini scale has, is not trained. With ``pseudo.min_score=0`` the proxy is
asked about as many regions as its cap allows; one that is certain of a class looks at each of them and, at a threshold
of 0.8, at both copies, which is the most that it can cost, and one that is certain of background at none of the copies.
A training lies between.

With a finished run of the proxy: its data, a batch after the other, its classifier, and its detector as it was at the
end, when it finds the most; beside the baseline with the same weights.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator
from itertools import cycle, islice, repeat
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from training_step import Step, alternate

from detlab.config.instantiate import build_datamodule, build_module
from detlab.config.launch import CONFIG_DIR
from detlab.data.scenes.shapes import CLASSES
from detlab.proxy_classifier import ProxyClassifier, save
from detlab.structures import Batch

SIZES = torch.tensor([[17, 17], [20, 20]])  # of crops, as k-means finds them


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--run", type=Path, help="folder of a finished run with pseudo=proxy")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.run is not None:
        compare_at_end(args.run, args.rounds)
        return
    with tempfile.TemporaryDirectory() as folder, initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        for method in ("yolo", "retinanet"):
            compare(method, [certain(Path(folder), output) for output in (0, len(CLASSES))], args.rounds)


def certain(folder: Path, output: int) -> str:
    """A classifier that always says the same: a class, or, the last output, none."""
    classifier = ProxyClassifier(CLASSES, SIZES, largest=20, width=0.5)
    torch.nn.init.zeros_(classifier.net.output.weight)
    classifier.net.output.bias.data[output] = 50.0
    path = folder / f"h{output}.ckpt"
    save(classifier, path)
    return f"pseudo.classifier={path}"


def compare(method: str, classifiers: list[str], rounds: int) -> None:
    proxy = ["pseudo=proxy", "pseudo.start=0", "pseudo.min_score=0"]
    sure, rejecting = classifiers
    four = "pseudo.cap=4"  # what cap=auto comes to on these data
    ways = {
        "background": ["pseudo=none"],
        "mask": ["pseudo=mask"],
        "soft sampling": ["pseudo=ignore"],
        "proxy, rejects 4 regions": [*proxy, rejecting, four],
        "proxy, sure of 4 regions": [*proxy, sure, four],
        "proxy, sure of 20 regions": [*proxy, sure, "pseudo.cap=20"],
    }
    batch: Batch | None = None
    steps = []
    for words in ways.values():
        cfg: Any = compose("train", [f"method={method}", "data=scenes_split", "data.source.train=64", *words])
        module, batches = built(OmegaConf.create(OmegaConf.to_container(cfg, resolve=True)))
        batch = next(batches) if batch is None else batch
        steps.append(step_of(module, repeat(batch)))
    times = alternate(steps, rounds)
    print(f"{method}: {statistics.median(times[0]) * 1000:.0f} ms with all that is unlabelled as background")
    for name, seconds in list(zip(ways, times))[1:]:
        print(f"  {name:<29} {ratio(seconds, times[0]):.3f} of that")


def compare_at_end(run: Path, rounds: int) -> None:
    cfg: Any = OmegaConf.load(run / "config.yaml")
    cfg.pseudo.start = 0
    baseline = cfg.copy()
    baseline.pseudo = {"_target_": "detlab.pseudo_labels.none.AllBackground"}
    weights = torch.load(run / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=False)["state_dict"]
    module, batches = built(cfg)
    few = list(islice(batches, 8))
    modules = [built(baseline)[0], module]
    for each in modules:
        each.load_state_dict(weights, strict=False)  # the baseline has no classifier
    times = alternate([step_of(each, cycle(few)) for each in modules], rounds)
    print(f"{run}: {statistics.median(times[0]) * 1000:.0f} ms with all that is unlabelled as background")
    watched = ", ".join(f"{float(count):.1f} {name}" for name, count in module.pseudo_labels.log_metrics.items())
    print(f"  the proxy, {watched} in the last batch: {ratio(times[1], times[0]):.3f} of that")


def built(cfg: Any) -> tuple[Any, Iterator[Batch]]:
    torch.manual_seed(0)
    data = build_datamodule(cfg)
    module = build_module(cfg, data.train_index and data.classes, training=True)
    module.pseudo_labels.prepare(data)
    return module, iter(data.train_dataloader())


def step_of(module: Any, batches: Iterator[Batch]) -> Step:
    module.log = module.log_dict = lambda *_, **__: None
    optimiser = module.schedule.build(module.detector, 16)["optimizer"]
    for group in optimiser.param_groups:
        group["lr"] = 0.0  # weights stay
    parameters = list(module.detector.parameters())

    def step() -> None:
        optimiser.zero_grad()
        module.training_step(next(batches), 0).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 10.0)
        optimiser.step()

    return step


def ratio(seconds: list[float], baseline: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(seconds, baseline))


if __name__ == "__main__":
    main()
