"""The demand on a proxy, and the ports and four-tuples that there are for it.

How connect() finds a port, and how many connections share one, depends on how the port is chosen
(`twlab.ports.PortChoice`):

- connect() alone, IP_BIND_ADDRESS_NO_PORT and a named port share it between destinations; bind()
  to port 0 does not;
- of an odd number of ports each search leaves one out (`twlab.ports.usable`);
- reserved ports (ip_local_reserved_ports) are passed over;
- a port that a neighbour on the same machine took by bind() first is closed to all other programs
  until its TIME_WAIT ends.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from numbers import Real

from twlab.errors import UsageError
from twlab.ports import LINUX_PORTS, LINUX_RANGE, PortChoice, usable

PROXY, ORIGIN = "proxy", "origin"
LINUX_TIME_WAIT_S = 60.0
REUSE_S = 1.0  # tcp_tw_reuse_delay
REUSE_OFF, REUSE_ON, REUSE_LOOPBACK = 0, 1, 2
_SLOTS, _SHIFT = 64, 3  # kernel/time/timer.c: LVL_SIZE and LVL_CLK_SHIFT


def late_s(time_wait_s: float, hz: int) -> float:
    """Return how late Linux's timer wheel may end a timer of `time_wait_s`.

    The result is in seconds, the most that it can be.

    Each level of the wheel counts in steps eight times as long as the one below
    (kernel/time/timer.c, LVL_GRAN, LVL_START), and a timer is rounded up to its level's step. 60 s
    at 250 ticks a second: 512 ticks, 2.05 s, which `twlab ceiling` measures.
    """
    ticks, level = round(time_wait_s * hz), 0
    while ticks >= (_SLOTS - 1) << (_SHIFT * level):
        level += 1
    return (1 << (_SHIFT * level)) / hz


@dataclass(frozen=True, kw_only=True)
class Demand:
    """The demand on a proxy.

    Attributes:
        rate_per_s: new connections to the origins, a second.
        origins: pairs of address and port that they go to.
        busiest: share of the connections that goes to the busiest of them; None: all alike.
        sources: addresses that the proxy connects from.
        port_low, port_high: its ip_local_port_range.
        reserved: ports in it that are not used (ip_local_reserved_ports), e.g. ``8080,9000-9100``.
        choice: how the proxy's port is chosen; ``bind`` also stands for a kernel that shares no
            port between destinations.
        neighbour_per_s: connections a second that other programs of the machine open with bind() to
            port 0 first.
        neighbour_life_s: of the neighbours' connections; None: as `life_s`.
        time_wait_s: length of TIME_WAIT.
        tw_reuse: tcp_tw_reuse: 0 off, 1 on, 2 for loopback only, as Linux comes.
        loopback: proxy and origins talk over 127.0.0.0/8 or ::1.
        hz: ticks a second of the proxy's kernel (CONFIG_HZ).
        life_s: of a connection, from connect to close.
        keep_alive: connections could be kept for more than one request.
        closes_first: ``proxy`` or ``origin``: which of them keeps the TIME_WAIT.
        timestamps: both ends use TCP timestamps ...
        without_timestamps: ... except for this number of origins.
        throughput: bytes a second that an open connection carries in one direction.
        delay_s: age of the oldest segment that the network may still deliver, and that may do no
            harm.
        window: receive window in bytes.
        late_share: share of connections that leave a segment of such an age behind. An assumption;
            results are proportional to it.
        loss_share: share of segments that are lost.

    Raises:
        UsageError: a value that cannot be (``bad-plan``).
    """

    rate_per_s: float
    origins: int = 1
    busiest: float | None = None
    sources: int = 1
    port_low: int = LINUX_PORTS[0]
    port_high: int = LINUX_PORTS[1]
    reserved: str = ""
    choice: str = PortChoice.CONNECT.value
    neighbour_per_s: float = 0.0
    neighbour_life_s: float | None = None
    time_wait_s: float = LINUX_TIME_WAIT_S
    tw_reuse: int = REUSE_LOOPBACK
    loopback: bool = False
    hz: int = 250
    life_s: float = 0.1
    keep_alive: bool = True
    closes_first: str = PROXY
    timestamps: bool = True
    without_timestamps: int = 0
    throughput: float = 1e6
    delay_s: float = 10.0
    window: int = 65_536
    late_share: float = 1e-6
    loss_share: float = 1e-3

    def __post_init__(self) -> None:
        for name, (low, high, wanted) in _BOUNDS.items():
            value = getattr(self, name)
            if value is None and name in ("busiest", "neighbour_life_s"):
                continue
            if not isinstance(value, Real) or not low <= float(value) <= high:  # also false for nan
                raise _bad(f"{name}={value!r} is out of range: expected {wanted}")
        if not isinstance(self.reserved, str):
            raise _bad(f"reserved={self.reserved!r} is no text: expected one like '8080,9000-9100'")
        if self.port_low > self.port_high:
            raise UsageError(
                f"ports {self.port_low}-{self.port_high}: the first is above the last",
                f"for example --ports {LINUX_RANGE}",
                "bad-plan",
            )
        if self.closes_first not in (PROXY, ORIGIN):
            raise _bad(f"closes_first={self.closes_first} is out of range: expected proxy or origin")
        if self.choice not in list(PortChoice):
            raise _bad(f"choice={self.choice} is out of range: expected {', '.join(PortChoice)}")
        if self.busiest is not None and self.busiest < 1 / self.origins:
            raise _bad(
                f"busiest={self.busiest:g} is not possible: of {self.origins} origins the busiest has at least "
                f"{1 / self.origins:.4g}"
            )
        if self.without_timestamps > self.origins:
            raise _bad(
                f"{self.without_timestamps} origins without timestamps are not possible: there are {self.origins}"
            )
        if self.ports < 1:
            taken = f"{self.set_aside:,} are reserved, and {self.taken_by_neighbour:,} taken by neighbours"
            raise UsageError(
                f"no port is left of {self.port_low}-{self.port_high}: {taken}", "give a wider --ports", "bad-plan"
            )

    @property
    def way_of_choice(self) -> PortChoice:
        """`choice` as a `PortChoice`."""
        return PortChoice(self.choice)

    @property
    def set_aside(self) -> int:
        """Number of ports of the range that are reserved."""
        return len([port for port in _ports_in(self.reserved) if self.port_low <= port <= self.port_high])

    @property
    def taken_by_neighbour(self) -> int:
        """Number of ports that neighbours which bind first hold, open or in TIME_WAIT."""
        return math.ceil(self.neighbour_per_s * (self.time_wait_s + self.life_of_neighbour_s))

    @property
    def life_of_neighbour_s(self) -> float:
        """Seconds from connect to close of a neighbour's connection."""
        return self.life_s if self.neighbour_life_s is None else self.neighbour_life_s

    @property
    def longest_time_wait_s(self) -> float:
        """The longest TIME_WAIT with which the ports suffice; negative: none.

        A neighbour keeps its ports for as long, too: what it takes depends on the length.
        """
        of_port = self.sources * self.destinations
        four_tuples = self.four_tuples + of_port * (
            self.taken_by_neighbour - self.neighbour_per_s * self.life_of_neighbour_s
        )
        per_s = self.rate_per_s + of_port * self.neighbour_per_s
        return (four_tuples - self.rate_per_s * self.life_s) / per_s

    @property
    def ports(self) -> int:
        """Number of ports of the range that are found."""
        return usable(self.port_high - self.port_low + 1, self.way_of_choice) - self.set_aside - self.taken_by_neighbour

    @property
    def destinations(self) -> float:
        """Number of origins that share a port; fewer if one is busier, 1 after bind()."""
        if self.choice == PortChoice.BIND:
            return 1.0
        return float(self.origins) if self.busiest is None else 1 / self.busiest

    @property
    def four_tuples(self) -> int:
        """Number of four-tuples there are."""
        return max(1, math.floor(self.ports * self.sources * self.destinations + 1e-9))

    @property
    def all_timestamps(self) -> bool:
        """Whether every origin uses timestamps."""
        return self.timestamps and not self.without_timestamps

    @property
    def reuses(self) -> bool:
        """Whether tcp_tw_reuse applies.

        It does where connect() chooses the port and both ends have timestamps.
        """
        on = self.tw_reuse == REUSE_ON or (self.tw_reuse == REUSE_LOOPBACK and self.loopback)
        return on and self.all_timestamps and self.choice in (PortChoice.CONNECT, PortChoice.NO_PORT, PortChoice.RANGE)

    @property
    def kept_s(self) -> float:
        """Seconds for which a four-tuple stays closed after its connection."""
        if self.closes_first == ORIGIN or (self.choice == PortChoice.EXPLICIT and self.all_timestamps):
            return 0.0
        return min(REUSE_S, self.time_wait_s) if self.reuses else self.time_wait_s

    @property
    def late_s(self) -> float:
        """Seconds by which the kernel's timer may end that late."""
        return late_s(self.time_wait_s, self.hz) if self.kept_s == self.time_wait_s else 0.0

    @property
    def hold_s(self) -> float:
        """Seconds for which one connection keeps its four-tuple."""
        return self.life_s + self.kept_s


