"""One training step of two processes is one step of one process with both batches: every loss with every assigner.

But for ranking losses, which rank what a process has: there it is the mean of both processes' steps by their positives.

Run as a script, this file is one of the two processes.
"""

from __future__ import annotations

import subprocess
import sys
from itertools import product

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from detlab.config.instantiate import build_module
from detlab.config.launch import CONFIG_DIR
from detlab.engine.module import LitDetector
from detlab.structures import Batch, Targets

CLASSES = ["a", "b", "c"]
QUALITY = {
    "focal_giou_centerness": "centerness",
    "focal_giou_iou": "iou",
    "paa": "iou",
    "paa_iou_balanced": "iou",
    "paa_centerness": "centerness",
}
YOLO_LOSSES = ["yolo", "yolo_printed"]
OTHERS = [*YOLO_LOSSES, "faster_rcnn"]
LOSSES = sorted(path.stem for path in (CONFIG_DIR / "loss").glob("*.yaml") if path.stem not in OTHERS)
ASSIGNERS = sorted(path.stem for path in (CONFIG_DIR / "assigner").glob("*.yaml"))
# Every loss with one assigner, every assigner with a loss of each kind.
PAIRS = [
    *product(LOSSES, ["max_iou"]),
    *product(["focal_giou", "paa", "alrp_iou"], [name for name in ASSIGNERS if name != "max_iou"]),
    *product(YOLO_LOSSES, ["yolo"]),
    *product(["faster_rcnn"], ["rpn", "atss"]),
]
RANKING = {"ap_l1", "ndcg_l1", "alrp_giou", "alrp_iou", "rank_sort"}
SITUATIONS = ["objects everywhere", "one process without objects", "no objects", "one object", "one process skipped"]
TOY = [
    "backbone.channels=[8,8,16,16,32]", "detector.fpn.out_channels=16", "detector.fpn.levels=[3,4]",
    "detector.head.channels=16", "detector.head.convs=1",
]  # fmt: skip


def module_for(loss: str, assigner: str) -> LitDetector:
    if loss in YOLO_LOSSES:
        detector = ["detector=yolo", "detector.anchors.shapes=[[[16,24],[24,16]],[[32,32],[20,40]]]"]
    elif loss == "faster_rcnn":  # sampling all: what is drawn depends on what else is in a process
        everything = ["loss.samples=100000", "detector.sampler.number=100000"]
        detector = ["method=faster_rcnn", "detector.rpn.train_proposals=50", *everything]
    elif loss == "focal_intervals":
        detector = ["localization=dense_intervals", "detector.intervals.intervals=4"]
    else:
        detector = [f"detector.head.quality={QUALITY.get(loss, 'none')}"]
    words = [f"loss={loss}", f"assigner={assigner}", *detector, *TOY]
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("train", words)
    torch.manual_seed(0)
    return build_module(OmegaConf.create(OmegaConf.to_container(cfg, resolve=True)), CLASSES, training=False)


def batch_for(situation: str, ranks: tuple[int, ...]) -> Batch:
    """The pictures of `ranks` of two, which have every second one of four."""
    images, targets = [], []
    for number in range(4):
        generator = torch.Generator().manual_seed(number)
        image = torch.randn(3, 64, 64, generator=generator)
        count = 2 + number
        corner = torch.rand(count, 2, generator=generator) * 32
        boxes = torch.cat([corner, corner + 12 + 20 * torch.rand(count, 2, generator=generator)], 1)
        labels = torch.randint(3, (count,), generator=generator)
        weights = torch.rand(count, generator=generator) + 0.5
        none = situation == "no objects" or (situation == "one process without objects" and number % 2)
        one = situation == "one object"
        keep = 0 if none or (one and number) else 1 if one else count
        if number % 2 in ranks and not (situation == "one process skipped" and number % 2):
            images.append(image)
            targets.append(Targets.of(boxes[:keep], labels[:keep], 3, weights=weights[:keep]))
    count = len(images)
    return Batch(
        images=torch.stack(images) if images else torch.zeros(0, 3, 32, 32),
        targets=targets,
        sizes=torch.full((count, 2), 64),
        scales=torch.ones(count, 2),
        original_sizes=torch.full((count, 2), 64),
        image_ids=torch.arange(count),
        skipped=2 - count if len(ranks) == 1 else 0,
    )


class Step(nn.Module):
    def __init__(self, module: LitDetector) -> None:
        super().__init__()
        self.module = module

    def forward(self, batch: Batch) -> Tensor:
        loss = self.module.training_step(batch, 0)
        assert loss is not None
        return loss


def step(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """The loss and the gradient of every parameter."""
    model.zero_grad(set_to_none=True)
    loss = model(batch)
    loss.backward()
    parts = model.module if isinstance(model, DistributedDataParallel) else model
    gradients = {name: p.grad.clone() for name, p in parts.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), **gradients}


def main(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    found = {}
    for loss, assigner in PAIRS:
        model = DistributedDataParallel(Step(module_for(loss, assigner)))
        for situation in SITUATIONS:
            found[loss, assigner, situation] = step(model, batch_for(situation, (rank,)))
    torch.save(found, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> list[dict[tuple[str, str, str], dict[str, Tensor]]]:
    """What each of the two processes got in every case."""
    folder = tmp_path_factory.mktemp("step")
    commands = [[sys.executable, __file__, str(rank), str(folder)] for rank in range(2)]
    processes = [subprocess.Popen(command) for command in commands]
    try:
        assert [process.wait(600) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def expected_of(alone: Step, situation: str, ranking: bool) -> dict[str, Tensor]:
    if not ranking:
        return step(alone, batch_for(situation, (0, 1)))
    counts: list[float] = []
    handle = alone.module.criterion.register_forward_pre_hook(  # type: ignore[attr-defined]
        lambda _, arguments: counts.append(float(arguments[0].box_weights.sum()))
    )
    batches = [batch for rank in range(2) if len(batch := batch_for(situation, (rank,)))]
    found = [step(alone, batch) for batch in batches]
    handle.remove()
    total = max(sum(counts), 1e-9)
    return {name: sum(c / total * part[name] for c, part in zip(counts, found, strict=True)) for name in found[0]}  # type: ignore[misc]


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "assigner"), PAIRS)
def test_losses_and_gradients_are_those_of_one_process(found, loss, assigner):
    alone = Step(module_for(loss, assigner))
    for situation in SITUATIONS:
        expected = expected_of(alone, situation, loss in RANKING)
        first, second = (part[loss, assigner, situation] for part in found)
        assert expected.keys() == first.keys()
        torch.testing.assert_close((first.pop("loss") + second.pop("loss")) / 2, expected.pop("loss"))
        assert any(gradient.any() for gradient in expected.values()) or (loss in RANKING and situation == "no objects")
        for name, gradient in expected.items():
            assert torch.equal(first[name], second[name]), f"{situation}: {name}"
            torch.testing.assert_close(first[name], gradient, rtol=1e-4, atol=1e-6)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
