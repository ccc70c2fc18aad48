import math
from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from detlab.data.samplers import InfiniteSampler, MixedSampler, mixed_seed, part_sizes, shared_batches


def take(sampler, count):
    return list(islice(iter(sampler), count))


@pytest.mark.parametrize("length", [1, 2, 7, 16])
def test_each_pass_holds_every_picture_once(length):
    stream = take(InfiniteSampler(length, 4, seed=3), 5 * length)
    assert [position for position, _ in stream] == list(range(5 * length))
    passes = [[index for _, index in stream[i : i + length]] for i in range(0, 5 * length, length)]
    assert all(sorted(order) == list(range(length)) for order in passes)
    assert len(set(map(tuple, passes))) > 1 or length < 3


def test_the_stream_depends_on_the_seed_alone():
    assert take(InfiniteSampler(50, 4, seed=1), 120) == take(InfiniteSampler(50, 8, seed=1), 120)
    assert take(InfiniteSampler(50, 4, seed=1), 50) != take(InfiniteSampler(50, 4, seed=2), 50)


@pytest.mark.parametrize("start", [0, 1, 5, 17])
@pytest.mark.parametrize("world_size", [1, 3])
def test_a_later_start_gives_the_rest_of_the_stream(start, world_size):
    for rank in range(world_size):
        whole = take(InfiniteSampler(10, 4, 0, rank, world_size), 120)
        assert take(InfiniteSampler(10, 4, 0, rank, world_size, start), 40) == whole[4 * start : 4 * start + 40]


def test_ranks_share_the_stream_out():
    alone = take(InfiniteSampler(10, 6, seed=5), 60)
    parts = [take(InfiniteSampler(10, 2, seed=5, rank=rank, world_size=3), 20) for rank in range(3)]
    assert sorted(pair for part in parts for pair in part) == sorted(alone)
    # Batch k of two pictures on three processes is batch k of six pictures on one.
    for k in range(10):
        assert sorted(pair for part in parts for pair in part[2 * k : 2 * k + 2]) == alone[6 * k : 6 * k + 6]


def test_each_iteration_asks_where_to_start():
    seen = 0
    sampler = InfiniteSampler(10, 2, start_batch=lambda: seen)
    first = take(sampler, 8)
    seen = 3
    assert take(sampler, 2) == first[6:]


def test_it_has_no_length_and_neither_has_its_loader():
    sampler = InfiniteSampler(10, 2)
    with pytest.raises(TypeError):
        len(sampler)
    with pytest.raises(TypeError):
        len(DataLoader(list(range(10)), 2, sampler=sampler))


@pytest.mark.parametrize(
    ("length", "size", "ranks"), [(9, 4, 1), (9, 4, 2), (9, 2, 2), (3, 1, 2), (2, 4, 3), (8, 2, 4)]
)
def test_evaluation_is_shared_out(length, size, ranks):
    """Every picture once, in order on each process; as many batches on each, of at most `size` pictures."""
    parts = [shared_batches(length, size, rank, ranks) for rank in range(ranks)]
    shares = [[index for batch in part for index in batch] for part in parts]
    assert sorted(index for share in shares for index in share) == list(range(length))
    assert all(share == sorted(share) for share in shares)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert len({len(part) for part in parts}) == 1
    assert all(len(batch) <= size for part in parts for batch in part)
    assert all(parts[0])


def test_a_process_without_pictures_has_an_empty_batch():
    assert shared_batches(2, 4, 2, 3) == [[]]


@pytest.mark.parametrize("arguments", [(0, 1), (5, 0), (5, 1, 0, 2, 2), (5, 1, 0, -1, 1)])
def test_bad_arguments(arguments):
    with pytest.raises(ValueError, match="Expected"):
        InfiniteSampler(*arguments)


def test_mixed_seeds_do_not_collide():
    seeds = {mixed_seed(seed, number) for seed in range(100) for number in range(200)}
    assert len(seeds) == 20_000
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert mixed_seed(0, 0) == mixed_seed(0, 0)
    bits = [sum(seed >> bit & 1 for seed in seeds) / len(seeds) for bit in range(63)]
    assert 0.48 < min(bits)
    assert max(bits) < 0.52


WEIGHTS = [1.0, 3.0, 1.0, 0.25, 3.0, 1.0, 0.25]


