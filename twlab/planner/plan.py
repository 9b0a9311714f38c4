"""The proxy engineer's arithmetic: ports needed and left, what each way out would sustain, what can
still go wrong, and advice. Pure.

A connection holds its four-tuple (source address, source port, origin address, origin port) from
its connect until it may be opened again: for its life, and then for as long as TIME_WAIT keeps it.
So, in the steady state,

    ceiling = four-tuples / (life + hold)        four-tuples = ports x source addresses x origins

with the origins asked equally often. Linux's timers end its own 60 s up to 2 s late, which takes 3
% off. `twlab alternatives` measures the same ways out on a real kernel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

from twlab.errors import UsageError
from twlab.planner.advice import advise
from twlab.planner.hazards import KINDS, Hazard, World, remaining

SCHEMA = 1
TUPLE_BYTES = (
    528  # a TIME_WAIT socket and the two entries that hold its port, in Linux 6.12; `twlab alternatives` reads it off
)
WIDEST = (1024, 65535)
POOL = 100  # requests on a connection that is kept alive
TIMES = 4  # source addresses, or ports of the origin, where there was one
REUSE_S = 1.0  # tcp_tw_reuse_delay
RECYCLE_S = 0.7  # 3.5 x the least retransmission timeout
BUCKETS = 1000
PROXY, ORIGIN = "proxy", "origin"

_TIME_WAIT = ("stale-data", "stale-data-unrelated-isn", "assassination", "lost-last-ack", "port-exhaustion")
_RECYCLING = ("recycle-nat", *_TIME_WAIT)
_ORIGIN_KEEPS = ("syn-into-time-wait", "stale-data-unrelated-isn", "assassination", "lost-last-ack", "port-exhaustion")
_ABORT = ("linger-truncation", "stale-data", "stale-data-unrelated-isn", "port-exhaustion")


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What is asked of the proxy.

    Attributes:
        rate_per_s: new connections to the origins, a second.
        origins: pairs of address and port that they go to.
        sources: addresses that the proxy connects from.
        port_low, port_high: its ip_local_port_range.
        time_wait_s: length of TIME_WAIT.
        life_s: of a connection, from connect to close.
        closes_first: ``proxy`` or ``origin``: which of them keeps the TIME_WAIT.
        timestamps: both ends use TCP timestamps.
        throughput: bytes a second that an open connection carries in one direction.
        delay_s: the oldest segment that the network may still deliver, and that is to do no harm.
        window: receive window in bytes.
        late_share: share of connections that leave a segment of such an age behind. An assumption;
            results are proportional to it.
        loss_share: share of segments that are lost.

    Raises:
        UsageError: a value that cannot be (``bad-plan``).
    """

    rate_per_s: float
    origins: int = 1
    sources: int = 1
    port_low: int = 32768
    port_high: int = 60999
    time_wait_s: float = 60.0
    life_s: float = 0.1
    closes_first: str = PROXY
    timestamps: bool = True
    throughput: float = 1e6
    delay_s: float = 10.0
    window: int = 65_536
    late_share: float = 1e-6
    loss_share: float = 1e-3

    def __post_init__(self) -> None:
        for name, (low, high, wanted) in _BOUNDS.items():
            value = getattr(self, name)
            if not low <= value <= high:  # also false for nan
                raise UsageError(
                    f"{name}={value} is not possible: {wanted} is wanted", "see twlab plan --help", "bad-plan"
                )
        if self.port_low > self.port_high:
            raise UsageError(
                f"ports {self.port_low}-{self.port_high}: the first is above the last",
                "e.g. --ports 32768-60999",
                "bad-plan",
            )
        if self.closes_first not in (PROXY, ORIGIN):
            raise UsageError(
                f"closes_first={self.closes_first} is not possible: proxy or origin is wanted",
                "see twlab plan --help",
                "bad-plan",
            )

    @property
    def ports(self) -> int:
        """Ports in the range."""
        return self.port_high - self.port_low + 1

    @property
    def four_tuples(self) -> int:
        """What there is to use."""
        return self.ports * self.sources * self.origins

    @property
    def hold_s(self) -> float:
        """How long one connection keeps its four-tuple."""
        return self.life_s + (self.time_wait_s if self.closes_first == PROXY else 0.0)


_BOUNDS: dict[str, tuple[float, float, str]] = {
    "rate_per_s": (1e-3, 1e7, "a number of connections a second, 0.001 to 10,000,000,"),
    "origins": (1, 1_000_000, "a number of origins from 1 to 1,000,000"),
    "sources": (1, 65_536, "a number of source addresses from 1 to 65,536"),
    "port_low": (1, 65_535, "a port from 1 to 65535"),
    "port_high": (1, 65_535, "a port from 1 to 65535"),
    "time_wait_s": (0.001, 3600, "a number of seconds from 0.001 to 3600"),
    "life_s": (0, 86_400, "a number of seconds from 0 to 86,400"),
    "throughput": (0, 1e12, "a number of bytes a second from 0 to 1e12"),
    "delay_s": (0.001, 3600, "a number of seconds from 0.001 to 3600"),
    "window": (1, 2**30, "a number of bytes from 1 to 2^30"),
    "late_share": (0, 1, "a share from 0 to 1"),
    "loss_share": (0, 0.5, "a share from 0 to 0.5"),
}


