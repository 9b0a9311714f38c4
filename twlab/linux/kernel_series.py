"""Which kernel this is, for predictions that depend on its version."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TypeVar

Value = TypeVar("Value")


def since(values: Mapping[tuple[int, int], Value], release: str = "") -> Value:
    """Return the value of the newest series in `values` that this kernel has reached.

    Args:
        values: series, e.g. ``(6, 12)``, to value; of an older kernel, the oldest series counts.
        release: as uname prints it; empty: of this kernel.
    """
    major, minor = map(int, re.findall(r"\d+", release or os.uname().release)[:2])
    reached = [series for series in values if series <= (major, minor)]
    return values[max(reached, default=min(values))]
