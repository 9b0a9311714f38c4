"""What to do, from `twlab plan` with this machine's numbers. The one module that knows the planner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twlab.diagnose.pools import Pool
from twlab.diagnose.snapshot import Namespace
from twlab.errors import UsageError
from twlab.planner.plan import ORIGIN, PROXY, Demand, make

_LEAST_PER_S = 0.5


@dataclass(frozen=True)
class Advice:
    """The planner's sentences, and the command that gives them again.

    Attributes:
        about: which pool.
        command: `twlab plan` with the numbers.
        lines: a sentence each, the most important first.
    """

    about: str
    command: str
    lines: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"about": self.about, "command": self.command, "lines": list(self.lines)}


def for_pool(pool: Pool, place: Namespace, unmet_per_s: float = 0.0) -> Advice | None:
    """Advice for the rate of `pool`; None where nothing is opened and closed.

    Args:
        unmet_per_s: connects that failed for want of a port, a second, where that is known.
    """
    rate_per_s = pool.joint_per_s + unmet_per_s
    if rate_per_s < _LEAST_PER_S:
        return None
    low, high = place.port_range
    high = low + pool.capacity - 1  # the planner knows no reserved ports: a range that much shorter has as many
    have, asked = pool.timestamps
    timestamps = place.number("tcp_timestamps") != 0 and (have > 0 or not asked)
    closes_first = PROXY if pool.time_wait else ORIGIN
    life_s = min(86_400.0, pool.busy / rate_per_s)
    asked_for: dict[str, Any] = {
        "rate_per_s": round(rate_per_s, 1),
        "port_low": low,
        "port_high": high,
        "time_wait_s": place.time_wait_s,
        "life_s": round(life_s, 3),
        "closes_first": closes_first,
        "timestamps": timestamps,
    }
    try:
        lines = make(Demand(**asked_for)).advice
    except UsageError:
        return None
    command = (
        f"twlab plan --rate {asked_for['rate_per_s']:g} --ports {low}-{high} --time-wait {place.time_wait_s:g} --life {asked_for['life_s']:g} "
        f"--closes-first {closes_first}" + ("" if timestamps else " --no-timestamps")
    )
    return Advice(pool.name, command, tuple(str(line) for line in lines))