@dataclass(frozen=True)
class Way:
    """One way to serve the demand.

    Attributes:
        name: as `twlab alternatives` has it.
        change: what would be different.
        where: what has to be changed.
        ceiling_per_s: connections (with a pool: requests) a second; infinite where ports are no
            limit.
        four_tuples: that it has.
        hold_s: how long each is kept.
        quiet_s: how much of that comes after the close.
        in_time_wait: sockets in TIME_WAIT at the rate that is served.
        hazards: that remain, the likeliest first.
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

    def ceiling_text(self) -> str:
        """The ceiling as a person writes it."""
        return (
            "no limit"
            if math.isinf(self.ceiling_per_s)
            else f"{self.ceiling_per_s:,.{1 if self.ceiling_per_s < 10_000 else 0}f}"
        )

    def serves(self, rate_per_s: float, room: float = 1.0) -> bool:
        """Whether the ports suffice for `rate_per_s`, `room` times over."""
        return self.ceiling_per_s >= rate_per_s * room


@dataclass(frozen=True)
class Plan:
    """The answer.

    Attributes:
        asked: the present way, first of all.
        ways: the others.
        longest_time_wait_s: the longest TIME_WAIT with which the ports suffice; negative where none
            does.
        advice: the recommendation, a sentence each.
    """

    demand: Demand
    asked: Way
    ways: list[Way]
    longest_time_wait_s: float
    advice: list[str]

    @property
    def needed(self) -> int:
        """Four-tuples in use at the rate asked for."""
        return math.ceil(self.demand.rate_per_s * self.demand.hold_s)

    @property
    def left(self) -> int:
        """Four-tuples that are then free; negative where they do not suffice."""
        return self.demand.four_tuples - self.needed

    def as_dict(self) -> dict[str, Any]:
        """JSON values; a ceiling that ports do not set is null."""
        return {
            "schema": SCHEMA,
            "demand": {spec.name: getattr(self.demand, spec.name) for spec in fields(self.demand)},
            "four_tuples": self.demand.four_tuples,
            "needed": self.needed,
            "left": self.left,
            "longest_time_wait_s": self.longest_time_wait_s,
            "advice": self.advice,
            "ways": [_way_as_dict(way, self.demand) for way in (self.asked, *self.ways)],
            "hazards": {
                name: {key: getattr(kind, key) for key in ("scenario", "what", "formula", "source")}
                for name, kind in KINDS.items()
            },
        }


def make(demand: Demand) -> Plan:
    """The plan for `demand`."""
    asked = _way(demand, "as-asked", "as it is", "nothing")
    ways = [*_shorter(demand), *_kernel(demand), *_more(demand), *_application(demand)]
    longest_s = demand.four_tuples / demand.rate_per_s - demand.life_s
    return Plan(demand, asked, ways, longest_s, advise(demand, asked, {way.name: way for way in ways}, longest_s))


def _shorter(demand: Demand) -> list[Way]:
    where = "the proxy's kernel, built with another TCP_TIMEWAIT_LEN"
    return [
        _way(replace(demand, time_wait_s=s), f"time-wait-{s}", f"TIME_WAIT of {s} s", where)
        for s in (60, 30, 15, 10, 1)
    ]


def _kernel(demand: Demand) -> list[Way]:
    def cut(seconds: float) -> Demand:
        return replace(demand, time_wait_s=min(seconds, demand.time_wait_s)) if demand.timestamps else demand

    return [
        _way(cut(REUSE_S), "tw-reuse", "tcp_tw_reuse=1", "sysctl on the proxy; timestamps at both ends"),
        _way(
            cut(RECYCLE_S),
            "tw-recycle",
            "tcp_tw_recycle=1",
            "sysctl on the proxy; gone since Linux 4.12",
            kinds=_RECYCLING,
        ),
        _way(
            demand,
            "named-ports",
            "the proxy binds the port itself",
            "the proxy's configuration; timestamps at both ends",
            hold_s=demand.life_s if demand.timestamps else None,
        ),
        _buckets(demand),
    ]


def _buckets(demand: Demand) -> Way:
    """The first so many closed connections keep their TIME_WAIT, all others have none."""
    name, change, where = "tw-buckets", f"tcp_max_tw_buckets={BUCKETS}", "sysctl on the proxy"
    if demand.closes_first == ORIGIN or demand.four_tuples <= BUCKETS:
        return _way(demand, name, change, where)
    free = demand.four_tuples - BUCKETS
    ceiling_per_s = max(free / demand.life_s if demand.life_s else math.inf, demand.four_tuples / demand.hold_s)
    share = max(0.0, 1 - BUCKETS / (demand.rate_per_s * demand.time_wait_s))
    way = _way(
        demand,
        name,
        change,
        where,
        hold_s=demand.life_s if share else None,
        ceiling_per_s=ceiling_per_s,
        share=share or 1.0,
        answers=not share,
    )
    return replace(way, in_time_wait=min(BUCKETS, demand.rate_per_s * demand.time_wait_s))


def _more(demand: Demand) -> list[Way]:
    low, high = WIDEST
    wide = replace(demand, port_low=low, port_high=high)
    return [
        _way(wide, "wider-range", f"ports {low} to {high}", "sysctl ip_local_port_range on the proxy"),
        _way(
            replace(demand, sources=demand.sources * TIMES),
            "more-sources",
            f"{TIMES} times the source addresses",
            "addresses on the proxy, and its configuration",
        ),
        _way(
            replace(demand, origins=demand.origins * TIMES),
            "more-origin-ports",
            f"{TIMES} times the ports on the origin",
            "the origin's listeners, and the proxy's configuration",
        ),
        _way(
            demand,
            "socket-port-range",
            "IP_LOCAL_PORT_RANGE",
            "the proxy's code; it narrows the range of a socket, and cannot widen it",
        ),
        _way(demand, "reuseaddr", "SO_REUSEADDR", "the proxy's code; it helps listeners alone"),
    ]


def _application(demand: Demand) -> list[Way]:
    pooled = replace(demand, rate_per_s=max(demand.rate_per_s / POOL, 1e-3), life_s=min(demand.life_s * POOL, 86_400))
    pool = _way(pooled, "keep-alive", f"{POOL} requests on a connection", "configuration of the proxy and the origin")
    return [
        replace(pool, ceiling_per_s=pool.ceiling_per_s * POOL),
        _way(
            demand,
            "linger-0",
            "SO_LINGER 0: close by reset",
            "the proxy's code or configuration",
            hold_s=demand.life_s,
            kinds=_ABORT,
            answers=False,
        ),
        _way(
            replace(demand, closes_first=ORIGIN),
            "origin-closes-first",
            "the origin closes first",
            "the protocol, e.g. the header Connection: close",
        ),
    ]


def _way(
    demand: Demand,
    name: str,
    change: str,
    where: str,
    *,
    hold_s: float | None = None,
    ceiling_per_s: float | None = None,
    kinds: tuple[str, ...] = (),
    share: float = 1.0,
    answers: bool = True,
) -> Way:
    """The way out whose numbers are those of `demand`, but for what is given.

    Args:
        kinds: of hazards; those of a TIME_WAIT where it is kept, if not given.
        share: of the connections that are exposed to the hazards.
        answers: closed connections answer for themselves, as TIME_WAIT does.
    """
    hold_s = demand.hold_s if hold_s is None else hold_s
    if ceiling_per_s is None:
        ceiling_per_s = demand.four_tuples / hold_s if hold_s else math.inf
    served = min(demand.rate_per_s, ceiling_per_s)
    kinds = kinds or (_TIME_WAIT if demand.closes_first == PROXY else _ORIGIN_KEEPS)
    world = World(
        rate_per_s=served,
        four_tuples=demand.four_tuples,
        life_s=demand.life_s,
        quiet_s=max(0.0, hold_s - demand.life_s),
        time_wait_s=demand.time_wait_s if answers else 0.0,
        timestamps=demand.timestamps,
        throughput=demand.throughput,
        delay_s=demand.delay_s,
        window=demand.window,
        late_share=demand.late_share,
        loss_share=demand.loss_share,
        ceiling_per_s=ceiling_per_s,
        wanted_per_s=demand.rate_per_s,
    )
    return Way(
        name,
        change,
        where,
        ceiling_per_s,
        demand.four_tuples,
        hold_s,
        world.quiet_s,
        served * world.quiet_s,
        remaining(kinds, world, share),
    )


def _way_as_dict(way: Way, demand: Demand) -> dict[str, Any]:
    return {
        "name": way.name,
        "change": way.change,
        "where": way.where,
        "ceiling_per_s": None if math.isinf(way.ceiling_per_s) else way.ceiling_per_s,
        "serves": way.serves(demand.rate_per_s),
        "four_tuples": way.four_tuples,
        "hold_s": way.hold_s,
        "quiet_s": way.quiet_s,
        "in_time_wait": round(way.in_time_wait),
        "time_wait_bytes": round(way.in_time_wait) * TUPLE_BYTES,
        "hazards": [hazard._asdict() for hazard in way.hazards],
    }
