"""Measured pools of ports.

How many ports of how many each pool holds, which processes hold them, and for how long.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twlab.diagnose import bind_first
from twlab.diagnose.bind_first import Band, Bind, Range
from twlab.diagnose.rate import Forecast, Rate
from twlab.diagnose.snapshot import endpoint

FULL = 0.98  # of the ports: where connects begin to fail, since some always end and begin
_CLOSED_HERE = frozenset({"TIME_WAIT", "FIN_WAIT1", "FIN_WAIT2", "CLOSING"})
_CLOSED_THERE = frozenset({"CLOSE_WAIT", "LAST_ACK"})


@dataclass
class Pool:
    """The sockets of one source address to one destination.

    Attributes:
        states: state to its number of sockets; mini-sockets in FIN_WAIT2 as ``FIN_WAIT2 (closed)``.
        used: ports of the range that it holds.
        outside: sockets with a port outside the range.
        capacity: ports of the range, less the reserved ones.
        blocked: of these: ports that a listener, or a program that binds first, holds for itself,
            and that this pool does not use.
        flags: the ports of `used`, a flag for each of 65,536.
        live: of these: ports with a socket that is not in TIME_WAIT.
        closed_ports: port of each TIME_WAIT socket, in the order of `remaining_ms`.
        timestamps: live sockets with timestamps among those sampled, and the number sampled.
        no_port: live sockets with IP_BIND_ADDRESS_NO_PORT, and live sockets whose option is known.
        owners: its processes, the one with most sockets first.
        bind: the verdict on bind() before connect().
        taken_flags: ports that a new connection cannot have. Those of the pool and the blocked ones;
            with bind() before connect() all of its source.
        taken: their number.
        open_ports: of these: ports that an open connection or a listener holds, of this pool or
            another.
        hold_s: how long TIME_WAIT holds one of its ports, in s.
        reusable: tcp_tw_reuse applies, so TIME_WAIT holds a port only for `hold_s`.
        reuse_doubted: tcp_tw_reuse would apply, but the pool is full, and nothing shows that ports
            were taken over.
        sharers: pools that share their ports with this one, itself included.
        held: ports that are taken for another reason than TIME_WAIT of the sharers.
        joint_per_s: closes a second of all sharers on ports of the range.
        joint_open: open connections of all sharers.
        own_range: a range that its program has to itself, as far as the ports in use show it.
        peer_timestamps: `timestamps` of the destination's other ports, if this one has no live
            socket.
    """

    source: str
    destination: str
    port: int
    states: dict[str, int]
    used: int
    outside: int
    capacity: int
    flags: NDArray[np.bool_]
    live: NDArray[np.bool_]
    closed_ports: NDArray[np.uint16]
    remaining_ms: NDArray[np.int32]
    rate: Rate | None
    timestamps: tuple[int, int]
    no_port: tuple[int, int]
    owners: list[str]
    loopback: bool
    blocked: int = 0
    bind: Bind = field(default_factory=lambda: Bind(bind_first.UNKNOWN, ""))
    taken_flags: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(65536, np.bool_))
    taken: int = 0
    open_ports: int = 0
    forecast: Forecast | None = None
    hold_s: float = 60.0
    reusable: bool = False
    reuse_doubted: bool = False
    sharers: int = 1
    held: int = 0
    joint_per_s: float = 0.0
    joint_open: int = 0
    own_range: Band | None = None
    peer_timestamps: tuple[int, int] = (0, 0)

    @property
    def name(self) -> str:
        """``10.0.0.1 > 10.0.0.2:80``."""
        return f"{self.source} > {endpoint(self.destination, self.port)}"

    @property
    def time_wait(self) -> int:
        """Sockets in TIME_WAIT."""
        return self.states.get("TIME_WAIT", 0)

    @property
    def busy(self) -> int:
        """Sockets that are not in TIME_WAIT."""
        return sum(self.states.values()) - self.time_wait

    @property
    def binds(self) -> bool:
        """Whether the program binds before it connects."""
        return self.bind.verdict == bind_first.YES

    def take(self, flags: NDArray[np.bool_]) -> None:
        """Set which ports a new connection cannot have."""
        self.taken_flags, self.taken = flags, int(np.count_nonzero(flags))

    @property
    def fill(self) -> float:
        """Share of the ports that is taken."""
        return self.taken / self.capacity if self.capacity else 1.0

    @property
    def rate_per_s(self) -> float:
        """Closes a second, recently; 0 where they have ceased."""
        if self.rate is None or (self.rate.dated and self.rate.quiet_s > max(2.0, 10 / self.rate.average_per_s)):
            return 0.0
        return self.rate.recent_per_s

    @property
    def joint_ceiling_per_s(self) -> float | None:
        """Connections a second of all sharers for which the ports would just suffice.

        With as many open at a time as now; None where nothing is in TIME_WAIT.
        """
        return max(0.0, (self.capacity - self.held) / self.hold_s) if self.time_wait else None

    @property
    def ceiling_per_s(self) -> float | None:
        """The pool's part of the joint ceiling, which it has in proportion to its closes."""
        joint = self.joint_ceiling_per_s
        if joint is None or self.sharers == 1:
            return joint
        return joint * (self.per_s_in_range / self.joint_per_s if self.joint_per_s else 1 / self.sharers)

    @property
    def per_s_in_range(self) -> float:
        """Closes a second on ports of the range."""
        return self.rate_per_s * int(np.count_nonzero(self.flags[self.closed_ports])) / max(1, self.time_wait)

    @property
    def closes_first(self) -> str:
        """``this host``, ``the peer``, ``both``, or ``unknown``."""
        here = any(self.states.get(state) for state in _CLOSED_HERE) or bool(self.states.get("FIN_WAIT2 (closed)"))
        there = any(self.states.get(state) for state in _CLOSED_THERE)
        return {(True, False): "this host", (False, True): "the peer", (True, True): "both"}.get(
            (here, there), "unknown"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "source": self.source,
            "destination": self.destination,
            "port": self.port,
            "states": self.states,
            "used": self.used,
            "taken": self.taken,
            "capacity": self.capacity,
            "blocked": self.blocked,
            "outside": self.outside,
            "closes": self.rate.as_dict() if self.rate else None,
            "ceiling_per_s": round(self.ceiling_per_s, 1) if self.ceiling_per_s is not None else None,
            "full_in_s": self.forecast.full_in_s if self.forecast else None,
            "level": round(self.forecast.level) if self.forecast else None,
            "hold_s": self.hold_s,
            "tw_reuse_applies": self.reusable,
            "closes_first": self.closes_first,
            "bind_first": self.bind.as_dict(),
            "own_range": self.own_range._asdict() if self.own_range else None,
            "timestamps": {"with": self.timestamps[0], "sampled": self.timestamps[1]},
            "owners": self.owners,
        }


@dataclass(frozen=True)
class Served:
    """Connections accepted on one port of this host; they use up no ephemeral port."""

    address: str
    port: int
    states: dict[str, int]
    rate: Rate | None

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "address": self.address,
            "port": self.port,
            "states": self.states,
            "closes": self.rate.as_dict() if self.rate else None,
        }


@dataclass
class Measured:
    """A namespace's pools, the fullest first, and what else its sockets show.

    Attributes:
        others: number of the pools that are not listed one by one.
        states: of all sockets.
        taken_by_binders: source to the ports there that programs which bind first hold.
    """

    pools: list[Pool]
    served: list[Served]
    others: int
    states: dict[str, int]
    span: Range
    taken_by_binders: dict[str, int] = field(default_factory=dict)

    @cached_property
    def sockets(self) -> int:
        """The number of sockets."""
        return sum(self.states.values())
