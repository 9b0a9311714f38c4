"""A plan in plain words: what to do, and why. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twlab.planner.plan import Demand, Way

ROOM = 1.25  # how far above the rate a ceiling should be, since neither arrivals nor origins are even
# What costs no correctness first. Shortening comes after all of these, if it comes.
_BEST = ("keep-alive", "wider-range", "more-sources", "more-origin-ports", "tw-reuse", "origin-closes-first")
_WHY = {
    "keep-alive": "it saves the handshakes, too, and every closed connection keeps its whole TIME_WAIT",
    "wider-range": "one sysctl, and every closed connection keeps its whole TIME_WAIT; see that no service listens in the range",
    "more-sources": "every closed connection keeps its whole TIME_WAIT",
    "more-origin-ports": "every closed connection keeps its whole TIME_WAIT; a proxy that calls bind() before connect() needs "
    "IP_BIND_ADDRESS_NO_PORT, or all origins share one range",
    "tw-reuse": "a port is taken over after a second, from above the old connection's numbers and with PAWS on guard (scenario tw-reuse-safe); "
    "it needs timestamps at both ends, and a proxy that lets connect() choose the port",
    "origin-closes-first": "the TIME_WAIT is then at the origin, whose listening port it does not use up",
}


def advise(demand: Demand, asked: Way, ways: Mapping[str, Way], longest_s: float) -> list[str]:
    """The recommendation, a sentence or two each, the most important first.

    Args:
        asked: the present way.
        ways: the others, by name.
        longest_s: the longest TIME_WAIT with which the ports suffice.
    """
    return [
        _situation(demand, asked),
        *_what_to_do(demand, asked, ways),
        *_how_low(demand, longest_s),
        *_what_not(demand, asked),
    ]


def _situation(demand: Demand, asked: Way) -> str:
    used = demand.rate_per_s * demand.hold_s
    text = (
        f"{demand.rate_per_s:,.6g} connections a second, each of which keeps its four-tuple for {demand.hold_s:,.6g} s, use {used:,.0f} four-tuples; "
        f"there are {demand.four_tuples:,}."
    )
    if asked.serves(demand.rate_per_s):
        return f"It suffices: {text}"
    return f"It does not suffice: {text} {1 - asked.ceiling_per_s / demand.rate_per_s:.1%} of the connects would fail with EADDRNOTAVAIL."


def _what_to_do(demand: Demand, asked: Way, ways: Mapping[str, Way]) -> list[str]:
    if asked.serves(demand.rate_per_s, ROOM):
        room = f"there is room for {asked.ceiling_per_s / demand.rate_per_s:,.3g} times the rate"
        if _too_short(demand) and not demand.timestamps:
            return [
                f"Switch timestamps on at both ends, or lengthen TIME_WAIT to {demand.delay_s:g} s and more: {room}."
            ]
        return [f"Change nothing: {room}."]
    good = [
        name
        for name in _BEST
        if ways[name].serves(demand.rate_per_s, ROOM) and (name != "tw-reuse" or demand.timestamps)
    ]
    if not good:
        alone = f"None of the ways out suffices by itself with {ROOM - 1:.0%} to spare. Combine them: their factors multiply "
        many = math.ceil(demand.rate_per_s * ROOM * demand.hold_s / (demand.ports * demand.origins))
        return [
            alone
            + f"(kept connections x source addresses x ports of the origin x range). {many:,} source addresses in all would do."
        ]
    lines = [f"First: {ways[good[0]].change} ({_up_to(ways[good[0]])}): {_WHY[good[0]]}."]
    lines += [f"Or: {ways[name].change} ({_up_to(ways[name])}): {_WHY[name]}." for name in good[1:]]
    return lines


def _how_low(demand: Demand, longest_s: float) -> list[str]:
    if demand.closes_first != "proxy":
        return ["The length of TIME_WAIT does not matter to the proxy's ports, since the origin closes first."]
    if longest_s <= 0:
        return [
            "No length of TIME_WAIT would help: the connections that are open at a time need more four-tuples than there are."
        ]
    length = f"The ports suffice with a TIME_WAIT of up to {longest_s:,.4g} s"
    if longest_s >= 60:
        lines = [f"{length}; Linux's 60 s need not be shortened."]
    elif longest_s < demand.delay_s:
        lines = [
            f"{length}. Do not go there: a segment may be {demand.delay_s:g} s old, and would meet the next connection of its four-tuple."
        ]
    else:
        lines = [
            f"{length}, which a segment of {demand.delay_s:g} s does not outlive; still it is the last of the ways out, not the first."
        ]
    if _too_short(demand):
        guard = (
            "PAWS drops it as long as it has its timestamp (scenarios stale-data, stale-segment)"
            if demand.timestamps
            else "without timestamps nothing stops it (scenario stale-data)"
        )
        lines.append(
            f"The TIME_WAIT of {demand.time_wait_s:g} s asked for is shorter than the oldest segment, {demand.delay_s:g} s: {guard}."
        )
    return lines


def _what_not(demand: Demand, asked: Way) -> list[str]:
    if asked.serves(demand.rate_per_s, ROOM):
        return []
    worse = "Not: tcp_tw_recycle (shuts out clients behind NAT: recycle-nat), SO_LINGER 0 (cuts data off: linger-truncation), a low "
    lines = [
        worse
        + "tcp_max_tw_buckets (no TIME_WAIT at all, unannounced: overflow), tcp_fin_timeout (another timer: fin-timeout-myth)."
    ]
    if not demand.timestamps:
        lines.append(
            "Switch timestamps on at both ends: they are what makes any early reuse of a four-tuple bearable, and tcp_tw_reuse needs them."
        )
    return lines


def _too_short(demand: Demand) -> bool:
    return demand.closes_first == "proxy" and demand.time_wait_s < demand.delay_s


def _up_to(way: Way) -> str:
    return (
        "ports are then no limit" if way.ceiling_per_s == float("inf") else f"up to {way.ceiling_per_s:,.0f} a second"
    )
