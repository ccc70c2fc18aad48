from detlab.engine.callbacks.history import HistoryLogger


def test_a_history_read_again_holds_the_very_same_numbers(tmp_path):
    value = 0.025247500000000001 / 3
    first = HistoryLogger(tmp_path / "metrics.csv")
    first.log_metrics({"val/AP": value}, 9)
    first.save()
    assert HistoryLogger(tmp_path / "metrics.csv", resume_at=9).latest("val/") == {"val/AP": value}
