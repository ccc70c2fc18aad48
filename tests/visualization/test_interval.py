from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from detlab.visualization.interval import MARGIN, WIDTH, interval_svg, reach


def parts(text: str) -> dict[str, dict[str, str]]:
    return {element.get("class") or element.tag: element.attrib for element in ET.fromstring(text)}


def test_positions_are_shares_of_the_axis() -> None:
    drawn = parts(interval_svg(2.0, 1.0, 3.0, (-1.0, 3.0), "a <b> & c"))
    inner = WIDTH - 2 * MARGIN
    assert float(drawn["zero"]["x1"]) == pytest.approx(MARGIN + inner / 4)
    assert float(drawn["range"]["x1"]) == pytest.approx(MARGIN + inner / 2)
    assert float(drawn["range"]["x2"]) == pytest.approx(MARGIN + inner)
    assert float(drawn["circle"]["cx"]) == pytest.approx(MARGIN + 3 * inner / 4)
    assert ET.fromstring(interval_svg(2.0, 1.0, 3.0, (-1.0, 3.0), "a <b> & c")).get("aria-label") == "a <b> & c"


def test_one_seed_has_a_dot_and_no_range() -> None:
    assert "range" not in parts(interval_svg(0.5, None, None, (0.0, 1.0)))


def test_the_axis_holds_zero_and_every_value() -> None:
    assert reach([2.0, None, 5.0]) == (0.0, 5.0)
    assert reach([-2.0, 1.0]) == (-2.0, 1.0)
    assert reach([None]) == reach([0.0]) == (-1.0, 1.0)
