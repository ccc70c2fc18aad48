from __future__ import annotations

from pathlib import Path

import numpy as np

from detlab.reporting.history import read_history

HISTORY = "step,train/loss,train/loss_box,lr,val/AP\n0,3.0,2.0,0.1,\n10,2.0,1.0,0.1,\n10,,,,0.25\n"


def test_history(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    assert read_history(path) == {}
    path.write_text(HISTORY + "20,1.0,0.")  # cut off while it was written
    history = read_history(path)
    assert list(history) == ["step", "train/loss", "train/loss_box", "lr", "val/AP"]
    assert history["step"].tolist() == [0, 10, 10]
    assert np.isnan(history["val/AP"]).tolist() == [True, True, False]
