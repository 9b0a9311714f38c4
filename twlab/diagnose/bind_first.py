"""Tells from the ports whether a program called bind() before connect().

connect() takes ports of the parity of the range's low end, and goes on to the others when those are
used up; bind(address, 0) does the opposite (Linux net/ipv4/inet_hashtables.c, __inet_hash_connect;
net/ipv4/inet_connection_sock.c, inet_csk_find_open_port). connect() shares one port among
destinations, bind() never does. IP_BIND_ADDRESS_NO_PORT makes bind() leave the port to connect();
the kernel shows the option of live sockets. A port that a program named, or drew from
IP_LOCAL_PORT_RANGE, has either parity.

The parities are kept apart since Linux 4.6 (1580ab63fc9a, ea8add2b1903).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FEWEST = 50  # with fewer ports there is no verdict
_ALL = 0.98  # of the ports: counts as all, since two programs that share a pool leave a few stray ones
_HALF_FULL = 0.97  # of the ports of one parity: the search has gone on to the other
_SHARED_LEAST = 10  # ports that destinations should share, for their absence to say something
_NONE_SHARED, _MANY_SHARED = 0.02, 0.3  # of the ports that they should share
_STRAYS = 10  # ports of the other parity that may have been named
_ASSUMED = ", if the range begins at an even port"
_NARROW = 0.5  # of the range: a program that spans less has a range to itself
_EVEN = 0.2  # of the ports: a difference between the parities that says nothing
_KEEPS_PARITY = (4, 6)  # the first Linux where both connect() and bind() do
YES, NO, MIXED, UNKNOWN = "yes", "no", "some", "cannot tell"


@dataclass(frozen=True)
class Bind:
    """The verdict on bind() before connect().

    Attributes:
        verdict: ``yes``, ``no``, ``some`` (both kinds in one pool), ``cannot tell``.
        why: the evidence, with its numbers.
        confidence: ``sure``, ``likely``, or empty.
        of_bind: ports with the parity that bind() chooses, of `ports`.
    """

    verdict: str
    why: str
    confidence: str = ""
    of_bind: int = 0
    ports: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return dict(vars(self))


@dataclass(frozen=True)
class Range:
    """The ports that there are: ip_local_port_range less the reserved ones.

    Attributes:
        usable: a flag for each of 65,536 ports.
        step_width: of ip_local_port_step_width; above 1 the parity says nothing.
        known: the range was read, and not assumed.
        kernel: Linux's version.
    """

    low: int
    high: int
    usable: NDArray[np.bool_]
    step_width: int = 1
    known: bool = True
    kernel: tuple[int, int] = _KEEPS_PARITY

    @property
    def parity_tells(self) -> bool:
        """Whether the parity of a port says which call chose it."""
        return self.step_width == 1 and self.kernel >= _KEEPS_PARITY

    @property
    def size(self) -> int:
        """Count them."""
        return int(np.count_nonzero(self.usable))

    def of_parity(self, ports: NDArray[np.bool_], bind: bool) -> int:
        """Count the flagged ports that connect() prefers, or that bind() does."""
        first = (self.low & 1) ^ int(bind)
        return int(np.count_nonzero((ports & self.usable)[first::2]))


class Band(NamedTuple):
    """The ports between which all of a pool's lie, and how many of them are in use."""

    low: int
    high: int
    used: int

    @property
    def size(self) -> int:
        """Count the ports of the band."""
        return self.high - self.low + 1


def own_range(ports: NDArray[np.bool_], span: Range) -> Band | None:
    """Find the range that a program has to itself; None if nothing shows one.

    connect() takes the ports of a destination near each other, too, but of one parity. With
    IP_LOCAL_PORT_RANGE, and where a program names ports of a range, both parities are in use.

    Args:
        ports: of the pool, a flag each, those outside of `span` included.
    """
    used = np.flatnonzero(ports)
    if len(used) < FEWEST or not span.parity_tells:
        return None
    band = Band(int(used[0]), int(used[-1]), len(used))
    odd = int(np.count_nonzero(used & 1))
    if band.size >= _NARROW * (span.high - span.low) or abs(2 * odd - len(used)) >= _EVEN * len(used):
        return None
    return band


