from __future__ import annotations

import multiprocessing
from pathlib import Path

import torch
from torch import distributed as dist

from detlab.losses.normalizer import reduce_mean


def test_one_process_keeps_its_value_without_gradient() -> None:
    value = torch.tensor(3.0, requires_grad=True)
    assert reduce_mean(value).item() == 3
    assert not reduce_mean(value).requires_grad


def _worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    value = torch.tensor(float(1 + 4 * rank))
    mean = reduce_mean(value)
    Path(folder, f"{rank}.txt").write_text(f"{mean.item()} {value.item()}")
    dist.destroy_process_group()


def test_two_processes_agree_on_the_mean(tmp_path: Path) -> None:
    """Ranks hold 1 and 5; the mean is 3 and their own tensors stay as they were."""
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_worker, args=(rank, str(tmp_path))) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert (tmp_path / "0.txt").read_text() == "3.0 1.0"
    assert (tmp_path / "1.txt").read_text() == "3.0 5.0"
