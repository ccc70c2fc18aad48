from __future__ import annotations

import pytest

from detlab.visualization.axes import log_values
from detlab.visualization.output import svg_text
from detlab.visualization.style import house_style, new_figure


@pytest.mark.parametrize(("values", "written"), [([0.05, 400], ["0.1", "1", "10", "100"]), ([2, 7], ["2", "5"])])
def test_ticks_are_plain_numbers(values, written) -> None:
    with house_style():
        figure, (axes,) = new_figure(4, 3)
        axes.plot([0, 1], values)
        log_values(axes)
    text = svg_text(figure, "x")
    assert "mathdefault" not in text
    assert axes.get_yscale() == "log"
    for number in written:
        assert f">{number}<" in text
