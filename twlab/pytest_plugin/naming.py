"""Names of labs and files, from names of tests."""

from __future__ import annotations

import re


def word(text: str) -> str:
    """Return `text` with everything but letters, digits, ``_`` and ``.`` as single hyphens."""
    return re.sub(r"[^\w.]+", "-", text).strip("-")
