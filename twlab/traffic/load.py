"""A load of new connections, and the counts of its outcome. Pure.

`twlab.traffic.load_client` puts it on a node. A load is open-loop: the times of arrival are fixed
beforehand, and no arrival waits for an earlier connection. So a server or a range of ports that
cannot keep up shows as failures, and not as a client that slows down.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from twlab.errors import UsageError
from twlab.ports import LINUX_PORTS, PortChoice

_MOST_SAMPLES = 20_000  # connect times kept of one second


@dataclass(frozen=True, kw_only=True)
class Load:
    """The connections to open: how often, where to, and how each ends.

    Attributes:
        rate_per_s: requests that arrive in a second, evenly; each takes a new connection unless
            `requests_per_connection` is above 1. ``math.inf``: as many at a time as `most_open`
            allows, always (a closed loop, for benchmarks).
        duration_s: seconds in which they arrive.
        targets: (address, port) to connect to, in turn; IPv4 or IPv6.
        sources: local addresses to connect from, in turn; empty: the kernel chooses.
        ports: see `PortChoice`.
        port_range: first and last port, for EXPLICIT and RANGE.
        reuse_address: SO_REUSEADDR.
        linger_0: SO_LINGER with 0 s: the opener's close sends RST, and leaves no TIME_WAIT.
        opener_closes: the opener closes first, and has the TIME_WAIT; False: it waits for the other
            end to close.
        request: bytes sent in each request; empty: the connection is opened and closed.
        response_bytes: bytes awaited in answer to each request; 0 with a request: all until the
            other end closes.
        requests_per_connection: above 1, a connection is kept for the next request, and closed
            after this number.
        tick_s: length of a tick in seconds; the arrivals of one tick are opened together.
        patience_s: seconds after which a connection that is not done is given up; it counts as
            failed with ETIMEDOUT.
        most_open: connections open at a time; further arrivals wait, and
            `LoadCounts.worst_late_s` says how long.
        to_first_failure: the first failure ends the load; of the arrivals of its tick, those after it
            are not tried.
        timed: measure each connect, at the price of two more readings of the clock (which are
            system calls in the lab kernel).

    Raises:
        UsageError: a rate, duration or number is out of range (``bad-load``).
    """

    rate_per_s: float
    duration_s: float
    targets: Sequence[tuple[str, int]]
    sources: Sequence[str] = ()
    ports: PortChoice = PortChoice.CONNECT
    port_range: tuple[int, int] = LINUX_PORTS
    reuse_address: bool = False
    linger_0: bool = False
    opener_closes: bool = True
    request: bytes = b""
    response_bytes: int = 0
    requests_per_connection: int = 1
    tick_s: float = 0.01
    patience_s: float = 10.0
    most_open: int = 1000
    to_first_failure: bool = False
    timed: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "ports", PortChoice(self.ports))
        low, high = self.port_range
        faults = {
            "rate_per_s is a number above 0": not self.rate_per_s > 0,
            "duration_s is a finite number above 0": not 0 < self.duration_s < math.inf,
            "there is at least one target": not self.targets,
            "port_range is a first and a last port": not 1 <= low <= high <= 65535,
            "requests_per_connection, tick_s, patience_s and most_open are above 0": min(
                self.requests_per_connection, self.tick_s, self.patience_s, self.most_open
            )
            <= 0,
            "connections are kept only if each request has a request and a response of known length": (
                self.requests_per_connection > 1 and not (self.request and self.response_bytes)
            ),
        }
        if wrong := next((rule for rule, broken in faults.items() if broken), ""):
            raise UsageError(f"this load of connections is not possible: {wrong}", slug="bad-load")

    @property
    def total(self) -> float:
        """Requests that arrive in all; infinite for a closed loop."""
        return math.ceil(self.rate_per_s * self.duration_s) if self.rate_per_s < math.inf else math.inf

    def arrived(self, elapsed_s: float) -> float:
        """Return the requests that have arrived after `elapsed_s`, the first one at 0."""
        return min(math.floor(elapsed_s * self.rate_per_s) + 1, self.total) if self.rate_per_s < math.inf else math.inf


@dataclass
class Second:
    """One second of a load.

    Attributes:
        at_s: the second, from the load's beginning.
        attempted: connections that were tried.
        connected: connections that were opened.
        answered: requests that were answered in full; without a request, connections that were
            opened and closed.
        failed: what failed, by call and error, e.g. ``connect EADDRNOTAVAIL``.
        connect_median_us, connect_worst_us: time of connect() and the handshake in microseconds, of
            those that were opened; None if not timed.
        in_time_wait: TIME_WAIT sockets of the opener's node at the end of the second.
        open: connections of the load still open then.
        cpu_s: processor time that this process used meanwhile, in user space and in the kernel; 0
            in virtual time.
    """

    at_s: int
    attempted: int = 0
    connected: int = 0
    answered: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    connect_median_us: float | None = None
    connect_worst_us: float | None = None
    in_time_wait: int = 0
    open: int = 0
    cpu_s: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**vars(self), "failed": dict(self.failed)}


class LoadCounts:
    """The outcome of a load: counts for each second, and their sums.

    Attributes:
        seconds: the counts, in order; the last second is under way until the load is done.
        first_failure_s: seconds from the beginning to the first failure; None without one.
        worst_late_s: most seconds by which the generator was behind its schedule. A large value
            invalidates the result.
    """

    def __init__(self) -> None:
        self.seconds: list[Second] = [Second(0)]
        self.first_failure_s: float | None = None
        self.worst_late_s = 0.0
        self._times_s: list[float] = []

    @property
    def now(self) -> Second:
        """The second under way."""
        return self.seconds[-1]

    @property
    def attempted(self) -> int:
        """Connections that were tried."""
        return sum(second.attempted for second in self.seconds)

    @property
    def connected(self) -> int:
        """The count of connections that were opened."""
        return sum(second.connected for second in self.seconds)

    @property
    def answered(self) -> int:
        """Requests that were answered."""
        return sum(second.answered for second in self.seconds)

    @property
    def failed(self) -> Counter[str]:
        """Failures by call and error, e.g. ``{"connect EADDRNOTAVAIL": 12}``."""
        return sum((second.failed for second in self.seconds), Counter())

    def fail(self, call: str, error: str, at_s: float) -> None:
        """Count one failure."""
        self.now.failed[f"{call} {error}"] += 1
        if self.first_failure_s is None:
            self.first_failure_s = at_s

    def connect_took(self, took_s: float) -> None:
        """Note the duration of one connect."""
        if len(self._times_s) < _MOST_SAMPLES:
            self._times_s.append(took_s)

    def close_second(self, *, in_time_wait: int, still_open: int, cpu_s: float) -> None:
        """Complete the second under way with what was measured at its end."""
        self.now.in_time_wait, self.now.open, self.now.cpu_s = in_time_wait, still_open, round(cpu_s, 4)
        if self._times_s:
            self.now.connect_median_us = round(median(self._times_s) * 1e6, 1)
            self.now.connect_worst_us = round(max(self._times_s) * 1e6, 1)
            self._times_s.clear()

    def open_second(self, at_s: int) -> None:
        """Begin the next second, or a later one if the process was kept from counting."""
        self.seconds.append(Second(at_s))

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values: the sums, and the seconds."""
        sums = {
            "attempted": self.attempted,
            "connected": self.connected,
            "answered": self.answered,
            "failed": dict(self.failed),
        }
        lateness = {"first_failure_s": self.first_failure_s, "worst_late_s": round(self.worst_late_s, 4)}
        return {**sums, **lateness, "seconds": [second.as_dict() for second in self.seconds]}
