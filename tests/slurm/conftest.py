"""These tests need a running Slurm: `make test-slurm` starts one and lets them be collected."""

from __future__ import annotations

import os

collect_ignore_glob = [] if "DETLAB_SLURM" in os.environ else ["test_*.py"]
