from __future__ import annotations

import io
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from detlab.visualization import png_bytes, pr_curves, svg_text
from detlab.visualization.style import colour, rgb

CURVES = {"a <b> & c": (np.linspace(0, 1, 11), np.linspace(1, 0, 11))}


def test_png_of_array_and_figure() -> None:
    image = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    assert (np.asarray(Image.open(io.BytesIO(png_bytes(image)))) == image).all()
    assert Image.open(io.BytesIO(png_bytes(pr_curves(CURVES), dpi=50))).size == (380, 210)


def test_svg_is_well_formed_and_stands_in_a_page() -> None:
    first, second = svg_text(pr_curves(CURVES), "one"), svg_text(pr_curves(CURVES), "two")
    root = ET.fromstring(first)
    assert root.get("width") == "100%"
    assert "height" not in root.attrib
    assert "currentColor" in first
    assert "var(--c0072b2, #0072b2)" in first
    assert "a <b> & c" in "".join(ET.parse(io.StringIO(first)).getroot().itertext())

    def ids(text: str) -> set[str]:
        return {element.get("id", "") for element in ET.fromstring(text).iter()} - {""}

    assert not ids(first) & ids(second)
    for text in (first, second):  # every clip path that is used is there
        used = {part.split(")")[0] for part in text.split("url(#")[1:]}
        assert used
        assert used <= ids(text)


def test_colours_differ_for_eighty_classes() -> None:
    shades = [rgb(colour(k)) for k in range(80)]
    assert len(set(shades)) == 80
    assert all(0 <= part <= 255 for shade in shades for part in shade)


@pytest.mark.slow
def test_importing_figures_loads_neither_matplotlib_nor_torch() -> None:
    heavy = "{'matplotlib', 'torch'}"
    code = f"import sys, detlab.visualization, detlab.commands.report; print({heavy} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
