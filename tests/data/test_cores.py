"""A process keeps to its share of the machine."""

from __future__ import annotations

import multiprocessing
import os

import pytest

from detlab.data.cores import cores


@pytest.fixture
def alone(monkeypatch):
    """No scheduler, eight cores."""
    for name in ("SLURM_STEP_ID", "SLURM_CPUS_PER_TASK", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)  # noqa: ARG005
    return monkeypatch


@pytest.mark.usefixtures("alone")
def test_bound_cores_are_shared_among_the_processes():
    assert [cores(n) for n in (1, 2, 3, 8, 20)] == [8, 4, 2, 1, 1]


def test_slurm_says_how_many(alone):
    alone.setenv("SLURM_CPUS_PER_TASK", "3")
    assert cores(2) == 4  # a shell on a node, not a step of a job
    alone.setenv("SLURM_STEP_ID", "0")
    assert cores(2) == 3
    alone.setenv("SLURM_CPUS_PER_TASK", "")
    assert cores(2) == 4


def test_a_worker_of_joblib_has_its_threads(alone):
    alone.setenv("OMP_NUM_THREADS", "1")
    assert cores() == 8  # the user's own wish for one thread says nothing of loaders
    alone.setattr(multiprocessing.current_process(), "_name", "LokyProcess-3")
    assert cores() == 1
