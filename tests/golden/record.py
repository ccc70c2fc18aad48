"""`python -m tests.golden.record [configs] [training] [runs] [all]`: see the README of this folder."""

from __future__ import annotations

import sys

from tests.golden import configs, runs, training

PARTS = {"runs": runs.record, "configs": configs.record, "training": training.record}


def main(words: list[str]) -> None:
    chosen = set(words) or {"configs", "training"}
    if "all" in chosen:
        chosen = set(PARTS)
    if unknown := chosen - set(PARTS):
        raise SystemExit(f"Expected some of {', '.join(PARTS)} or all, got {', '.join(sorted(unknown))}.")
    for part, record in PARTS.items():  # training learns from the runs
        if part in chosen:
            print(f"Recording {part} ...", flush=True)
            record()


if __name__ == "__main__":
    main(sys.argv[1:])
