"""The processes that load pictures."""

from __future__ import annotations

import multiprocessing
import signal

import cv2
import torch

from detlab.data.memory import keep_freed_memory


def worker_context(workers: int) -> str | None:
    """How a `DataLoader` starts its workers, for its `multiprocessing_context`: None as is usual.

    A run that joblib has started would start them in joblib's way, which `DataLoader` cannot
    ("'Process' object has no attribute 'env'"): there, in the way of the platform.
    """
    if not workers or multiprocessing.get_start_method(allow_none=True) != "loky":
        return None
    return multiprocessing.get_all_start_methods()[0]


def init_worker(worker: int) -> None:  # noqa: ARG001
    """One thread per worker, and none of the signal handlers that a fork takes over from the training process.

    Ctrl-C and a scheduler's signals reach every process of the job: it is for the training process to react to
    them, with its workers still alive. SIGTERM stays, a loader ends its workers with it.
    """
    keep_freed_memory()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for name in ("SIGINT", "SIGUSR1", "SIGUSR2"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
