"""The one exception that means "the user can mend this"; entry points print it without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Bad input. The message is one clear sentence naming the file, the record and the mend."""


class ElsewhereError(UserError):
    """Another process of the run has failed; its own sentence says why."""


def nearest(word: str, options: Iterable[str]) -> str:
    """Return `` (did you mean 'x' or 'y'?)`` for the options close to `word`, or all of them if few, or ``""``."""
    choices = sorted({str(option) for option in options})
    close = difflib.get_close_matches(word, choices, n=3, cutoff=0.5)
    if close:
        return " (did you mean " + " or ".join(f"'{c}'" for c in close) + "?)"
    if 0 < len(choices) <= 12:
        return " (valid: " + ", ".join(choices) + ")"
    return ""