def test_pictures_come_as_often_as_they_weigh():
    weights = torch.tensor(WEIGHTS)
    passes = 400
    stream = take(InfiniteSampler(7, 4, seed=1, weights=weights), 7 * passes)
    assert [position for position, _ in stream] == list(range(7 * passes))
    counts = np.array([np.bincount([i for _, i in stream[k : k + 7]], minlength=7) for k in range(0, 7 * passes, 7)])
    expected = 7 * np.array(WEIGHTS) / sum(WEIGHTS)
    assert (counts >= np.floor(expected)).all()
    assert (counts <= np.ceil(expected)).all()
    assert np.allclose(counts.mean(0), expected, atol=0.08)
    for weight in set(WEIGHTS):  # pictures of one weight have their share in every pass
        together = np.array(WEIGHTS) == weight
        assert (abs(counts[:, together].sum(1) - expected[together].sum()) < 1).all()


def test_a_weighted_stream_depends_on_seed_and_position_alone():
    weights = torch.tensor(WEIGHTS)
    whole = take(InfiniteSampler(7, 4, seed=1, weights=weights), 120)
    assert take(InfiniteSampler(7, 4, seed=1, weights=weights, start_batch=5), 40) == whole[20:60]
    parts = [take(InfiniteSampler(7, 2, 1, rank, 2, weights=weights), 60) for rank in range(2)]
    assert sorted(pair for part in parts for pair in part) == sorted(whole)
    assert take(InfiniteSampler(7, 4, seed=2, weights=weights), 120) != whole


def test_equal_weights_are_none():
    plain = take(InfiniteSampler(7, 4, seed=1), 50)
    assert take(InfiniteSampler(7, 4, seed=1, weights=torch.full((7,), 0.3)), 50) == plain


@pytest.mark.parametrize("weights", [[1.0] * 6, [1.0] * 6 + [0.0], [1.0] * 6 + [math.nan], [1.0] * 6 + [math.inf]])
def test_weights_are_positive_and_one_per_picture(weights):
    with pytest.raises(ValueError, match="Expected 7 weights above 0"):
        InfiniteSampler(7, 4, weights=torch.tensor(weights))


@pytest.mark.parametrize(
    ("size", "shares", "expected"),
    [(16, [0.5, 0.5], [8, 8]), (8, [0.9, 0.1], [7, 1]), (8, [0.01, 0.99], [1, 7]), (5, [0.4, 0.6], [2, 3]),
     (2, [0.1, 0.9], [1, 1]), (6, [0.2, 0.3, 0.5], [1, 2, 3]), (3, [0.0, 0.0, 1.0], [1, 1, 1]), (4, [1.0], [4])],
)  # fmt: skip
def test_a_batch_has_some_of_every_part(size, shares, expected):
    assert part_sizes(size, shares) == expected


def test_a_batch_smaller_than_the_number_of_parts():
    with pytest.raises(ValueError, match="at least 2 pictures, got 1"):
        part_sizes(1, [0.5, 0.5])


ROWS = [[0, 3, 5], [1, 2, 4, 6, 7]]


def mixed(*arguments, **settings):
    return MixedSampler([(ROWS[0], 0.4), (ROWS[1], 0.6)], *arguments, **settings)


def test_each_part_of_a_mixed_stream_passes_through_its_own_pictures():
    stream = take(mixed(5, seed=2), 5 * 30)
    assert [position for position, _ in stream] == list(range(150))
    batches = [[row for _, row in stream[k : k + 5]] for k in range(0, 150, 5)]
    for rows, taken in ((ROWS[0], [b[:2] for b in batches]), (ROWS[1], [b[2:] for b in batches])):
        flat = [row for batch in taken for row in batch]
        passes = [flat[k : k + len(rows)] for k in range(0, len(flat) - len(rows) + 1, len(rows))]
        assert all(sorted(each) == rows for each in passes)
        assert len(set(map(tuple, passes))) > 3


@pytest.mark.parametrize("start", [1, 4])
def test_a_mixed_batch_depends_on_seed_and_number_alone(start):
    whole = take(mixed(5, 2), 60)
    assert take(mixed(5, 2, start_batch=start), 20) == whole[5 * start : 5 * start + 20]
    assert take(mixed(5, 2, start_batch=lambda: start), 5) == whole[5 * start : 5 * start + 5]
    assert take(mixed(5, 3), 60) != whole
    sampler = mixed(5, 2)
    assert take(sampler, 60) == take(sampler, 60) == whole
    with pytest.raises(TypeError):
        len(sampler)


def test_weights_hold_within_the_parts():
    weights = torch.ones(8)
    weights[0] = 4.0
    stream = [row for _, row in take(mixed(5, 1, weights=weights), 5 * 600)]
    counts = np.bincount(stream, minlength=8) / 600
    np.testing.assert_allclose(counts, [4 / 3, *[0.6] * 2, 1 / 3, 0.6, 1 / 3, 0.6, 0.6], atol=0.06)
