"""Which pictures a training batch is made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.utils.data.distributed import DistributedSampler


class InfiniteSampler(DistributedSampler[tuple[int, int]]):
    """An endless stream of shuffled passes over `length` pictures, as pairs (position in the stream, index).

    Position p belongs to pass ``p // length``, whose order depends on (seed, pass) only. Batch k of all
    processes covers the positions ``k · world_size · batch_size`` onwards, of which process `rank` takes every
    ``world_size``-th. So batch k is a pure function of (seed, k): training resumes at any batch, and the
    position seeds the augmentation. Each pass holds every picture once; a batch may straddle two passes.

    start_batch: the batch that the next iteration begins with, or a function that tells it then.

    weights: positive, ``[length]``, how often a picture comes beside the others. A pass then holds picture i either
    ⌊n⌋ or ⌈n⌉ times, n = length · wᵢ / Σw, on average over the passes n times (systematic sampling); without weights,
    or where all are equal, once, as ever.

    A DistributedSampler by type, so that Lightning leaves it in its place; without a length, as it has no end.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        start_batch: int | Callable[[], int] = 0,
        weights: Tensor | None = None,
    ) -> None:
        if length < 1 or batch_size < 1:
            raise ValueError(f"Expected at least one picture and a batch size of 1, got {length} and {batch_size}.")
        if not 0 <= rank < world_size:
            raise ValueError(f"Expected a rank in 0..{world_size - 1}, got {rank}.")
        if weights is not None and (
            weights.shape != (length,) or not bool((weights > 0).all() & weights.isfinite().all())
        ):
            raise ValueError(f"Expected {length} weights above 0, got {weights}.")
        super().__init__(range(length), num_replicas=world_size, rank=rank, shuffle=True, seed=seed)  # type: ignore[arg-type]
        self.length, self.batch_size = length, batch_size
        self.start_batch = start_batch
        self.weights = None if weights is None or bool((weights == weights[0]).all()) else weights.double()

    def __iter__(self) -> Iterator[tuple[int, int]]:
        start = self.start_batch() if callable(self.start_batch) else self.start_batch
        position = start * self.batch_size * self.num_replicas + self.rank
        turn, order = -1, torch.empty(0)
        while True:
            if position // self.length != turn:
                turn = position // self.length
                order = self._order(turn)
            yield position, int(order[position % self.length])
            position += self.num_replicas

    def __len__(self) -> int:
        raise TypeError("An endless sampler has no length.")

    def _order(self, turn: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, turn))
        order = torch.randperm(self.length, generator=generator)
        if self.weights is None:
            return order
        # Marks at distance 1, from a random start, on a line on which each picture has a piece as long as it should
        # come on average. Pictures of one weight lie side by side, so that together they get their share in each
        # pass, and among themselves in random order, so that none is rounded up for ever.
        order = order[self.weights[order].argsort(stable=True)]
        ends = self.weights[order].cumsum(0)
        ends = ends / ends[-1] * self.length
        marks = torch.arange(self.length) + torch.rand((), generator=generator, dtype=torch.float64)
        chosen = order[torch.searchsorted(ends, marks, right=True).clamp(max=self.length - 1)]
        return chosen[torch.randperm(self.length, generator=generator)]


class MixedSampler(DistributedSampler[tuple[int, int]]):
    """An endless stream of batches that each hold their share of every part of a data set, as pairs like those of
    `InfiniteSampler`: every part goes through passes of its own.

    parts: (rows int64 ``[N_p]``, share of a batch) of each; see `part_sizes`. Batch k is a pure function of (seed, k)
    here, too, and the pictures of the first part are first in it. The positions of batch k on all processes are
    ``k · world_size · batch_size`` onwards, as ever. The rest as in `InfiniteSampler`; weights are those of all rows.
    """

    def __init__(
        self,
        parts: Sequence[tuple[ArrayLike, float]],
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        start_batch: int | Callable[[], int] = 0,
        weights: Tensor | None = None,
    ) -> None:
        self.rows = [torch.as_tensor(rows, dtype=torch.int64) for rows, _ in parts]
        self.sizes = part_sizes(batch_size, [share for _, share in parts])
        total = sum(map(len, self.rows))
        super().__init__(range(total), num_replicas=world_size, rank=rank, shuffle=True, seed=seed)  # type: ignore[arg-type]
        self.batch_size, self.start_batch = batch_size, start_batch
        self.streams = [
            InfiniteSampler(
                len(rows), size, mixed_seed(seed, part), rank, world_size,
                weights=None if weights is None else weights[rows],
            )
            for part, (rows, size) in enumerate(zip(self.rows, self.sizes, strict=True))
        ]  # fmt: skip

    def __iter__(self) -> Iterator[tuple[int, int]]:
        start = self.start_batch() if callable(self.start_batch) else self.start_batch
        for each in self.streams:
            each.start_batch = start
        streams = [iter(each) for each in self.streams]
        while True:
            before = 0  # positions of a batch that belong to the parts before
            for rows, size, stream in zip(self.rows, self.sizes, streams, strict=True):
                mine = size * self.num_replicas
                for position, row in islice(stream, size):
                    batch, offset = divmod(position, mine)
                    yield batch * self.batch_size * self.num_replicas + before + offset, int(rows[row])
                before += mine

    def __len__(self) -> int:
        raise TypeError("An endless sampler has no length.")


def part_sizes(batch_size: int, shares: Sequence[float]) -> list[int]:
    """How many of a batch's pictures are of each part: its share, rounded, at least one; the first has what is left.

    Raises ValueError for a batch with fewer pictures than there are parts.
    """
    if batch_size < len(shares):
        raise ValueError(f"Expected a batch of at least {len(shares)} pictures, got {batch_size}.")
    left, sizes = batch_size, []
    for part in range(len(shares) - 1, -1, -1):
        sizes.append(left if part == 0 else min(max(round(shares[part] * batch_size), 1), left - part))
        left -= sizes[-1]
    return sizes[::-1]


def shared_batches(length: int, batch_size: int, rank: int = 0, world_size: int = 1) -> list[list[int]]:
    """The batches in which process `rank` evaluates its share of `length` pictures: every `world_size`-th, in order.

    No picture comes twice, and every process has as many batches as the first, so that they meet in each: where the
    pictures do not suffice, the last of a process is smaller or empty.
    """
    mine = range(rank, length, world_size)
    longest = math.ceil(length / world_size)
    return [list(mine[start : start + batch_size]) for start in range(0, longest, batch_size)]


def mixed_seed(seed: int, number: int) -> int:
    """One well-mixed seed in 0…2⁶³−1 from two numbers, the same on every machine (SplitMix64's finaliser)."""
    mask = (1 << 64) - 1
    value = (seed * 0x9E3779B97F4A7C15 + number + 1) & mask
    for _ in range(2):
        value = (value + 0x9E3779B97F4A7C15) & mask
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
        value ^= value >> 31
    return value >> 1
