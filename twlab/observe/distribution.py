"""Collects any number of values in little memory, in bins of equal ratio.

Percentiles are within 1 %. Distributions can be added up.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np

from twlab.observe.packets import Array

RATIO = 1.02  # of a bin's bounds
LEAST = 1e-6  # bin 0 holds everything below


class Distribution:
    """A distribution of positive values, in seconds.

    Attributes:
        bins: bin k > 0 counts values from ``LEAST * RATIO ** (k - 1)`` up to ``LEAST * RATIO **
            k``; bin 0 counts the values below.
        low, high: the exact extremes; nan while it is empty.
    """

    def __init__(self) -> None:
        self.bins: Counter[int] = Counter()
        self.low = self.high = math.nan

    def __len__(self) -> int:
        return sum(self.bins.values())

    def add(self, values: Array) -> None:
        """Add `values`."""
        if not len(values):
            return
        numbers = np.ceil(np.log(np.maximum(values, LEAST) / LEAST) / math.log(RATIO) - 1e-9).astype(np.int64)
        for number, count in zip(*np.unique(numbers, return_counts=True), strict=True):
            self.bins[int(number)] += int(count)
        self._extend(float(np.min(values)), float(np.max(values)))

    def _extend(self, low: float, high: float) -> None:
        self.low = low if math.isnan(self.low) else min(self.low, low)
        self.high = high if math.isnan(self.high) else max(self.high, high)

    def quantile(self, share: float) -> float:
        """Return the value that `share` of all values do not exceed.

        It is within 1 %; nan if there are no values.
        """
        wanted, reached = share * len(self), 0
        for number in sorted(self.bins):
            reached += self.bins[number]
            if reached >= wanted:
                middle = LEAST * RATIO ** (number - 0.5) if number else LEAST
                return min(max(middle, self.low), self.high)
        return math.nan

    def beyond(self, value: float) -> int:
        """Count the values larger than `value`, within 1 % of it."""
        edge = math.ceil(math.log(max(value, LEAST) / LEAST) / math.log(RATIO) - 1e-9)
        return sum(count for number, count in self.bins.items() if number > edge)

    def merge(self, other: Distribution) -> None:
        """Add all values of `other`."""
        self.bins.update(other.bins)
        if len(other):
            self._extend(other.low, other.high)

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values.

        ``{"n", "min", "p50", "p90", "p99", "max", "bins"}``, with the bins as ``{number: count}``;
        only ``n`` if the distribution is empty.
        """
        if not self.bins:
            return {"n": 0}
        named = {f"p{round(share * 100)}": _short(self.quantile(share)) for share in (0.5, 0.9, 0.99)}
        bins = {str(number): self.bins[number] for number in sorted(self.bins)}
        return {"n": len(self), "min": _short(self.low), **named, "max": _short(self.high), "bins": bins}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Distribution:
        """Restore the distribution that `as_dict` described.

        Raises:
            ValueError, KeyError, TypeError: `values` describe no distribution.
        """
        made = cls()
        for number, count in values.get("bins", {}).items():
            if not 0 <= int(number) <= 10_000 or not isinstance(count, int) or count < 0:
                raise ValueError(f"bin {number!r} cannot hold {count!r}")
            made.bins[int(number)] = count
        if made.bins:
            made.low, made.high = float(values["min"]), float(values["max"])
        if len(made) != values["n"]:
            raise ValueError(f"n is {values['n']!r}, and the bins hold {len(made)}")
        return made


def _short(value: float) -> float:
    return float(f"{value:.6g}")
