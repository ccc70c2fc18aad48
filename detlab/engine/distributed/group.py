"""The processes that train one detector: started, told to begin, watched, and ended together."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NoReturn

import torch
from torch import distributed as dist

from detlab.engine.distributed.place import OWN, Place, find_meeting
from detlab.errors import ElsewhereError, UserError

LOOK_EVERY = 0.5  # seconds between looks at the other processes
GRACE = 10.0  # seconds that a process has to end by itself once another has failed
PATIENCE = timedelta(minutes=5)  # for processes that were started together to find each other
AGAIN = "start the same command again to go on from the last checkpoint"


class Group:
    """The processes of a run, as one of them sees them. The first leads: it decides and writes; the others follow.

    They share a store of a few words, hosted by the first (or by torchrun): ``word``, how to begin or that there is
    nothing to do; ``failed``, the sentence of the first to fail; ``here`` and ``left``, how many followers there are.
    A thread of each process looks at it, so that none waits for ever for one that is gone: not in a reduction on a
    GPU, which cannot be interrupted, either. A process that is stuck after another's failure is ended by its thread;
    `on_stuck` is called with the reason before.

    For one process that stands alone nothing of this exists. Use it as a context.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.on_stuck: Callable[[Exception], None] = lambda _: None
        self._children: list[subprocess.Popen[bytes]] = []
        self._store: Any = None
        self._told = place.size == 1
        self._closed = threading.Event()

    @property
    def leads(self) -> bool:
        return self.place.rank == 0

    def __enter__(self) -> Group:
        if self.place.size > 1:
            if self.place.starter == "detlab" and os.getppid() != int(os.environ[OWN].split("/")[3]):
                os._exit(1)  # the leader is gone already
            meeting = find_meeting(self.place)
            self._open(meeting.host, meeting.port, host_it=meeting.hosted and self.leads)
            self._watch()
        return self

    def start(self, size: int, follow: str) -> None:
        """Start the processes that a run of `size` lacks; each runs the Python statement `follow`."""
        if size == self.place.size:
            return
        assert self.place.size == 1, "processes are started once"
        self.place, self._told = Place(size=size, starter="detlab"), False
        self._open("127.0.0.1", 0, host_it=True)
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        environment = {**os.environ, "PYTHONPATH": paths, "TORCH_CPP_LOG_LEVEL": "ERROR"}
        for rank in range(1, size):
            environment[OWN] = f"{rank}/{size}/{self._port}/{os.getpid()}"
            # A session of its own: Ctrl-C reaches the leader alone, which ends the others with all their workers.
            child = subprocess.Popen(
                [sys.executable, "-P", "-c", follow],
                env=environment,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
            self._children.append(child)
        self._watch()

    def tell(self, word: dict[str, Any]) -> None:
        """Give the followers the word to begin, with what the leader has decided (plain values)."""
        if not self._told:
            self._told = True
            self._store.set("word", json.dumps(word))

    def join(self, trainer: Any) -> None:
        """Open the process group that gradients and metrics are reduced in; Lightning finds it there."""
        from lightning.pytorch.strategies import DDPStrategy

        if not isinstance(trainer.strategy, DDPStrategy):
            return
        device = trainer.strategy.root_device
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            store=dist.HashStore() if self._store is None else dist.PrefixStore("group", self._store),
            rank=self.place.rank,
            world_size=self.place.size,
            timeout=trainer.strategy._timeout,
            device_id=device if device.type == "cuda" else None,
        )

    def follow(self, run: Callable[[dict[str, Any]], None]) -> NoReturn:
        """As a follower: wait for the leader's word, `run` it in silence, and end this process.

        What ends `run` is told to the leader, whose matter it is to say it.
        """
        silence()
        if self.place.starter == "detlab":  # the leader hears signals for all
            for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"):
                signal.signal(getattr(signal, name), signal.SIG_IGN)
        status = 1
        try:
            self._store.add("here", 1)
            self._store.wait(["word"], timedelta(days=7))
            word = json.loads(self._store.get("word"))
            if "stop" not in word:
                run(word)
            status = word.get("stop", 0)
        except Exception as error:
            with contextlib.suppress(dist.DistError):  # without the store there is no one to tell
                self._report(error)
        finally:
            self.close(failed=status != 0)
        raise SystemExit(status)

    def reason(self, error: Exception) -> Exception:
        """Why the run ends: `error`, or the failure of another process that brought it about."""
        if self._store is None or not lost_contact(error):
            return error
        found = self._failure(wait=GRACE / 2)
        first = str(error).strip().splitlines()[:1]
        return UserError(found or f"The contact to another process was lost ({''.join(first)}); {AGAIN}.")

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.close(failed=error is not None)

    def close(self, failed: bool) -> None:
        """Leave the group: the leader with all others ended."""
        if self._closed.is_set():
            return
        if dist.is_initialized() and not (failed and dist.get_backend() == "nccl"):  # which would wait for the others
            dist.destroy_process_group()
        if self._store is not None:
            with contextlib.suppress(dist.DistError):
                self._say_goodbye(failed)
        self._closed.set()
        self._end_children()
        self._store = None

    def _say_goodbye(self, failed: bool) -> None:
        if not self.leads:
            self._store.add("left", 1)
            return
        told = self._told
        self.tell({"stop": int(failed)})
        if failed and (told or self._children):
            self._store.compare_set("failed", "", "The first process has ended.")
            return
        # The store must outlive those who have not read it yet.
        deadline = time.monotonic() + PATIENCE.total_seconds()
        while self._store.add("left", 0) < self.place.size - 1 and time.monotonic() < deadline:
            if self._failure():
                return
            time.sleep(0.05)

    def _open(self, host: str, port: int, host_it: bool) -> None:
        self._store = dist.TCPStore(host, port, None, host_it, timeout=PATIENCE, wait_for_workers=False)
        self._port = self._store.port

    def _watch(self) -> None:
        """Look at the others from now on, over a connection of its own: the other one may be waiting."""
        store = self._store.clone()
        threading.Thread(target=self._look, args=(store,), daemon=True, name="detlab-processes").start()

    def _look(self, store: Any) -> None:
        while not self._closed.wait(LOOK_EVERY):
            try:
                for rank, child in enumerate(self._children, 1):
                    if child.poll():
                        store.compare_set("failed", "", f"Process {rank + 1} of {self.place.size} {_end_of(child)}.")
                failed = _read(store, "failed")
            except dist.DistError:  # the leader is gone and the store with it
                failed = "The first process has ended."
            if failed and not self._closed.wait(GRACE if self.leads else 0):
                self._give_up(UserError(failed))

    def _give_up(self, error: Exception) -> NoReturn:
        """End this process, whose main thread waits for one that will not come."""
        if self.leads:
            self.on_stuck(error)
            self._end_children()
            print(f"detlab: {error}", file=sys.stderr, flush=True)
        elif self.place.starter == "detlab":
            os.killpg(0, signal.SIGKILL)  # with the loaders' workers
        os._exit(1)

    def _report(self, error: Exception) -> None:
        """Tell the leader what ended this follower, unless that is another's doing."""
        if lost_contact(error) and self._failure(wait=GRACE):
            return
        sentence = str(error)
        if not isinstance(error, UserError):
            traceback.print_exception(error)
            sys.stderr.flush()
            sentence = f"Process {self.place.rank + 1} of {self.place.size} failed with {error!r}, see above."
        self._store.compare_set("failed", "", sentence)

    def _failure(self, wait: float = 0.0) -> str:
        """The sentence of the first process to fail, waited for `wait` seconds; empty if there is none."""
        deadline = time.monotonic() + wait
        while True:
            found = _read(self._store, "failed")
            if found or time.monotonic() >= deadline:
                return found
            time.sleep(0.05)

    def _end_children(self) -> None:
        """Those still there are stuck or no longer needed; they write nothing, so that they can end anywhere."""
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        self._children = []


def silence() -> None:
    """Nothing of this process's log and warnings is shown."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")


def lost_contact(error: BaseException) -> bool:
    """Whether `error` tells of another process, which has ended or failed, and not of this one."""
    if isinstance(error, ElsewhereError | dist.DistError):
        return True
    return isinstance(error, RuntimeError) and bool(re.search(r"gloo|nccl|Connection (closed|reset)", str(error), re.I))


def _read(store: Any, key: str) -> str:
    return store.get(key).decode() if store.check([key]) else ""


def _end_of(child: subprocess.Popen[bytes]) -> str:
    if child.returncode > 0:
        return f"ended with status {child.returncode}; {AGAIN}"
    name = signal.Signals(-child.returncode).name
    memory = " (out of memory?)" if name == "SIGKILL" else ""
    return f"was ended by {name}{memory}; {AGAIN}"
