"""detlab: keep everything fixed, swap one thing, and know whether it helps."""

__version__ = "0.1.0"
