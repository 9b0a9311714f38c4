"""The proxy engineer's arithmetic: ports needed and left, what each way out would sustain, what can
still go wrong, and advice. Pure.

A connection holds its four-tuple (source address, source port, origin address, origin port) from
its connect until it may be opened again: for its life, and then for as long as TIME_WAIT keeps it.
So, in the steady state,

    ceiling = four-tuples / (life + hold)        four-tuples = ports x source addresses x destinations

(`twlab.planner.demand` has what counts as a port and as a destination). A rate near the ceiling has
no certain answer. Linux's timers end its own 60 s up to 2.05 s late, and the lab finds a ceiling to
2 %; so there are three answers:

    suffices           up to 98 % of four-tuples / (life + hold + lateness)
    at the edge        between that and the ceiling
    does not suffice   above the ceiling

`twlab alternatives` and `twlab ceiling` measure the same ways out on a real kernel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any

from twlab.planner.advice import advise
from twlab.planner.demand import ORIGIN, PROXY, REUSE_ON, Demand
from twlab.planner.hazards import KINDS, Hazard, World, remaining
from twlab.planner.shortage import FOUND_TO
from twlab.ports import PortChoice

__all__ = ["BUCKETS", "POOL", "TIMES", "TUPLE_BYTES", "Answer", "Demand", "Plan", "Way", "make"]
SCHEMA = 1
TUPLE_BYTES = (
    528  # a TIME_WAIT socket and the two entries that hold its port, in Linux 6.12; `twlab alternatives` reads it off
)
WIDEST = (1024, 65535)
POOL = 100  # requests on a connection that is kept alive
TIMES = 4  # source addresses, or ports of the origin, where there was one
RECYCLE_S = 0.7  # 3.5 x the least retransmission timeout
BUCKETS = 1000
PASS_S = 0.19e-6  # processor time for each taken port that a search passes over: docs/findings/ceiling.md, 2.7 ms for 14,116 of them (Linux 6.18)
HALF = 0.5  # of the range: from there on connect() passes over all ports of one parity, all taken, before it tries the other

_TIME_WAIT = ("stale-data", "stale-data-unrelated-isn", "assassination", "lost-last-ack", "port-exhaustion")
_RECYCLING = ("recycle-nat", *_TIME_WAIT)
_ORIGIN_KEEPS = ("syn-into-time-wait", "stale-data-unrelated-isn", "assassination", "lost-last-ack", "port-exhaustion")
_ABORT = ("linger-truncation", "stale-data", "stale-data-unrelated-isn", "port-exhaustion")
_APART = (
    "a range that no neighbour uses",
    "IP_LOCAL_PORT_RANGE (Linux 6.3), or named ports outside ip_local_port_range, in either program",
)
_NOT_ADVISED = ("tw-recycle", "tw-buckets", "linger-0", "bind-first")


class Answer(StrEnum):
    """Whether the ports suffice."""

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
        in_time_wait: sockets in TIME_WAIT at the rate that is served.
        hazards: that remain, the likeliest first.
        advised: False for what does harm, or is not to be done for other reasons, even where it
            sustains the rate.
        full_share: share of the four-tuples in use at the rate that is asked for; at most 1.
        search_cores: processors that connect() keeps busy with passing over taken ports at that
            rate.
        error: call and errno that the application sees past the ceiling; empty where there is none.
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

    def ceiling_text(self) -> str:
        """The ceiling as a person writes it."""
        return _rate(self.ceiling_per_s)

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
        """Whether the ports suffice for `rate_per_s`, `room` times over, in theory."""
        return self.ceiling_per_s >= rate_per_s * room


def _rate(per_s: float) -> str:
    return "no limit" if math.isinf(per_s) else f"{per_s:,.{1 if per_s < 10_000 else 0}f}"


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
            "answer": self.asked.answer(self.demand.rate_per_s).value,
            "margin": {"late_s": self.demand.late_s, "found_to": FOUND_TO, "destinations": self.demand.destinations},
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
    ways = [*_shorter(demand), *_kernel(demand), *_choices(demand), *_more(demand), *_application(demand)]
    longest_s = demand.four_tuples / demand.rate_per_s - demand.life_s
    return Plan(demand, asked, ways, longest_s, advise(demand, asked, {way.name: way for way in ways}, longest_s))


def _shorter(demand: Demand) -> list[Way]:
    where = {60: "nothing, where Linux is as it comes: 60 s are its constant"}
    rebuilt = "the proxy's kernel, built with another TCP_TIMEWAIT_LEN"
    made = [
        _way(replace(demand, time_wait_s=s), f"time-wait-{s}", f"TIME_WAIT of {s} s", where.get(s, rebuilt))
        for s in (60, 30, 15, 10, 1)
    ]
    return [
        replace(way, advised=seconds >= demand.delay_s) for way, seconds in zip(made, (60, 30, 15, 10, 1), strict=True)
    ]


def _kernel(demand: Demand) -> list[Way]:
    recycled = min(RECYCLE_S, demand.time_wait_s) if demand.all_timestamps else demand.time_wait_s
    return [
        _way(
            replace(demand, tw_reuse=REUSE_ON),
            "tw-reuse",
            "tcp_tw_reuse=1",
            "sysctl on the proxy; timestamps at both ends",
        ),
        _way(
            replace(demand, time_wait_s=recycled),
            "tw-recycle",
            "tcp_tw_recycle=1",
            "sysctl on the proxy; gone since Linux 4.12",
            kinds=_RECYCLING,
        ),
        _way(
            replace(demand, choice=PortChoice.EXPLICIT),
            "named-ports",
            "the proxy binds the port itself",
            "the proxy's configuration; SO_REUSEADDR, and timestamps at both ends",
        ),
        _buckets(demand),
    ]


def _choices(demand: Demand) -> list[Way]:
    """How the port is chosen; what `named-ports` does stands elsewhere."""
    first = "what Apache, Traffic Server, Squid 5, Go, Node and wget do with a source address; also kernels that share no port"
    return [
        _way(replace(demand, choice=PortChoice.BIND), "bind-first", "bind() to port 0 before connect()", first),
        _way(
            replace(demand, choice=PortChoice.NO_PORT),
            "bind-no-port",
            "IP_BIND_ADDRESS_NO_PORT",
            "the proxy's code, where it binds an address",
        ),
        _way(
            replace(demand, choice=PortChoice.RANGE),
            "socket-port-range",
            "IP_LOCAL_PORT_RANGE",
            "the proxy's code (Linux 6.3), with IP_BIND_ADDRESS_NO_PORT where it binds an address; it narrows the range of a socket, cannot "
            "widen it, and saves the search past half of it",
        ),
        *([_way(replace(demand, neighbour_per_s=0.0), "separate-range", *_APART)] if demand.neighbour_per_s else []),
    ]


def _buckets(demand: Demand) -> Way:
    """The first so many closed connections keep their TIME_WAIT, all others have none."""
    name, change, where = "tw-buckets", f"tcp_max_tw_buckets={BUCKETS}", "sysctl on the proxy"
    if demand.closes_first == ORIGIN or demand.four_tuples <= BUCKETS:
        return _way(demand, name, change, where)
    free = demand.four_tuples - BUCKETS
    ceiling_per_s = max(
        free / demand.life_s if demand.life_s else math.inf,
        demand.four_tuples / demand.hold_s if demand.hold_s else math.inf,
    )
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
    return [
        _way(
            replace(demand, port_low=low, port_high=high),
            "wider-range",
            f"ports {low} to {high}",
            "sysctl ip_local_port_range on the proxy",
        ),
        _way(
            replace(demand, sources=demand.sources * TIMES),
            "more-sources",
            f"{TIMES} times the source addresses",
            "addresses on the proxy, and its configuration",
        ),
        _way(
            replace(demand, origins=demand.origins * TIMES, busiest=demand.busiest and demand.busiest / TIMES),
            "more-origin-ports",
            f"{TIMES} times the ports on the origin",
            "the origin's listeners, and the proxy's configuration",
        ),
        _way(
            demand,
            "reuseaddr",
            "SO_REUSEADDR",
            "the proxy's code; it helps listeners, and programs that name their ports",
        ),
    ]


def _application(demand: Demand) -> list[Way]:
    pooled = replace(demand, rate_per_s=max(demand.rate_per_s / POOL, 1e-3), life_s=min(demand.life_s * POOL, 86_400))
    held_s = demand.life_s * POOL + demand.kept_s
    pool = _way(
        pooled,
        "keep-alive",
        f"{POOL} requests on a connection",
        "configuration of the proxy and the origin",
        hold_s=held_s,
    )
    if not demand.keep_alive:
        pool = replace(pool, where="not possible, as was said", advised=False)
    linger = "the proxy's code or configuration"
    return [
        replace(pool, ceiling_per_s=pool.ceiling_per_s * POOL, sustained_per_s=pool.sustained_per_s * POOL),
        _way(
            demand, "linger-0", "SO_LINGER 0: close by reset", linger, hold_s=demand.life_s, kinds=_ABORT, answers=False
        ),
        _way(
            replace(demand, closes_first=ORIGIN),
            "origin-closes-first",
            "the origin closes first",
            "the origin closes at once; the header Connection: close alone has many proxies close first",
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
    late = hold_s / (hold_s + demand.late_s) if hold_s and hold_s > demand.life_s else 1.0
    served = min(demand.rate_per_s, ceiling_per_s)
    kinds = kinds or (_TIME_WAIT if demand.closes_first == PROXY else _ORIGIN_KEEPS)
    quiet_s = max(0.0, hold_s - demand.life_s)
    world = World(
        rate_per_s=served,
        four_tuples=demand.four_tuples,
        life_s=demand.life_s,
        quiet_s=quiet_s,
        time_wait_s=(min(demand.time_wait_s, quiet_s) if demand.reuses else demand.time_wait_s) if answers else 0.0,
        timestamps=demand.timestamps,
        throughput=demand.throughput,
        delay_s=demand.delay_s,
        window=demand.window,
        late_share=demand.late_share,
        loss_share=demand.loss_share,
        ceiling_per_s=ceiling_per_s,
        wanted_per_s=demand.rate_per_s,
    )
    full = min(1.0, demand.rate_per_s / ceiling_per_s)
    return Way(
        name=name,
        change=change,
        where=where,
        ceiling_per_s=ceiling_per_s,
        four_tuples=demand.four_tuples,
        hold_s=hold_s,
        quiet_s=quiet_s,
        in_time_wait=served * quiet_s,
        hazards=remaining(
            kinds, world, share, demand.without_timestamps / demand.origins if demand.timestamps else 0.0
        ),
        sustained_per_s=ceiling_per_s * late * (1 - FOUND_TO),
        advised=name not in _NOT_ADVISED,
        full_share=full,
        search_cores=_search_cores(demand, full),
        error=""
        if math.isinf(ceiling_per_s)
        else "bind EADDRINUSE"
        if demand.choice == PortChoice.BIND
        else "connect EADDRNOTAVAIL",
    )


def _search_cores(demand: Demand, full_share: float) -> float:
    """Processors' worth of passing over taken ports; nothing where the socket has a range, or the
    application names the port.
    """
    if full_share <= HALF or demand.choice in (PortChoice.RANGE, PortChoice.EXPLICIT):
        return 0.0
    return demand.rate_per_s * demand.ports * HALF * PASS_S


def _way_as_dict(way: Way, demand: Demand) -> dict[str, Any]:
    return {
        "name": way.name,
        "change": way.change,
        "where": way.where,
        "ceiling_per_s": None if math.isinf(way.ceiling_per_s) else way.ceiling_per_s,
        "sustained_per_s": None if math.isinf(way.sustained_per_s) else way.sustained_per_s,
        "serves": way.serves(demand.rate_per_s),
        "answer": way.answer(demand.rate_per_s).value,
        "advised": way.advised,
        "error": way.error,
        "full_share": way.full_share,
        "search_cores": way.search_cores,
        "four_tuples": way.four_tuples,
        "hold_s": way.hold_s,
        "quiet_s": way.quiet_s,
        "in_time_wait": round(way.in_time_wait),
        "time_wait_bytes": round(way.in_time_wait) * TUPLE_BYTES,
        "hazards": [hazard._asdict() for hazard in way.hazards],
    }
