"""Makes untrusted text fit for a table, a terminal and a spreadsheet.

The result is one line, printable, of bounded length."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

_LONGEST = 160
_ADDRESS = re.compile(r"0x[0-9a-f]{6,}")  # of an object in memory: another one each time
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # control characters, and those that turn the direction of writing


def plainly(text: str, longest: int = _LONGEST) -> str:
    """Return one line of printable characters."""
    shown = "".join(
        "\ufffd" if unicodedata.category(character) in _HIDDEN else character
        for character in " ".join(text[: 8 * longest].split())
    )
    shown = _ADDRESS.sub("0x...", shown)
    return shown if len(shown) <= longest else shown[: longest - 3] + "..."


def claimed(answer: Any) -> str:
    """Return an answer as the table shows it."""
    if isinstance(answer, bool):
        return "yes" if answer else "no"
    if isinstance(answer, int):
        return str(answer) if abs(answer) < 10**30 else "a number of more than 30 digits"
    if isinstance(answer, list):
        return plainly(
            ", ".join(claimed(entry) if not isinstance(entry, list | dict) else "..." for entry in answer[:50])
        )
    if isinstance(answer, dict):
        return "a table"
    return plainly(str(answer))


def in_spreadsheet(text: str) -> str:
    """Quote text that a spreadsheet would take for a formula."""
    return (
        f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") and not re.fullmatch(r"[+-]?[0-9.]+", text) else text
    )
