"""Writes a plan's advice: sentences that say what to do, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping

from twlab.planner.demand import LINUX_TIME_WAIT_S, ORIGIN, REUSE_LOOPBACK, REUSE_ON, Demand
from twlab.planner.ways import RECOMMENDED, Way
from twlab.ports import PortChoice

_BUSY = 0.1  # processors: less than that is not worth a sentence
ROOM = 1.25  # how far above the rate a ceiling should be, since neither arrivals nor origins are even


def advise(demand: Demand, asked: Way, ways: Mapping[str, Way], longest_s: float) -> list[str]:
    """Write the recommendation, a sentence or two each, the most important first.

    Args:
        asked: the present way.
        ways: the others, by name.
        longest_s: the longest TIME_WAIT with which the ports suffice.
    """
    return [
        _situation(demand, asked),
        *_what_to_do(demand, asked, ways),
        *_who_binds(demand, asked, ways),
        *_processor(demand, asked),
        *_reuse(demand),
        *_how_low(demand, asked, longest_s),
        *_what_not(demand, asked),
    ]


def _situation(demand: Demand, asked: Way) -> str:
    used = demand.rate_per_s * asked.hold_s
    text = (
        f"{demand.rate_per_s:,.6g} connections a second, each of which keeps its four-tuple for "
        f"{asked.hold_s:,.6g} s, use {used:,.0f} four-tuples; "
        f"there are {demand.four_tuples:,}."
    )
    answer = asked.answer(demand.rate_per_s)
    if answer == "suffices":
        return f"It suffices: {text}"
    if answer == "at the edge":
        timers = f"on the timers, which may end {demand.late_s:.2f} s late, and " if demand.late_s >= 0.01 else ""
        return (
            f"It is at the edge: {text} Up to {asked.sustained_per_s:,.1f} a second the ports suffice for "
            f"certain; above {asked.ceiling_per_s:,.1f} "
            f"connects fail with {_call(asked.error)}. Between the two it depends {timers}on the 2 % to which a "
            "ceiling is measured."
        )
    return (
        f"It does not suffice: {text} {1 - asked.ceiling_per_s / demand.rate_per_s:.1%} of the connects would "
        f"fail with {_call(asked.error)}."
    )


def _what_to_do(demand: Demand, asked: Way, ways: Mapping[str, Way]) -> list[str]:
    if asked.serves(demand.rate_per_s, ROOM) and asked.answer(demand.rate_per_s) == "suffices":
        room = f"there is room for {asked.ceiling_per_s / demand.rate_per_s:,.3g} times the rate"
        if _too_short(demand) and not demand.timestamps:
            return [
                f"Switch timestamps on at both ends, or lengthen TIME_WAIT to {demand.delay_s:g} s and more: {room}."
            ]
        return (
            [f"Leave the ports as they are: {room}."] if asked.search_cores >= _BUSY else [f"Change nothing: {room}."]
        )
    better = asked.ceiling_per_s * 1.01
    good = [
        name
        for name in RECOMMENDED
        if name in ways
        and ways[name].serves(demand.rate_per_s, ROOM)
        and ways[name].ceiling_per_s > better
        and (name != "keep-alive" or demand.keep_alive)
    ]
    if not good:
        alone = (
            f"None of the ways out suffices by itself with {ROOM - 1:.0%} to spare. Combine them: their "
            "factors multiply "
        )
        many = math.ceil(demand.rate_per_s * ROOM * asked.hold_s / (demand.four_tuples / demand.sources))
        kept = "kept connections x " if demand.keep_alive else ""
        return [
            alone
            + f"({kept}source addresses x ports of the origin x range). {many:,} source addresses in all would do."
        ]
    lines = [f"First: {ways[good[0]].change} ({_up_to(ways[good[0]])}): {RECOMMENDED[good[0]]}."]
    return lines + [f"Or: {ways[name].change} ({_up_to(ways[name])}): {RECOMMENDED[name]}." for name in good[1:]]


def _who_binds(demand: Demand, asked: Way, ways: Mapping[str, Way]) -> list[str]:
    """Write about bind() before connect(), of the proxy and of neighbours."""
    lines, first = [], ways.get("bind-first")
    if demand.choice == PortChoice.BIND:
        lines.append(
            "After bind() to port 0 a port serves one connection at a time, to whichever origin, and "
            "tcp_tw_reuse does not apply: bind() fails with "
            "EADDRINUSE. IP_BIND_ADDRESS_NO_PORT mends both (arms tw-reuse-bind-no-port and more-origin-ports of "
            "twlab alternatives)."
        )
    elif (
        demand.closes_first != ORIGIN
        and first is not None
        and first.ceiling_per_s < asked.ceiling_per_s * 0.99
        and first.answer(demand.rate_per_s) != "suffices"
    ):
        share = max(0.0, 1 - first.ceiling_per_s / demand.rate_per_s)
        fails = (
            f"{share:.0%} of the binds fail with EADDRINUSE"
            if share
            else "the rate is at the edge, and past it bind() fails with EADDRINUSE"
        )
        lines.append(
            "All this holds where connect() chooses the port. If the proxy calls bind() to port 0 first, as many "
            "do once they are given a source "
            f"address, or where a kernel shares no port between destinations: {first.ceiling_per_s:,.1f} a "
            f"second, and {fails}. "
            "IP_BIND_ADDRESS_NO_PORT mends it, or a range of named ports."
        )
    if demand.neighbour_per_s:
        lines.append(
            f"Neighbours that bind first keep {demand.taken_by_neighbour:,} ports from every connect() of this "
            "machine, to any destination, until "
            "their TIME_WAIT ends; tcp_tw_reuse does not open them "
            "(scenario neighbour-binds-first). Have them set IP_BIND_ADDRESS_NO_PORT, or "
            "give either side a separate range: "
            "IP_LOCAL_PORT_RANGE, or named ports outside ip_local_port_range (then "
            f"{ways['separate-range'].ceiling_per_s:,.1f} a second)."
        )
    return lines


def _processor(demand: Demand, asked: Way) -> list[str]:
    """Write about the processor time of connect() past half the range."""
    if asked.search_cores < _BUSY:
        return []
    text = (
        f"The range is {asked.full_share:.0%} full. From half of it on connect() passes over all taken ports of "
        "one parity before it tries the "
        f"other: some {asked.search_cores:.1g} processors are busy with that at this rate, before any connect "
        "fails. Stay below half (more source "
        "addresses, origins or ports), or set IP_LOCAL_PORT_RANGE, which is searched without that detour "
        "(docs/findings/ceiling.md)."
    )
    return [text]


def _reuse(demand: Demand) -> list[str]:
    """Write what tcp_tw_reuse does here, where it is on."""
    if demand.closes_first == ORIGIN:
        return []
    if demand.tw_reuse == REUSE_LOOPBACK:
        if demand.loopback:
            return [
                (
                    "On loopback tcp_tw_reuse=2, Linux's default, already applies to 127.0.0.0/8 and ::1; to the "
                    "machine's other addresses it does not."
                )
            ]
        return []
    if demand.tw_reuse != REUSE_ON:
        return []
    if demand.reuses:
        text = (
            "If connect() fails with EADDRNOTAVAIL all the same, look for one of three (docs/findings/answers.md): "
            "timestamps off at the origin (TWRecycled "
        )
        return [
            text + "does not grow); a port taken by bind() first, by the proxy or a neighbour; connections that are "
            "open, and not closed yet."
        ]
    why = (
        "timestamps are off"
        if not demand.timestamps
        else f"{demand.without_timestamps:,} of {demand.origins:,} origins have no timestamps"
    )
    if demand.all_timestamps:
        why = (
            "the application names its ports"
            if demand.choice == PortChoice.EXPLICIT
            else "bind() comes before connect()"
        )
    return [f"tcp_tw_reuse=1 does nothing for what limits you here: {why}."]


def _how_low(demand: Demand, asked: Way, longest_s: float) -> list[str]:
    if demand.closes_first != "proxy":
        text = (
            "The length of TIME_WAIT does not matter to the proxy's ports, since the origin closes first. That holds "
            "for origins whose TCP opens a TIME_WAIT for a newer SYN, as Linux and gVisor do. One with lwIP keeps it "
            "for 120 s, unless its pool of control blocks is small, and connects to it hang (scenario "
            "origin-closes-first)."
        )
        return [text]
    if demand.kept_s < demand.time_wait_s:
        return ["The length of TIME_WAIT does not matter to these ports, which are taken over before it ends."]
    if longest_s <= 0:
        return [
            (
                "No length of TIME_WAIT would help: the connections that are open at a time need more four-tuples "
                "than there are."
            )
        ]
    length = f"The ports suffice with a TIME_WAIT of up to {longest_s:,.4g} s"
    if longest_s >= LINUX_TIME_WAIT_S and asked.answer(demand.rate_per_s) == "at the edge":
        lines = [
            (
                f"{length}, if it is kept to the tick; Linux's timers may make "
                f"{demand.time_wait_s + demand.late_s:,.2f} s of yours."
            )
        ]
    elif longest_s >= LINUX_TIME_WAIT_S:
        lines = [f"{length}; Linux's 60 s need not be shortened."]
    elif longest_s < demand.delay_s:
        lines = [
            (
                f"{length}. Do not go there: a segment may be {demand.delay_s:g} s old, and would meet the next "
                "connection of its four-tuple."
            )
        ]
    else:
        lines = [
            (
                f"{length}, which a segment of {demand.delay_s:g} s does not outlive; still it is the last of the "
                "ways out, not the first."
            )
        ]
    if _too_short(demand):
        guard = (
            "PAWS drops it as long as it has its timestamp (scenarios stale-data, stale-segment)"
            if demand.all_timestamps
            else "without timestamps nothing stops it (scenario stale-data)"
        )
        lines.append(
            f"The TIME_WAIT of {demand.time_wait_s:g} s asked for is shorter than the oldest segment, "
            f"{demand.delay_s:g} s: {guard}."
        )
    return lines


def _what_not(demand: Demand, asked: Way) -> list[str]:
    if asked.serves(demand.rate_per_s, ROOM):
        return []
    worse = (
        "Not, though they sustain the rate: tcp_tw_recycle (shuts out clients behind NAT: recycle-nat), "
        "SO_LINGER 0 (cuts data off: "
    )
    worse += (
        "linger-truncation), a low tcp_max_tw_buckets (no TIME_WAIT at all, unannounced: overflow). And not "
        "tcp_fin_timeout (another timer: "
    )
    lines = [worse + "fin-timeout-myth)."]
    if not demand.all_timestamps:
        lines.append(
            "Switch timestamps on at both ends: they are what makes any early reuse of a four-tuple bearable, "
            "and tcp_tw_reuse needs them."
        )
    return lines


def _rate(per_s: float) -> str:
    return f"{per_s:,.0f}" if per_s >= 100 else f"{per_s:.3g}"


def _too_short(demand: Demand) -> bool:
    return demand.closes_first == "proxy" and demand.time_wait_s < demand.delay_s


def _call(error: str) -> str:
    call, _, errno = error.partition(" ")
    return f"{errno} from {call}()"


def _up_to(way: Way) -> str:
    return (
        "ports are then no limit" if way.ceiling_per_s == float("inf") else f"up to {_rate(way.ceiling_per_s)} a second"
    )
