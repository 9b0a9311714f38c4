"""Finds the highest rate that a configuration sustains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

NEAR = 0.04  # how close to theory is tried first, above and below
_STEPS = 4  # more, where theory does not hold


def find_ceiling(
    fails: Callable[[float, float], bool], *, theory_per_s: float, most_per_s: float, duration_s: float
) -> dict[str, Any]:
    """Find a rate at which no request fails, and one nearby at which one does.

    Args:
        fails: (requests a second, seconds) to whether one failed.
        theory_per_s: where the ceiling is expected.
        most_per_s: the highest rate that is tried.
        duration_s: of each load: long enough for ports to come back.

    Returns:
        ``sustained_per_s`` and ``failing_per_s``, None where there is no such rate; ``trials``, a
        list of [rate, whether one failed].
    """
    trials: list[tuple[float, bool]] = []

    def failing(rate_per_s: float) -> bool:
        trials.append((rate_per_s, fails(rate_per_s, duration_s)))
        return trials[-1][1]

    low: float | None = None
    high: float | None = None
    rate = min(theory_per_s * (1 - NEAR), most_per_s)
    if failing(rate):
        high = rate
    else:
        low = rate
        if rate >= most_per_s:
            return _found(low, None, trials)
        rate = min(theory_per_s * (1 + NEAR), most_per_s)
        if failing(rate):
            return _found(low, rate, trials)
        low = rate
    for _ in range(_STEPS):
        if high is None:
            rate = min((low or rate) * 2, most_per_s)
        elif low is None:
            rate = high / 2
        else:
            rate = (low + high) / 2
        if rate == low:
            break
        if failing(rate):
            high = rate
        else:
            low = rate
    return _found(low, high, trials)


def _found(low: float | None, high: float | None, trials: list[tuple[float, bool]]) -> dict[str, Any]:
    return {"sustained_per_s": low, "failing_per_s": high, "trials": [list(trial) for trial in trials]}
