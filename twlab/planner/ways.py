"""The ways out of running out of ports: names, texts, and the figures of one.

Plan, advice and measurement (`twlab alternatives`) take names and texts from here. The two tables
differ where the lab measures a way in another form than a plan describes it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from twlab.planner.hazards import Hazard
from twlab.ports import LINUX_PORT_COUNT, WIDEST_PORTS

POOL = 100  # requests on a connection that is kept alive, in a plan
MEASURED_POOL = 20  # and in the lab
TIMES = 4  # source addresses, or ports of the origin, where there was one
BUCKETS = 1000  # tcp_max_tw_buckets
LENGTHS_S = (60, 30, 15, 10, 1)  # of TIME_WAIT


class Text(NamedTuple):
    """A way out in words: what is different, and where it has to be changed."""

    change: str
    where: str


_LOW, _HIGH = WIDEST_PORTS
_REBUILT = "the proxy's kernel, built with another TCP_TIMEWAIT_LEN"
PLANNED: Mapping[str, Text] = {
    "as-asked": Text("as it is", "nothing"),
    **{f"time-wait-{s}": Text(f"TIME_WAIT of {s} s", _REBUILT) for s in LENGTHS_S},
    "time-wait-60": Text("TIME_WAIT of 60 s", "nothing, where Linux is as it comes: 60 s are its constant"),
    "tw-reuse": Text("tcp_tw_reuse=1", "sysctl on the proxy; timestamps at both ends"),
    "tw-recycle": Text("tcp_tw_recycle=1", "sysctl on the proxy; gone since Linux 4.12"),
    "named-ports": Text(
        "the proxy binds the port itself",
        "the proxy's configuration; SO_REUSEADDR, and timestamps at both ends",
    ),
    "tw-buckets": Text(f"tcp_max_tw_buckets={BUCKETS}", "sysctl on the proxy"),
    "bind-first": Text(
        "bind() to port 0 before connect()",
        "what Apache, Traffic Server, Squid 5, Go, Node and wget do with a source address; "
        "also kernels that share no port",
    ),
    "bind-no-port": Text("IP_BIND_ADDRESS_NO_PORT", "the proxy's code, where it binds an address"),
    "socket-port-range": Text(
        "IP_LOCAL_PORT_RANGE",
        "the proxy's code (Linux 6.3), with IP_BIND_ADDRESS_NO_PORT where it binds an address; it narrows the "
        "range of a socket, cannot widen it, and saves the search past half of it",
    ),
    "neighbour-no-port": Text(
        "IP_BIND_ADDRESS_NO_PORT at the neighbours",
        "the neighbours' code, or no source address in their configuration; they then share ports, "
        "except towards the same origin",
    ),
    "separate-range": Text(
        "a range that no neighbour uses",
        "IP_LOCAL_PORT_RANGE (Linux 6.3), or named ports outside ip_local_port_range, in either program",
    ),
    "wider-range": Text(f"ports {_LOW} to {_HIGH}", "sysctl ip_local_port_range on the proxy"),
    "more-sources": Text(f"{TIMES} times the source addresses", "addresses on the proxy, and its configuration"),
    "more-origin-ports": Text(
        f"{TIMES} times the ports on the origin", "the origin's listeners, and the proxy's configuration"
    ),
    "reuseaddr": Text("SO_REUSEADDR", "the proxy's code; it helps listeners, and programs that name their ports"),
    "keep-alive": Text(f"{POOL} requests on a connection", "configuration of the proxy and the origin"),
    "linger-0": Text("SO_LINGER 0: close by reset", "the proxy's code or configuration"),
    "origin-closes-first": Text(
        "the origin closes first",
        "the origin closes at once; the header Connection: close alone has many proxies close first",
    ),
}
NOT_ADVISED = ("tw-recycle", "tw-buckets", "linger-0", "bind-first")

_SYSCTL, _CODE, _CONFIG = "sysctl on the proxy", "the proxy's code", "the proxy's configuration"
_MORE_PORTS = f"the origin, {_CONFIG}"
MEASURED: Mapping[str, Text] = {
    "control": Text("TIME_WAIT in full, 60 s", "nothing"),
    **{f"time-wait-{s}": Text(f"TIME_WAIT of {s} s", "the proxy's kernel, rebuilt") for s in LENGTHS_S[1:]},
    "tw-reuse": Text("tcp_tw_reuse=1", _SYSCTL),
    "tw-reuse-no-timestamps": Text("tcp_tw_reuse=1, no timestamps", _SYSCTL),
    "tw-reuse-bind-first": Text("tcp_tw_reuse=1, bind() to port 0 first", _SYSCTL),
    "tw-reuse-bind-no-port": Text("tcp_tw_reuse=1, IP_BIND_ADDRESS_NO_PORT", f"{_SYSCTL}, {_CODE}"),
    "tw-reuse-named-ports": Text("tcp_tw_reuse=1, bind() to a named port, with SO_REUSEADDR", f"{_SYSCTL}, {_CODE}"),
    "tw-reuse-delay-100-ms": Text("tcp_tw_reuse=1, tcp_tw_reuse_delay=100", f"{_SYSCTL} (Linux 6.14)"),
    "tw-recycle": Text("tcp_tw_recycle=1", f"{_SYSCTL} (until Linux 4.11)"),
    "tw-buckets": Text("tcp_max_tw_buckets, a 28th of the ports", _SYSCTL),
    "linger-0": Text("SO_LINGER 0", _CODE),
    "named-ports": Text("bind() to a named port, in turn, with SO_REUSEADDR", _CONFIG),
    "named-ports-no-timestamps": Text("the same without timestamps", _CONFIG),
    "wider-range": Text(f"ports {_LOW} to {_HIGH} ({_HIGH - _LOW + 1:,} for {LINUX_PORT_COUNT:,})", _SYSCTL),
    "socket-port-range": Text("IP_LOCAL_PORT_RANGE, wider than the sysctl's", _CODE),
    "more-sources": Text(f"{TIMES} source addresses, IP_BIND_ADDRESS_NO_PORT", f"addresses, {_CONFIG}"),
    "more-sources-bind-first": Text(f"{TIMES} source addresses, bind() to port 0", f"addresses, {_CONFIG}"),
    "more-origin-ports": Text(f"{TIMES} ports of the origin", _MORE_PORTS),
    "more-origin-ports-bind-first": Text(f"{TIMES} ports of the origin, bind() to port 0", _MORE_PORTS),
    "keep-alive": Text(f"{MEASURED_POOL} requests on a connection", "configuration of both"),
    "origin-closes-first": Text("the origin closes first, and at once", "the protocol, the origin's configuration"),
    "reuseaddr": Text("SO_REUSEADDR", _CODE),
    "reuseaddr-bind-first": Text("SO_REUSEADDR, bind() to port 0", _CODE),
}

# Name to the reason, the best first: what costs no correctness. Shortening is not among them.
_WHOLE = "every closed connection keeps its whole TIME_WAIT"
RECOMMENDED: Mapping[str, str] = {
    "keep-alive": f"it saves the handshakes, too, and {_WHOLE}; see that the pool serves all clients "
    "(most proxies keep one for each client by default)",
    "wider-range": f"one sysctl, and {_WHOLE}; see that no service listens in the range",
    "more-sources": _WHOLE,
    "more-origin-ports": f"{_WHOLE}; a proxy that calls bind() before connect() needs "
    "IP_BIND_ADDRESS_NO_PORT, or all origins share one range",
    "tw-reuse": "a port is taken over after a second, from above the old connection's numbers and with PAWS on "
    "guard (scenario tw-reuse-safe); it needs timestamps at both ends, and a proxy that lets connect() choose the port",
    "bind-no-port": "one socket option (Linux 4.2; HAProxy, nginx and curl set it), and origins share the ports again",
    "named-ports": "with timestamps Linux opens a four-tuple again at once, with PAWS on guard (scenario "
    "tw-reuse-safe, arm bound-port); name ports outside ip_local_port_range, where no neighbour takes them, and set "
    "SO_REUSEADDR",
    "origin-closes-first": "the TIME_WAIT is then at the origin, whose listening port it does not use up. The origin "
    "has to close at once: asked to by a header, nginx and many others close too, and whichever is first has the "
    "TIME_WAIT, which is luck (docs/findings/proxies.md). And its TCP has to open a TIME_WAIT for a newer SYN, as "
    "Linux and gVisor do; devices with lwIP do not, unless its pool is small (docs/findings/stacks.md)",
}


class Answer(StrEnum):
    """Answer to whether the ports suffice."""

    SUFFICES = "suffices"
    EDGE = "at the edge"
    NOT = "does not suffice"


@dataclass(frozen=True)
class Way:
    """One way to serve the demand.

    Attributes:
        name: as `twlab alternatives` has it.
        change: what would be different.
        where: what has to be changed.
        ceiling_per_s: connections (with a pool: requests) a second, in theory; infinite where ports
            are no limit.
        sustained_per_s: up to which they suffice for certain: the ceiling less the timers' lateness
            and what measurements leave open.
        four_tuples: that it has.
        hold_s: how long each is kept.
        quiet_s: how much of that comes after the close.
        in_time_wait: sockets in TIME_WAIT at the rate that is served; where their ports are taken over
            earlier, the most that it can be.
        hazards: that remain, the likeliest first.
        advised: False for what does harm, or is not to be done for other reasons, even where it
            sustains the rate.
        full_share: share of the four-tuples in use at the rate that is asked for; at most 1.
        search_cores: processors that connect() keeps busy with passing over taken ports at that
            rate.
        error: call and errno that the application sees past the ceiling; empty without a ceiling.
    """

    name: str
    change: str
    where: str
    ceiling_per_s: float
    four_tuples: int
    hold_s: float
    quiet_s: float
    in_time_wait: float
    hazards: list[Hazard]
    sustained_per_s: float
    advised: bool = True
    full_share: float = 0.0
    search_cores: float = 0.0
    error: str = ""

    def edge_text(self) -> str:
        """Both ends of the edge as a person writes them: ``445.2-469.8``."""
        return (
            "no limit"
            if math.isinf(self.ceiling_per_s)
            else f"{_rate(self.sustained_per_s)}-{_rate(self.ceiling_per_s)}"
        )

    def answer(self, rate_per_s: float) -> Answer:
        """Answer whether the ports suffice for `rate_per_s`."""
        if rate_per_s <= self.sustained_per_s:
            return Answer.SUFFICES
        return Answer.EDGE if rate_per_s <= self.ceiling_per_s else Answer.NOT

    def serves(self, rate_per_s: float, room: float = 1.0) -> bool:
        """Return whether the ports suffice for `rate_per_s`, `room` times over, in theory."""
        return self.ceiling_per_s >= rate_per_s * room


def _rate(per_s: float) -> str:
    return "no limit" if math.isinf(per_s) else f"{per_s:,.{1 if per_s < 10_000 else 0}f}"