def _bad(message: str) -> UsageError:
    return UsageError(message, "see twlab plan --help", "bad-plan")


def _ports_in(text: str) -> set[int]:
    """Read ports in the form of ip_local_reserved_ports, as ``8080,9000-9100``.

    Raises:
        UsageError: not of that form (``bad-plan``).
    """
    found: set[int] = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", part)
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not 1 <= low <= high <= 65_535:
            raise UsageError(
                f"reserved={text}: {part!r} is not a port or a range of ports",
                "for example --reserved 8080,9000-9100",
                "bad-plan",
            )
        found.update(range(low, high + 1))
    return found


_BOUNDS: dict[str, tuple[float, float, str]] = {
    "rate_per_s": (1e-3, 1e7, "connections a second, from 0.001 to 10,000,000"),
    "origins": (1, 1_000_000, "a number of origins from 1 to 1,000,000"),
    "busiest": (1e-6, 1, "a share from 0.000001 to 1"),
    "sources": (1, 65_536, "a number of source addresses from 1 to 65,536"),
    "port_low": (1, 65_535, "a port from 1 to 65535"),
    "port_high": (1, 65_535, "a port from 1 to 65535"),
    "neighbour_per_s": (0, 1e7, "connections a second, from 0 to 10,000,000"),
    "neighbour_life_s": (0, 86_400, "a number of seconds from 0 to 86,400"),
    "time_wait_s": (0.001, 3600, "a number of seconds from 0.001 to 3600"),
    "tw_reuse": (0, 2, "0, 1 or 2"),
    "hz": (24, 10_000, "a number of ticks a second from 24 to 10,000"),
    "life_s": (0, 86_400, "a number of seconds from 0 to 86,400"),
    "without_timestamps": (0, 1_000_000, "a number of origins from 0 to 1,000,000"),
    "throughput": (0, 1e12, "a number of bytes a second from 0 to 1e12"),
    "delay_s": (0.001, 3600, "a number of seconds from 0.001 to 3600"),
    "window": (1, 2**30, "a number of bytes from 1 to 2^30"),
    "late_share": (0, 1, "a share from 0 to 1"),
    "loss_share": (0, 0.5, "a share from 0 to 0.5"),
}
