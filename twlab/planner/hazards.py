"""Remaining hazards and their probabilities: formula, source, scenario.

All probabilities are per connection, and rest on the same assumptions, so that they can be
compared:

- a share of the connections leaves a segment behind that arrives late; its age is anything up to
  the largest delay, all ages alike likely;
- a four-tuple is open at a moment of no special kind with probability rate x life / four-tuples
  (Little's law);
- loss strikes each segment independently.

They are estimates for choosing between alternatives. The scenarios show that each mechanism is
real.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from twlab import isn

DAY_S = 86_400
NEVER_YEARS = 1e6
SPACE = 2**32
FIRST_FIN_AGAIN_S = 0.2  # Linux's least retransmission timeout, which doubles each time (RFC 6298)


@dataclass(frozen=True, kw_only=True)
class World:
    """The quantities that hazards depend on.

    Attributes:
        rate_per_s: connections that come about, a second.
        four_tuples: that they are spread over.
        life_s: from connect to close.
        quiet_s: how long after its close a four-tuple is kept from being opened again.
        time_wait_s: how long a closed connection answers for itself; 0: not at all.
        timestamps: both ends use them.
        throughput: bytes a second that a connection sends while it is open.
        delay_s: the oldest segment there is.
        window: receive window in bytes.
        late_share: share of connections that leave a late segment.
        loss_share: share of segments that are lost.
        ceiling_per_s: the rate that the ports can sustain.
        wanted_per_s: the rate that is asked for.
    """

    rate_per_s: float
    four_tuples: int
    life_s: float
    quiet_s: float
    time_wait_s: float
    timestamps: bool
    throughput: float
    delay_s: float
    window: int
    late_share: float
    loss_share: float
    ceiling_per_s: float
    wanted_per_s: float

    @property
    def open_share(self) -> float:
        """Probability that a four-tuple is open at some moment."""
        return min(1.0, self.rate_per_s * self.life_s / self.four_tuples)

    @property
    def outlives_quiet(self) -> float:
        """Probability that a segment arrives when its four-tuple may be open again.

        Per connection.
        """
        return self.late_share * max(0.0, 1 - self.quiet_s / self.delay_s)

    @property
    def overlaps(self) -> bool:
        """Whether a later connection can have the sequence numbers of the earlier one.

        That depends on the clock of initial sequence numbers.
        """
        first, last = isn.PER_SECOND * (self.life_s + self.quiet_s), isn.PER_SECOND * (self.life_s + self.delay_s)
        turns = max(0, math.ceil((first - self.throughput * self.life_s - self.window) / SPACE))
        return turns * SPACE <= last


class Kind(NamedTuple):
    """A kind of hazard.

    Attributes:
        scenario: the scenario that demonstrates it.
        what: happens, in words.
        formula: of the probability per connection, in words.
        source: of the formula.
        chance: the formula.
        inbound: it strikes connections that others make to this machine; of those a plan knows no
            rate.
    """

    scenario: str
    what: str
    formula: str
    source: str
    chance: Callable[[World], float]
    inbound: bool = False


class Hazard(NamedTuple):
    """A hazard that remains: its kind's name and its probability.

    `per_day` is None for a hazard of inbound connections.
    """

    name: str
    per_connection: float
    per_day: float | None

    def often(self) -> str:
        """Say how often it happens: a number a day, or the time that one takes.

        Of inbound connections it says which share.
        """
        if self.per_day is None:
            return f"{self.per_connection:.0%} of inbound connects"
        if self.per_day >= 0.1:
            return f"{self.per_day:,.0f}" if self.per_day >= 10 else f"{self.per_day:.1f}"
        if self.per_day * 365.25 * NEVER_YEARS < 1:
            return "never"
        years = 1 / self.per_day / 365.25
        if years < 1:
            return f"1 in {1 / self.per_day:,.0f} days"
        return f"1 in {years:,.0f} y"


def _stale_data(world: World) -> float:
    if world.timestamps or not world.overlaps or world.quiet_s >= world.delay_s:
        return 0.0
    fits = min(1.0, world.window / (isn.PER_SECOND * (world.delay_s - world.quiet_s)))
    return world.outlives_quiet * world.open_share * fits


def _unrelated(world: World) -> float:
    paws = 0.5 if world.timestamps else 1.0
    return world.outlives_quiet * world.open_share * isn.chance_in_window(min(world.window, SPACE)) * paws


def _assassination(world: World) -> float:
    return world.late_share * min(1.0, world.time_wait_s / world.delay_s)


def _lost_last_ack(world: World) -> float:
    repeats = math.floor(math.log2(world.time_wait_s / FIRST_FIN_AGAIN_S + 1) + 1e-9)
    return world.loss_share * (1 - (1 - world.loss_share) ** 2) ** repeats


def _refused(world: World) -> float:
    return max(0.0, 1 - world.ceiling_per_s / world.wanted_per_s)


def _answered_late(world: World) -> float:
    again_s = world.four_tuples / world.wanted_per_s
    overtaken = world.throughput * world.life_s > isn.PER_SECOND * again_s
    return 0.0 if world.timestamps or not overtaken else 1.0


KINDS: Mapping[str, Kind] = {
    "stale-data": Kind(
        "stale-data",
        "the application reads bytes of a dead connection, without an error at either end",
        "late share x (1 - quiet / delay) x rate x life / four-tuples x window / (15,625,000/s x (delay - "
        "quiet)); 0 with timestamps, "
        "and 0 as long as no connection outruns the clock of initial sequence numbers",
        "RFC 9293 3.4.1 and 3.6.1; RFC 6528; RFC 7323 5; Linux net/core/secure_seq.c (64 ns a tick)",
        _stale_data,
    ),
    "stale-data-unrelated-isn": Kind(
        "stale-data-unrelated-isn",
        "the same behind a NAT or a virtual address, where initial sequence numbers are unrelated",
        "late share x (1 - quiet / delay) x rate x life / four-tuples x window / 2^32, half with timestamps. A "
        "receiver that follows RFC 5961 "
        "wants a fitting acknowledgement number besides, which makes it rarer still",
        "RFC 9293 3.10.7.4; RFC 5961 5; RFC 7323 5",
        _unrelated,
    ),
    "assassination": Kind(
        "assassination",
        "a late segment ends TIME_WAIT before its time, with tcp_rfc1337=0, as Linux has it",
        "late share x TIME_WAIT / delay, at most the late share",
        "RFC 1337 3",
        _assassination,
    ),
    "lost-last-ack": Kind(
        "lost-last-ack",
        "the peer, whose FIN is answered by a RST, reports a broken connection",
        "loss x (1 - (1 - loss)^2)^n, where the n-th repeated FIN still meets TIME_WAIT: 0.2 s x (2^n - 1) <= "
        "TIME_WAIT",
        "RFC 1323 B.2; RFC 6298; Linux TCP_RTO_MIN",
        _lost_last_ack,
    ),
    "port-exhaustion": Kind(
        "port-exhaustion",
        "connect() fails with EADDRNOTAVAIL, or after bind() to port 0 bind() with EADDRINUSE",
        "1 - ceiling / rate",
        "ports / (life + hold), by four-tuple",
        _refused,
    ),
    "linger-truncation": Kind(
        "linger-truncation",
        "the end of the data is lost, and the sender gets no error",
        "at least the loss of one segment: nothing is repeated after the close",
        "RFC 9293 3.10.5; socket(7)",
        lambda world: world.loss_share,
    ),
    "recycle-nat": Kind(
        "recycle-nat",
        "clients behind one NAT gateway cannot connect to this machine while another one's clock is ahead",
        "1/2 for two machines whose clocks are unrelated; n machines: 1 - 1/n",
        "Linux 4.9 net/ipv4/tcp_metrics.c (tcp_peer_is_proven); measured on 4.9.154",
        lambda world: 0.5 if world.timestamps else 0.0,
        inbound=True,
    ),
    "syn-into-time-wait": Kind(
        "syn-into-time-wait",
        "the origin's TIME_WAIT answers the SYN with an ACK; the connect succeeds a moment later, by way of a reset",
        "0 with timestamps, or while no connection outruns the clock of initial sequence numbers before its "
        "four-tuple's turn comes again; else 1",
        "RFC 1122 4.2.2.13; RFC 6191; Linux tcp_timewait_state_process",
        _answered_late,
    ),
}


def remaining(kinds: tuple[str, ...], world: World, share: float = 1.0, without: float = 0.0) -> list[Hazard]:
    """List those of `kinds` that can happen in `world`, the likeliest first.

    Args:
        share: of the connections that are exposed to them.
        without: share of the connections that have no timestamps, where `world` says that there are
            some.
    """
    parts = [(without, replace(world, timestamps=False)), (1 - without, world)]
    found = []
    for name in kinds:
        chance = sum(part * KINDS[name].chance(of) for part, of in parts) * share
        rate_per_s = world.wanted_per_s if name == "port-exhaustion" else world.rate_per_s
        if chance > 0:
            found.append(Hazard(name, chance, None if KINDS[name].inbound else chance * rate_per_s * DAY_S))
    return sorted(found, key=lambda hazard: -hazard.per_connection)
