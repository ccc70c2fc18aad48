"""Images inside a page."""

from __future__ import annotations

import base64


def data_address(content: bytes, kind: str = "image/png") -> str:
    """An image as the address under which a page shows it without other files."""
    return f"data:{kind};base64," + base64.b64encode(content).decode()