def doubtful(
    ports: NDArray[np.uint16], ages_s: NDArray[np.float64], most_per_s: float, taken: NDArray[np.bool_], span: Range
) -> NDArray[np.bool_]:
    """Flag ports of closed connections whose parity says nothing.

    connect() may have used up its own parity when it chose them: of the ports that were taken then,
    some have come back since.

    Args:
        ports: of each closed connection.
        ages_s: time since its close.
        most_per_s: closes in the busiest second: so many ports may come back in one.
        taken: ports that connect() finds taken now.
    """
    room = _HALF_FULL * span.of_parity(span.usable, False) - span.of_parity(taken, False)
    flags = np.zeros(65536, np.bool_)
    flags[ports[ages_s * most_per_s >= room]] = True
    return flags


def judge(
    ports: NDArray[np.bool_],
    blocked: NDArray[np.bool_],
    source: NDArray[np.bool_],
    no_port: tuple[int, int],
    span: Range,
    doubted: NDArray[np.bool_] | None = None,
) -> Bind:
    """Judge a pool by the option of its live sockets, and the parity of its ports.

    Args:
        ports: of the pool, a flag each.
        blocked: ports that connect() finds taken for other reasons.
        source: all ports in use with the pool's source address.
        no_port: live sockets with IP_BIND_ADDRESS_NO_PORT, and live sockets whose option is known.
        doubted: ports of `doubtful`.
    """
    by_parity = _by_parity(ports, blocked, source, span)
    if doubted is not None and by_parity.verdict in (YES, MIXED):
        by_parity = _without(doubted, by_parity, ports, blocked, source, span)
    if not no_port[0] or no_port[0] < no_port[1]:
        return by_parity
    text = f"all {no_port[1]:,} live sockets have IP_BIND_ADDRESS_NO_PORT"
    if no_port[1] < FEWEST and by_parity.verdict in (YES, MIXED):
        return replace(by_parity, verdict=MIXED, why=f"{text}, yet {by_parity.why}", confidence="likely")
    return replace(by_parity, verdict=NO, why=text, confidence="sure")


def _without(
    doubted: NDArray[np.bool_],
    verdict: Bind,
    ports: NDArray[np.bool_],
    blocked: NDArray[np.bool_],
    source: NDArray[np.bool_],
    span: Range,
) -> Bind:
    """Judge again without the ports that bind() may not have chosen.

    What they alone showed is not known.
    """
    left_out = span.of_parity(ports & doubted, True)
    if left_out <= max(_STRAYS, (1 - _ALL) * verdict.ports):
        return verdict
    other = np.arange(65536) % 2 != span.low % 2
    rest = _by_parity(ports & ~(doubted & other), blocked, source, span)
    if rest.verdict in (YES, MIXED):
        return replace(rest, of_bind=verdict.of_bind, ports=verdict.ports)
    why = (
        f"{left_out:,} of {verdict.ports:,} ports have the parity that connect() avoids, but the range may have "
        "been past its half when they were chosen"
    )
    return replace(verdict, verdict=UNKNOWN, why=why, confidence="")


