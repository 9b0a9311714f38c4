"""Names of labs and files, from names of tests."""

from __future__ import annotations

import re


def word(text: str) -> str:
    """Return `text` as one word.

    All but letters, digits, ``_`` and ``.`` becomes single hyphens.
    """
    return re.sub(r"[^\w.]+", "-", text).strip("-")
