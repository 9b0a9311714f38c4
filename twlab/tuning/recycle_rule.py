"""The rule of tcp_tw_recycle, as Linux had it up to 4.11.

`recycle_emulation.py` applies it to live SYNs where the kernel no longer does.

The rule. For each pair of addresses the server remembered a timestamp: that of the last segment
accepted before a connection that the server had closed first went into TIME_WAIT. It also noted the
second. In return it kept the TIME_WAIT for 3.5 retransmission timeouts instead of 60 s. For a
minute afterwards it dropped a SYN from that peer, from any port, without an answer, if the SYN's
timestamp was lower than the one remembered, or missing.

The assumption is that one address has one clock. Behind a NAT there are as many clocks as machines,
and since 4.10 each connection has a separate one.

Source: Linux 4.9 net/ipv4/tcp_metrics.c, tcp_minisocks.c, tcp_input.c; measured on Linux 4.9.154.
"""

from __future__ import annotations

from dataclasses import dataclass

from twlab.segment import distance

PERIOD_S = 60  # TCP_PAWS_MSL: how long a remembered timestamp counts
WINDOW = 1  # TCP_PAWS_WINDOW: by how much a timestamp may be lower and still pass


@dataclass(frozen=True, slots=True)
class Remembered:
    """The last timestamp of a peer, and the second of the wall clock when it came."""

    tsval: int
    stamp_s: int


class RecycleCache:
    """Timestamps that a server with tcp_tw_recycle remembers of its peers.

    Times are whole seconds of the wall clock, as the kernel's were.
    """

    def __init__(self) -> None:
        self._peers: dict[tuple[str, str], Remembered] = {}

    def __getitem__(self, pair: tuple[str, str]) -> Remembered:
        """Return what is remembered of (local address, peer address). Raises KeyError."""
        return self._peers[pair]

    def remember(self, local: str, peer: str, tsval: int | None, stamp_s: int, now_s: int) -> bool:
        """Note that a connection closed first by `local` enters FIN_WAIT2 or TIME_WAIT.

        Args:
            tsval: of the last segment accepted from the peer; None when the connection had no
                timestamps.
            stamp_s: when that segment came.

        Returns:
            Whether TIME_WAIT is short (`time_wait_s`); if not, it lasts the full 60 s.
        """
        if tsval is None:
            return False
        known = self._peers.get((local, peer))
        if (
            known is None
            or distance(tsval, known.tsval) <= 0
            or (now_s - known.stamp_s > PERIOD_S and known.stamp_s <= stamp_s)
        ):
            self._peers[local, peer] = Remembered(tsval, stamp_s)
        return True

    def refusal(self, local: str, peer: str, tsval: int | None, now_s: int) -> str:
        """Return why a SYN from `peer` to `local` is dropped; empty if it is delivered.

        The caller checks first that the SYN meets a listener: no TIME_WAIT of the same four-tuple,
        no SYN cookie.
        """
        known = self._peers.get((local, peer))
        if known is None or now_s - known.stamp_s >= PERIOD_S:
            return ""
        if tsval is None:
            return f"it has no timestamp, and {peer} had one {now_s - known.stamp_s} s ago"
        behind = distance(tsval, known.tsval)
        if behind > WINDOW:
            return f"its timestamp is {behind} behind the last one of {peer}, {now_s - known.stamp_s} s ago"
        return ""


def time_wait_s(rto_s: float) -> float:
    """Return the length of a recycled TIME_WAIT: 3.5 retransmission timeouts."""
    return 3.5 * rto_s
