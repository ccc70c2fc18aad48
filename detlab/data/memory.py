"""Keep freed memory for the next picture instead of handing it back to the kernel."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc, malloc.h
_LARGEST_MMAP_THRESHOLD = 32 * 2**20  # glibc refuses more


def keep_freed_memory(size: int = 256 * 2**20) -> bool:
    """Let this process keep up to `size` bytes that it has freed; False where the C library has no such switch.

    By default glibc returns a freed picture at once, and the kernel clears each of its pages again when the next
    one is decoded: more than half of the time that decoding takes.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD) and mallopt(_M_TRIM_THRESHOLD, size))