def _by_parity(ports: NDArray[np.bool_], blocked: NDArray[np.bool_], source: NDArray[np.bool_], span: Range) -> Bind:
    of_bind, of_connect = span.of_parity(ports, True), span.of_parity(ports, False)
    count = of_bind + of_connect

    def found(verdict: str, why: str, confidence: str = "") -> Bind:
        likely = confidence == "sure" and not span.known
        return Bind(verdict, why + _ASSUMED * likely, "likely" if likely else confidence, of_bind, count)

    if span.step_width > 1:
        return found(UNKNOWN, "ip_local_port_step_width is set, so the parity of ports says nothing")
    if not span.parity_tells:
        return found(UNKNOWN, "Linux before 4.6 chooses ports of either parity")
    if count < FEWEST:
        return found(UNKNOWN, f"only {count} ports; their parity tells from {FEWEST} on")
    connect_spills, bind_spills = _used_up(ports | blocked, False, span), _used_up(source, True, span)
    bind_text = f"{of_bind:,} of {count:,} ports have the parity that bind() chooses and connect() avoids"
    connect_text = f"{of_connect:,} of {count:,} ports have the parity that connect() chooses"
    if of_bind >= _ALL * count and not connect_spills:
        return found(YES, bind_text, "sure")
    if of_connect >= _ALL * count and not bind_spills:
        return found(NO, connect_text, "sure")
    if connect_spills or bind_spills:
        return found(UNKNOWN, "half of the range is used up: from there on both kinds of program use both parities")
    used = np.flatnonzero(ports & span.usable)
    if used[-1] - used[0] < _NARROW * (span.high - span.low) and abs(of_bind - of_connect) < _EVEN * count:
        only = f"ports of both parities between {used[0]} and {used[-1]} only"
        return found(UNKNOWN, f"{only}: the program has a range to itself")
    if min(of_bind, of_connect) < max(_STRAYS, 0.1 * count):
        return found(YES, bind_text, "likely") if of_bind > of_connect else found(NO, connect_text, "likely")
    return found(MIXED, f"{bind_text}, the others that of connect(): two kinds of program", "likely")


def _used_up(ports: NDArray[np.bool_], bind: bool, span: Range) -> bool:
    there = span.of_parity(span.usable, bind)
    return span.of_parity(ports, bind) >= _HALF_FULL * there


def judge_by_sharing(counts: NDArray[np.int64], sizes: NDArray[np.int64], span: Range) -> Bind | None:
    """Judge all pools of one source by the ports that they share.

    None if the shared ports decide nothing.

    Args:
        counts: sockets of each of 65,536 ports, over all destinations.
        sizes: ports of each destination.
    """
    inside = counts[span.usable]
    size = span.size
    if len(sizes) < 2 or not size:
        return None
    # `expected` ports would have two or more sockets if the ports of each destination were drawn
    # without regard to the others.
    shares = np.minimum(sizes / size, 1 - 1e-9)
    none = float(np.prod(1 - shares))
    expected = size * (1 - none - none * float((shares / (1 - shares)).sum()))
    if expected < _SHARED_LEAST:
        return None
    shared = int(np.count_nonzero(inside > 1))
    text = f"{int(inside.sum()):,} sockets to {len(sizes):,} destinations use {int(np.count_nonzero(inside)):,} ports"
    return _by_shared(shared, expected, f"{text} and share {shared:,}", "as connect() does")


def judge_apart(ports: NDArray[np.bool_], others: NDArray[np.bool_], span: Range) -> Bind | None:
    """Judge a pool by what it shares with pools that leave the port to connect().

    None if they decide nothing.

    Args:
        ports: of the pool, a flag each.
        others: ports of those pools, a flag each.
    """
    mine, theirs = (int(np.count_nonzero(flags & span.usable)) for flags in (ports, others))
    expected = mine * theirs / max(1, span.size)
    if expected < _SHARED_LEAST:
        return None
    shared = int(np.count_nonzero(ports & others & span.usable))
    text = f"of its {mine:,} ports {shared:,} are also used by pools that leave the port to connect()"
    return _by_shared(shared, expected, text, "as with connect()")


def _by_shared(shared: int, expected: float, text: str, as_connect: str) -> Bind | None:
    """Judge by the ports that are shared, beside those that connect() is expected to share."""
    if shared < _NONE_SHARED * expected:
        return Bind(YES, f"{text}; connect() would share some {expected:,.0f}", "sure")
    if shared > _MANY_SHARED * expected:
        return Bind(NO, f"{text}, {as_connect}", "sure")
    return None
