"""Computes a plan: ports needed and left, ways out, remaining hazards, advice.

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
from typing import Any

from twlab.errors import UsageError
from twlab.planner.advice import advise
from twlab.planner.demand import ORIGIN, PROXY, REUSE_ON, Demand
from twlab.planner.hazards import KINDS, World, remaining
from twlab.planner.shortage import FOUND_TO
from twlab.planner.ways import BUCKETS, LENGTHS_S, NOT_ADVISED, PLANNED, POOL, TIMES, Answer, Way
from twlab.ports import WIDEST_PORTS, PortChoice

__all__ = ["BUCKETS", "POOL", "TIMES", "TUPLE_BYTES", "Answer", "Demand", "Plan", "Way", "make"]
SCHEMA = 1
# Kernel memory of a closed connection: a TIME_WAIT socket and the two entries that hold its port,
# in Linux 6.12, as `twlab alternatives` reads it.
TUPLE_BYTES = 528
RECYCLE_S = 0.7  # 3.5 x the least retransmission timeout
# Past half of the range connect() passes over all ports of one parity, all taken, before it tries
# the other. Processor time for each port passed over: docs/findings/ceiling.md, 2.7 ms for 14,116
# (Linux 6.18).
HALF, PASS_S = 0.5, 0.19e-6

_TIME_WAIT = ("stale-data", "stale-data-unrelated-isn", "assassination", "lost-last-ack", "port-exhaustion")
_RECYCLING = ("recycle-nat", *_TIME_WAIT)
_ORIGIN_KEEPS = ("syn-into-time-wait", "stale-data-unrelated-isn", "assassination", "lost-last-ack", "port-exhaustion")
_ABORT = ("linger-truncation", "stale-data", "stale-data-unrelated-isn", "port-exhaustion")


@dataclass(frozen=True)
class Plan:
    """The result for one demand.

    Attributes:
        asked: the present way.
        ways: the ways out.
        longest_time_wait_s: the longest TIME_WAIT with which the ports suffice; negative where no
            length does.
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
        """Four-tuples that are free then; negative where they do not suffice."""
        return self.demand.four_tuples - self.needed

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values; a ceiling that ports do not set is null."""
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
    """Make the plan for `demand`."""
    asked = _way(demand, "as-asked")
    ways = [*_shorter(demand), *_kernel(demand), *_choices(demand), *_more(demand), *_application(demand)]
    longest_s = demand.longest_time_wait_s
    return Plan(demand, asked, ways, longest_s, advise(demand, asked, {way.name: way for way in ways}, longest_s))


def _changed(demand: Demand, name: str, kinds: tuple[str, ...] = (), **changes: Any) -> list[Way]:
    """Compute the way that changes the demand so; none where such a demand cannot be."""
    try:
        changed = replace(demand, **changes)
    except UsageError:  # more addresses or ports than there are, or no port is left
        return []
    return [_way(changed, name, kinds=kinds)]


def _shorter(demand: Demand) -> list[Way]:
    return [
        replace(way, advised=s >= demand.delay_s)
        for s in LENGTHS_S
        for way in _changed(demand, f"time-wait-{s}", time_wait_s=s)
    ]


def _kernel(demand: Demand) -> list[Way]:
    recycled = min(RECYCLE_S, demand.time_wait_s) if demand.all_timestamps else demand.time_wait_s
    return [
        *_changed(demand, "tw-reuse", tw_reuse=REUSE_ON),
        *_changed(demand, "tw-recycle", _RECYCLING, time_wait_s=recycled),
        *_changed(demand, "named-ports", choice=PortChoice.EXPLICIT),
        _buckets(demand),
    ]


def _choices(demand: Demand) -> list[Way]:
    """Compute the ways that choose the port differently, beside `named-ports`."""
    return [
        *_changed(demand, "bind-first", choice=PortChoice.BIND),
        *_changed(demand, "bind-no-port", choice=PortChoice.NO_PORT),
        *_changed(demand, "socket-port-range", choice=PortChoice.RANGE),
        *_without_neighbours(demand),
    ]


def _without_neighbours(demand: Demand) -> list[Way]:
    """Compute the ways that keep neighbours from taking ports, where there are any."""
    if not demand.neighbour_per_s:
        return []
    freed = replace(demand, neighbour_per_s=0.0)
    return [_way(freed, "neighbour-no-port"), _way(freed, "separate-range")]


def _buckets(demand: Demand) -> Way:
    """Compute `tw-buckets`.

    `BUCKETS` closed connections have a TIME_WAIT, all others have no TIME_WAIT.
    """
    name = "tw-buckets"
    if demand.closes_first == ORIGIN or demand.four_tuples <= BUCKETS:
        return _way(demand, name)
    free = demand.four_tuples - BUCKETS
    ceiling_per_s = max(
        free / demand.life_s if demand.life_s else math.inf,
        demand.four_tuples / demand.hold_s if demand.hold_s else math.inf,
    )
    share = max(0.0, 1 - BUCKETS / (demand.rate_per_s * demand.time_wait_s))
    hold_s = demand.life_s if share else None
    way = _way(demand, name, hold_s=hold_s, ceiling_per_s=ceiling_per_s, share=share or 1.0, answers=not share)
    return replace(way, in_time_wait=min(BUCKETS, demand.rate_per_s * demand.time_wait_s))


def _more(demand: Demand) -> list[Way]:
    low, high = WIDEST_PORTS
    busiest = demand.busiest and demand.busiest / TIMES
    return [
        *_changed(demand, "wider-range", port_low=low, port_high=high),
        *_changed(demand, "more-sources", sources=demand.sources * TIMES),
        *_changed(demand, "more-origin-ports", origins=demand.origins * TIMES, busiest=busiest),
        _way(demand, "reuseaddr"),
    ]


def _application(demand: Demand) -> list[Way]:
    pooled = replace(
        demand,
        rate_per_s=max(demand.rate_per_s / POOL, 1e-3),
        life_s=min(demand.life_s * POOL, 86_400),
        neighbour_life_s=demand.life_of_neighbour_s,
    )
    pool = _way(pooled, "keep-alive", hold_s=demand.life_s * POOL + demand.kept_s)
    if not demand.keep_alive:
        pool = replace(pool, where="not possible, as was said", advised=False)
    return [
        replace(pool, ceiling_per_s=pool.ceiling_per_s * POOL, sustained_per_s=pool.sustained_per_s * POOL),
        _way(demand, "linger-0", hold_s=demand.life_s, kinds=_ABORT, answers=False),
        _way(replace(demand, closes_first=ORIGIN), "origin-closes-first"),
    ]


def _way(
    demand: Demand,
    name: str,
    *,
    hold_s: float | None = None,
    ceiling_per_s: float | None = None,
    kinds: tuple[str, ...] = (),
    share: float = 1.0,
    answers: bool = True,
) -> Way:
    """Compute the way `name` from the numbers of `demand`.

    Args:
        hold_s: instead of the demand's.
        ceiling_per_s: instead of four-tuples / hold.
        kinds: of hazards; default: those of a TIME_WAIT, where it is kept.
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
    without = demand.without_timestamps / demand.origins if demand.timestamps else 0.0
    error = "bind EADDRINUSE" if demand.choice == PortChoice.BIND else "connect EADDRNOTAVAIL"
    return Way(
        name=name,
        change=PLANNED[name].change,
        where=PLANNED[name].where,
        ceiling_per_s=ceiling_per_s,
        four_tuples=demand.four_tuples,
        hold_s=hold_s,
        quiet_s=quiet_s,
        in_time_wait=_in_time_wait(demand, served) if answers else 0.0,
        hazards=remaining(kinds, world, share, without),
        sustained_per_s=ceiling_per_s * late * (1 - FOUND_TO),
        advised=name not in NOT_ADVISED,
        full_share=full,
        search_cores=_search_cores(demand, full),
        error="" if math.isinf(ceiling_per_s) else error,
    )


def _in_time_wait(demand: Demand, per_s: float) -> float:
    """Return how many sockets are in TIME_WAIT at most.

    A port that may be taken over earlier stays in it until it is.
    """
    return min(demand.four_tuples, per_s * demand.time_wait_s) if demand.closes_first == PROXY else 0.0


def _search_cores(demand: Demand, full_share: float) -> float:
    """Return how many processors pass over taken ports.

    None do where the socket has a range, or the application names the port.
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
