"""Measures the rate of closes from one snapshot, and forecasts a pool at it.

TIME_WAIT's timer dates the close: a socket with 42 s left of 60 s was closed 18 s ago. A late
segment restarts the timer, so such a socket looks younger than it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_WINDOWS_S = (1, 2, 5, 10, 30)
_ENOUGH = 100  # closes in a window, for an error of some 10 %
_EXACT_BELOW_MS = 9_999
_STEPS = 512  # moments that a forecast examines


@dataclass(frozen=True)
class Rate:
    """How often sockets entered TIME_WAIT.

    Attributes:
        recent_per_s: over the last `window_s` seconds.
        average_per_s: over all of TIME_WAIT's length.
        peak_per_s: in the busiest of its seconds.
        quiet_s: since the last close.
        dated: from timers; otherwise from the number of sockets alone, which is right for a steady
            rate.
    """

    recent_per_s: float
    window_s: float
    average_per_s: float
    peak_per_s: float
    quiet_s: float
    dated: bool

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {name: round(value, 3) if isinstance(value, float) else value for name, value in vars(self).items()}


def of_closes(remaining_ms: NDArray[np.int32], time_wait_s: float) -> Rate | None:
    """Measure the rate at which these TIME_WAIT sockets were closed.

    None if there are no sockets.
    """
    if not len(remaining_ms):
        return None
    known = remaining_ms[remaining_ms >= 0]
    steady = len(remaining_ms) / time_wait_s
    if not len(known):
        return Rate(steady, time_wait_s, steady, steady, 0.0, False)
    ages_s = np.clip(time_wait_s - in_full(known) / 1000, 0.0, time_wait_s)
    scale = len(remaining_ms) / len(known)
    whole = math.ceil(time_wait_s)
    bins = np.bincount(ages_s.astype(np.int64), minlength=whole + 1)[: whole + 1]
    for window_s in (*(window for window in _WINDOWS_S if window < time_wait_s), time_wait_s):
        count = int(np.count_nonzero(ages_s < window_s))
        if count >= _ENOUGH or window_s == time_wait_s:
            break
    return Rate(count * scale / window_s, float(window_s), steady, float(bins.max()) * scale, float(ages_s.min()), True)


def in_full(remaining_ms: NDArray[np.int32]) -> NDArray[np.int32]:
    """Round whole seconds up: ss cuts what is above 9 s.

    A socket with "59sec" was closed within the last second.
    """
    long = remaining_ms > _EXACT_BELOW_MS
    if not long.any() or (remaining_ms[long] % 1000).any():
        return remaining_ms
    return np.where(long, remaining_ms + 999, remaining_ms)


@dataclass(frozen=True)
class Forecast:
    """The future of a pool if connections go on at the present rate.

    Attributes:
        full_in_s: seconds until the last port is taken; 0: now; None: never at this rate.
        level: ports in use once it is steady.
        over_in_s: seconds until the first half of the TIME_WAITs has ended, if no further
            connection is opened; None if the pool has no TIME_WAIT.
    """

    full_in_s: float | None
    level: float
    over_in_s: float | None


def forecast(busy: int, remaining_s: NDArray[np.float64], rate_per_s: float, hold_s: float, capacity: int) -> Forecast:
    """Forecast when a pool is full.

    Args:
        busy: ports held by sockets that are not in TIME_WAIT.
        remaining_s: how long each TIME_WAIT still holds its port.
        rate_per_s: of closes.
        hold_s: how long a new TIME_WAIT will hold its port.
        capacity: all ports of the pool.
    """
    level = busy + rate_per_s * hold_s
    ends = np.sort(remaining_s)
    over_in_s = float(ends[len(ends) // 2]) if len(ends) else None  # np.median would import numpy.ma: 10 ms
    if busy + len(remaining_s) >= capacity:
        return Forecast(0.0, level, over_in_s)
    if level < capacity or rate_per_s <= 0:
        return Forecast(None, level, over_in_s)
    moments = np.linspace(0.0, hold_s, _STEPS)
    held = busy + len(ends) - np.searchsorted(ends, moments) + rate_per_s * moments
    full = np.flatnonzero(held >= capacity)
    return Forecast(float(moments[full[0]]) if len(full) else hold_s, level, over_in_s)
