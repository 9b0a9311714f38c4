"""Finds the causes that lie in pools of ports.

A finding is a cause with its evidence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from twlab.diagnose import bind_first
from twlab.diagnose.pool import FULL, Measured, Pool
from twlab.diagnose.snapshot import Namespace

FAULT, WARNING, NOTE = "fault", "warning", "note"
_MUCH, _SOME = 0.5, 0.1  # of the range
_WORTH_A_WORD = 1000  # ports of a search that is long enough to be felt


class Evidence(NamedTuple):
    """A fact, and where it was read."""

    text: str
    source: str


@dataclass(frozen=True)
class Finding:
    """One cause of trouble, or a fact that rules one out.

    Attributes:
        cause: its stable name, e.g. ``time-wait-fills-ports``.
        weight: ``fault`` (connections fail, or would), ``warning`` (they will, or it costs),
            ``note``.
        text: one sentence.
        evidence: facts and their sources.
        remedy: what to do; empty where nothing has to be done, or the advice says it.
        shows: what to run to see the claim in the lab, e.g. ``overflow`` or ``port-exhaustion --arm
            above``.
        pool: which pool it is about; empty for the whole namespace.
    """

    cause: str
    weight: str
    text: str
    evidence: tuple[Evidence, ...]
    remedy: str = ""
    shows: tuple[str, ...] = ()
    pool: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**vars(self), "evidence": [fact._asdict() for fact in self.evidence], "shows": list(self.shows)}


def of_pools(place: Namespace, measured: Measured) -> Iterator[Finding]:
    """Find the causes that the pools show."""
    shared = set[str]()
    for pool in measured.pools:
        if not (pool.binds and pool.source in shared):  # they share their ports: one finding is enough
            yield from _fullness(pool, place)
        shared |= {pool.source} if pool.binds else set()
        yield from _half_full(pool, measured, place)
        yield from _own_range(pool, place)
        yield from _peer_without_timestamps(pool, place)
    yield from _bind_first(measured, place)
    yield from _neighbours(measured, place)


def _occupancy(pool: Pool, place: Namespace) -> Evidence:
    states = ", ".join(f"{count:,} {state}" for state, count in sorted(pool.states.items(), key=lambda item: -item[1]))
    return Evidence(
        f"{pool.taken:,} of {pool.capacity:,} ports are taken; sockets of this pool: {states}", place.socket_source
    )


def _closes(pool: Pool, place: Namespace) -> Evidence:
    closes = pool.rate
    if closes is None:
        return Evidence("no socket of this pool is in TIME_WAIT", place.socket_source)
    how = "if the rate is steady: the text has no timers"
    if closes.dated:
        how = (
            f"over the last {closes.window_s:g} s by the timers of TIME_WAIT, {closes.peak_per_s:,.0f} in "
            "the busiest second"
        )
    return Evidence(f"{pool.rate_per_s:,.0f} closes a second ({how})", place.socket_source)


def _fullness(pool: Pool, place: Namespace) -> Iterator[Finding]:
    ahead = pool.forecast
    waiting = pool.taken - pool.open_ports
    ports = f"from {pool.source}, shared by all its destinations," if pool.sharers > 1 else f"to {pool.name}"
    full = pool.fill >= FULL
    if not full and (ahead is None or ahead.full_in_s is None):
        return
    facts: tuple[Evidence, ...] = (_occupancy(pool, place), _closes(pool, place))
    if pool.reuse_doubted:
        facts = (
            *facts,
            Evidence(
                "tcp_tw_reuse would apply to connect(), yet nothing shows that ports were taken over",
                place.setting_source,
            ),
        )
    fails = "bind() fails with EADDRINUSE" if pool.binds else "connect() fails with EADDRNOTAVAIL"
    if 2 * waiting < pool.taken:
        if not full:
            return
        text = (
            f"The ports {ports} are held by open connections, not by TIME_WAIT: {pool.open_ports:,} of "
            f"{pool.capacity:,}; {fails}."
        )
        remedy = "More source addresses, more destinations or a wider range; a shorter TIME_WAIT would change nothing."
        yield Finding(
            "live-connections-fill-ports", FAULT, text, facts, remedy, ("port-exhaustion --arm sources",), pool.name
        )
    elif full:
        over = f" Half of the TIME_WAITs end within {ahead.over_in_s:.0f} s." if ahead and ahead.over_in_s else ""
        text = f"It is TIME_WAIT: {waiting:,} of the {pool.capacity:,} ports {ports} are in it, and {fails}.{over}"
        yield Finding("time-wait-fills-ports", FAULT, text, facts, "", ("port-exhaustion --arm above",), pool.name)
    else:
        assert ahead and ahead.full_in_s is not None
        ceiling = (
            f"the ports suffice for {pool.joint_ceiling_per_s:,.0f} a second"
            if pool.joint_ceiling_per_s
            else "no port is free for TIME_WAIT"
        )
        text = (
            f"At {pool.joint_per_s:,.0f} closes a second the ports {ports} are used up in "
            f"{ahead.full_in_s:.0f} s; {ceiling}."
        )
        yield Finding(
            "time-wait-will-fill-ports", WARNING, text, facts, "", ("port-exhaustion --arm above",), pool.name
        )


def _half_full(pool: Pool, measured: Measured, place: Namespace) -> Iterator[Finding]:
    """Find pools past half their range: connect() first tries one parity in vain."""
    half = measured.span.of_parity(measured.span.usable, bind=False)
    if pool.binds or pool.capacity < _WORTH_A_WORD or pool.fill < _MUCH or not measured.span.parity_tells:
        return
    taken = measured.span.of_parity(pool.taken_flags, bind=False)
    if taken < 0.97 * half:
        return
    text = (
        f"The range to {pool.name} is past its half: each connect() tries {half:,} ports in vain before it "
        "comes to a free one."
    )
    facts = (Evidence(f"{taken:,} of the {half:,} ports that connect() tries first are taken", place.socket_source),)
    remedy = (
        "Spread over more source addresses or destinations: the search costs CPU in every connect(), seen "
        "as system time."
    )
    yield Finding("half-full-range", WARNING, text, facts, remedy, (), pool.name)


def _own_range(pool: Pool, place: Namespace) -> Iterator[Finding]:
    """Find pools whose program has a range of ports to itself."""
    band = pool.own_range
    if band is None:
        return
    full = band.used >= FULL * band.size
    text = (
        f"{_who([pool])} takes its ports to {pool.name} from {band.low} to {band.high} only, and {band.used:,} "
        f"of these {band.size:,} are in use{': they are used up, if its range ends there' if full else ''}."
    )
    facts = (
        Evidence("both parities alike, where connect() over the whole range keeps to one (sure)", place.socket_source),
        Evidence("ports that were in use before are not seen: its range may be wider (likely not)", place.socket_source)
        if full
        else Evidence("its range may be wider than the ports that are in use now", place.socket_source),
    )
    remedy = (
        "Widen the range in the program (IP_LOCAL_PORT_RANGE; HAProxy: source ADDRESS:LOW-HIGH); "
        "net.ipv4.ip_local_port_range does nothing for it."
    )
    yield Finding("own-port-range", FAULT if full else NOTE, text, facts, remedy if full else "", (), pool.name)


def _peer_without_timestamps(pool: Pool, place: Namespace) -> Iterator[Finding]:
    have, asked = pool.timestamps
    if not asked or have or place.number("tcp_timestamps") == 0:
        return
    weight = WARNING if place.number("tcp_tw_reuse") == 1 or pool.fill > _SOME else NOTE
    text = (
        f"Connections to {pool.name} have no timestamps: tcp_tw_reuse does nothing for them, and only TIME_WAIT "
        "keeps old segments out of new connections."
    )
    facts = (Evidence(f"none of {asked} live connections has timestamps", f"{place.socket_source}, tcp_info"),)
    remedy = "Switch timestamps on at the peer, or at the middlebox that strips them."
    yield Finding(
        "timestamps-off-at-peer",
        weight,
        text,
        facts,
        remedy,
        ("port-exhaustion --arm tw-reuse-no-timestamps",),
        pool.name,
    )


def _bind_first(measured: Measured, place: Namespace) -> Iterator[Finding]:
    for source in dict.fromkeys(pool.source for pool in measured.pools if pool.binds):
        binders = [pool for pool in measured.pools if pool.binds and pool.source == source]
        first = binders[0]
        who = _who(binders)
        weight = FAULT if first.fill >= FULL else WARNING if first.fill >= _SOME or len(binders) > 1 else NOTE
        counted = len(binders) > 1 and not measured.others
        many = f"{len(binders)} destinations share" if counted else "all its destinations share"
        fails = "; bind() fails with EADDRINUSE" if first.fill >= FULL else ""
        text = (
            f"{who} calls bind() before connect(): {many} one pool of {first.capacity:,} ports at {source}, "
            f"and {first.taken:,} are taken{fails}."
        )
        facts = [Evidence(f"{why} ({first.bind.confidence})", place.socket_source) for why in _reasons(binders)]
        if place.number("tcp_tw_reuse") == 1:
            facts.append(Evidence("tcp_tw_reuse=1 does nothing for a port that bind() chooses", place.setting_source))
        remedy = (
            "Set IP_BIND_ADDRESS_NO_PORT in the program (Envoy, HAProxy, nginx, curl do), or give it no source address."
        )
        yield Finding(
            "bind-before-connect",
            weight,
            text,
            tuple(facts),
            remedy,
            ("port-exhaustion --arm origins-bind-first --arm origins-bind-no-port",),
            first.name,
        )
    for pool in measured.pools:
        if pool.bind.verdict == bind_first.MIXED:
            text = f"Two kinds of program connect to {pool.name}: one calls bind() before connect(), one does not."
            fact = Evidence(f"{pool.bind.why} ({pool.bind.confidence})", place.socket_source)
            yield Finding(
                "some-bind-before-connect",
                WARNING,
                text,
                (fact,),
                "Find the one that binds: ss -tanp --inet-sockopt",
                (),
                pool.name,
            )


def _neighbours(measured: Measured, place: Namespace) -> Iterator[Finding]:
    """Find the pools whose ports other programs have bound.

    Such a port is closed to every other program's connect(), to any destination.
    """
    for pool in measured.pools:
        bound = measured.taken_by_binders.get(pool.source, 0)
        if pool.binds or bound < bind_first.FEWEST:
            continue
        binders = [other for other in measured.pools if other.binds and other.source == pool.source]
        weight = FAULT if pool.fill >= FULL else WARNING if bound >= _SOME * pool.capacity else NOTE
        text = (
            f"A neighbour takes ports from {pool.name}: {_who(binders)} binds first and holds "
            f"{bound:,} of {pool.capacity:,}, which no other program's connect() gets, to any destination."
        )
        facts = [Evidence(text, place.socket_source) for text in _reasons(binders)]
        remedy = (
            "Give the neighbour another source address, or have it set IP_BIND_ADDRESS_NO_PORT; "
            "tcp_tw_reuse does not help here."
        )
        yield Finding("neighbour-binds-first", weight, text, tuple(facts), remedy, (), pool.name)


def _reasons(binders: list[Pool]) -> list[str]:
    """Return why these pools bind first.

    A reason that holds for all pools of a source is given once.
    """
    by_reason: dict[str, list[str]] = {}
    for pool in binders:
        by_reason.setdefault(pool.bind.why, []).append(pool.name)
    return [f"{names[0]}: {why}" if len(names) == 1 else why for why, names in list(by_reason.items())[:3]]


def _who(pools: list[Pool]) -> str:
    owners = list(dict.fromkeys(owner for pool in pools for owner in pool.owners))
    return ", ".join(owners[:3]) if owners else f"A program (at {pools[0].source})"
