"""Reads numbers as people write them to twlab: digits 0 to 9. Pure.

Python's own `int` and `float` also take the digits of other scripts, underscores between digits,
and blanks around them. A value that one part of the lab takes and another refuses is a trap, so
every part reads numbers here.
"""

from __future__ import annotations

import re

_WHOLE = re.compile(r"[+-]?[0-9]+")
_REAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|[+-]?(inf|nan)", re.IGNORECASE)
_MOST_DIGITS = 4000  # Python refuses to read more than 4300


def whole(text: str) -> int:
    """Return the whole number that `text` stands for.

    Raises:
        ValueError: `text` is not a whole number.
    """
    if not _WHOLE.fullmatch(text) or len(text) > _MOST_DIGITS:
        raise ValueError(f"{text[:40]!r} is no whole number of digits 0 to 9")
    return int(text)


def real(text: str) -> float:
    """Return the number that `text` stands for, with a decimal point or without.

    Raises:
        ValueError: `text` is not a number.
    """
    if not _REAL.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is no number of digits 0 to 9")
    return float(text)


def is_whole(text: str) -> bool:
    """Return whether `text` is a whole number without a sign, of digits 0 to 9."""
    return text.isascii() and text.isdecimal()
