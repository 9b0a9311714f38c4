"""Predicts the failures of a steady load whose ports run out.

The load opens `rate_per_s` connections a second, and each keeps its four-tuple for `hold_s`. All
four-tuples are in use after four_tuples / rate seconds. From then on each connect fails until the
first four-tuple comes back, `hold_s` after the load began. They come back at the rate at which they
were taken, so the same follows once in each `hold_s`. Scenarios take predictions for other sizes
than their own from here; the lab measures without it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from twlab.observation import Range

LATE_S = 2.05  # by how much Linux's timers end its own 60 s late at most, at 250 ticks a second
FOUND_TO = 0.02  # how near an edge a rate may be, as a share, before no prediction is made


@dataclass(frozen=True, kw_only=True)
class Shortage:
    """A load and the four-tuples that there are for it.

    Attributes:
        rate_per_s: new connections a second, evenly.
        duration_s: of the load.
        four_tuples: there are.
        hold_s: how long each connection keeps one.
    """

    rate_per_s: float
    duration_s: float
    four_tuples: int
    hold_s: float

    @property
    def first_failure_s(self) -> float:
        """Second in which all four-tuples are in use for the first time."""
        return self.four_tuples / self.rate_per_s

    @property
    def lacking(self) -> float:
        """How many connects in a row find no four-tuple, until the first comes back."""
        return max(0.0, self.rate_per_s * min(self.hold_s, self.duration_s) - self.four_tuples)

    @property
    def late_s(self) -> float:
        """Seconds by which the hold may end late: two for Linux's minute, else hardly any."""
        return LATE_S if self.hold_s == 60 else 0.05

    @property
    def comes(self) -> bool | None:
        """Whether a connect fails; None where the rate is too near the edge to predict."""
        if self.rate_per_s * self.duration_s <= self.four_tuples:
            return False
        if self.rate_per_s * (self.hold_s + self.late_s) <= self.four_tuples * (1 - FOUND_TO):
            return False
        return True if self.rate_per_s * self.hold_s >= self.four_tuples * (1 + FOUND_TO) else None

    def failed(self) -> Range:
        """Predict how many connects fail, where some do."""
        least, most = self._failing_s(self.hold_s), self._failing_s(self.hold_s + self.late_s)
        return Range(math.floor(self.rate_per_s * least * 0.85 - 1), math.ceil(self.rate_per_s * most * 1.15 + 3))

    def _failing_s(self, hold_s: float) -> float:
        """Return for how many seconds of the load connects fail.

        Each four-tuple comes back after `hold_s`.
        """
        turns = range(math.ceil(self.duration_s / hold_s))
        ends = [(self.first_failure_s + turn * hold_s, (turn + 1) * hold_s) for turn in turns]
        return sum(max(0.0, min(last, self.duration_s) - first) for first, last in ends)
