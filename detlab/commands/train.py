"""`detlab train`: train one detector, evaluate it, leave a run folder and its report."""

from __future__ import annotations

from omegaconf import DictConfig

from detlab.config.launch import launch
from detlab.config.training import check, train
from detlab.reporting.pages.run import write_report


def objective(cfg: DictConfig) -> float:
    """Train; what a sweeper that searches maximizes: AP, or a classifier's accuracy, on the validation images."""
    val = train(cfg, report=write_report)["val"]
    return val["AP" if "AP" in val else "accuracy"] or 0.0


def main() -> None:
    launch("train", objective, check)


if __name__ == "__main__":
    main()
