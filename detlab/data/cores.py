"""How many processor cores this process may keep busy."""

from __future__ import annotations

import multiprocessing
import os


def cores(processes: int = 1) -> int:
    """The share of this process, at least 1, of the cores of the machine.

    Where a scheduler has shared them out, what it gave: `cpus_per_task` of a Slurm step, or the threads that joblib
    allots to each of its workers. Else the cores that the process is bound to, over `processes` of its kind.
    """
    given = None
    if "SLURM_STEP_ID" in os.environ:
        given = os.environ.get("SLURM_CPUS_PER_TASK")
    elif multiprocessing.current_process().name.startswith("LokyProcess"):
        given = os.environ.get("OMP_NUM_THREADS")
    if given and given.isdecimal():
        return max(int(given), 1)
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(bound // processes, 1)
