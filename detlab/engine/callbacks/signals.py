"""What a signal to end does to one of several processes."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from lightning import Callback


class Signals(Callback):
    """SIGTERM ends this process as Ctrl-C would, or does what was arranged for before.

    Lightning's own handler, which this replaces, broadcasts the news from within the signal: processes that got none
    take that for the reduction they are in, and hang.
    """

    def __init__(self) -> None:
        self.before = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, *args: Any) -> None:  # noqa: ARG002
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _interrupt if self.before is signal.SIG_DFL else self.before)

    def on_test_start(self, *args: Any) -> None:
        self.on_train_start(*args)


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise KeyboardInterrupt
