import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import numpy as np
from detlab.data.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        a, b = np.ones(900_000, np.uint8), np.ones(900_000, np.uint8)
        del a, b
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a switch of glibc")
def test_freed_memory_is_used_again_without_page_faults():
    run = [sys.executable, "-c", SCRIPT]
    counts = {mode: int(subprocess.check_output([*run, mode], text=True)) for mode in ("keep", "default")}
    assert counts["keep"] < 50  # at most a page or so per round
    assert counts["default"] > 1000, "the default has become as good: the switch can go"
