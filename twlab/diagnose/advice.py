"""Asks the planner what to do, with this machine's numbers.

This is the one module that knows `twlab.planner.plan`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from twlab.diagnose.pool import FULL, Measured, Pool
from twlab.diagnose.snapshot import Namespace
from twlab.errors import UsageError
from twlab.planner.plan import Demand, make

_LEAST_PER_S = 0.5
_OPTIONS = {  # of twlab plan, for each field of a demand
    "rate_per_s": "--rate",
    "origins": "--origins",
    "reserved": "--reserved",
    "choice": "--choice",
    "neighbour_per_s": "--neighbour",
    "time_wait_s": "--time-wait",
    "tw_reuse": "--tw-reuse",
    "life_s": "--life",
    "closes_first": "--closes-first",
}


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
        """Return JSON values."""
        return {"about": self.about, "command": self.command, "lines": list(self.lines)}


def for_pool(pool: Pool, measured: Measured, place: Namespace) -> Advice | None:
    """Advise for the rate of `pool`; None if it opens and closes nothing."""
    rate_per_s = pool.joint_per_s
    if pool.fill >= FULL and pool.rate:  # nothing can be opened, so nothing is closed: take the peak rate
        rate_per_s = max(rate_per_s, pool.sharers * pool.rate.peak_per_s)
    if rate_per_s < _LEAST_PER_S:
        return None
    taken = {spec.name for spec in fields(Demand)}
    asked = {name: value for name, value in _numbers(pool, measured, place, rate_per_s).items() if name in taken}
    if "reserved" not in taken:  # a planner that knows no reserved ports: shorten the range by their number
        asked["port_high"] = asked["port_low"] + pool.capacity - 1
    if "choice" not in taken and pool.binds:  # its origins share one range, as if there were one origin
        asked["origins"] = 1
    try:
        lines = [str(line) for line in make(Demand(**asked)).advice]
    except UsageError:
        return None
    if pool.binds and "choice" not in taken:
        lines = [line for line in lines if ": tcp_tw_reuse=1" not in line]
        option = "First of all: IP_BIND_ADDRESS_NO_PORT."
        lines[1:1] = [f"{option} Without it tcp_tw_reuse does nothing, and more destinations give no port."]
    return Advice(pool.name, _command(asked), tuple(lines))


def _numbers(pool: Pool, measured: Measured, place: Namespace, rate_per_s: float) -> dict[str, Any]:
    """Return all numbers of the pool that a planner may ask for."""
    low, high = place.port_range
    have, sampled = pool.timestamps if pool.timestamps[1] else pool.peer_timestamps
    # An assumed setting that the ports belie is not assumed any more.
    reuse = 0 if pool.reuse_doubted and place.number("tcp_tw_reuse") is None else place.tw_reuse
    neighbours = [other for other in measured.pools if other.binds and other.source == pool.source]
    return {
        "rate_per_s": round(rate_per_s, 1),
        "origins": pool.sharers,
        "port_low": low,
        "port_high": high,
        "reserved": place.settings.get("net.ipv4.ip_local_reserved_ports", ""),
        "choice": "bind" if pool.binds else "connect",
        "neighbour_per_s": 0.0 if pool.binds else round(sum(other.rate_per_s for other in neighbours), 1),
        "time_wait_s": place.time_wait_s,
        "tw_reuse": min(reuse, 2),
        "loopback": pool.loopback,
        "life_s": round(min(86_400.0, pool.joint_open / rate_per_s), 3),
        "closes_first": "proxy" if pool.time_wait else "origin",
        "timestamps": place.number("tcp_timestamps") != 0 and (have > 0 or not sampled),
    }


def _command(asked: dict[str, Any]) -> str:
    """Return the words of `twlab plan` that ask the same."""
    defaults = {spec.name: spec.default for spec in fields(Demand)}
    words = ["twlab plan", f"--ports {asked['port_low']}-{asked['port_high']}"]
    words += [
        f"{option} {asked[name]:g}" if isinstance(asked[name], float) else f"{option} {asked[name]}"
        for name, option in _OPTIONS.items()
        if name in asked and (asked[name] != defaults[name] or name == "rate_per_s")
    ]
    words += ["--loopback"] if asked.get("loopback") else []
    words += [] if asked["timestamps"] else ["--no-timestamps"]
    return " ".join(words)
