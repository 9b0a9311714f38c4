"""tcp_tw_recycle's rule, as Linux had it up to 4.11. Pure: `door.py` applies it to live SYNs where
the kernel no longer does.

What it was. For each pair of addresses the server remembered the timestamp of the last segment that
it had accepted before a connection of its own closing went into TIME_WAIT, and the second in which
that was. In return it kept the TIME_WAIT for 3.5 retransmission timeouts instead of 60 s. For a
minute afterwards it took a SYN of that peer, from whatever port, for an old duplicate if its
timestamp was lower than the one remembered, or if it had none, and dropped it without a word.

The assumption is that one address has one clock. Behind a NAT it has as many as there are machines,
and since 4.10 every connection has one of its own. (Linux 4.9 net/ipv4/tcp_metrics.c,
tcp_minisocks.c, tcp_input.c; measured on Linux 4.9.154)
"""

from __future__ import annotations

from dataclasses import dataclass

from twlab.segment import distance

PERIOD_S = 60  # TCP_PAWS_MSL: how long what is remembered counts
WINDOW = 1  # TCP_PAWS_WINDOW: by how much a timestamp may be lower and still pass


@dataclass(frozen=True, slots=True)
class Remembered:
    """The last timestamp of a peer, and the whole second of the wall clock in which it came."""

    tsval: int
    stamp_s: int


class RecycleCache:
    """What a server with tcp_tw_recycle remembers of its peers. Times are whole seconds of the wall
    clock, as the kernel's were.
    """

    def __init__(self) -> None:
        self._peers: dict[tuple[str, str], Remembered] = {}

    def __getitem__(self, pair: tuple[str, str]) -> Remembered:
        """What is remembered of (local address, peer address). Raises KeyError."""
        return self._peers[pair]

    def remember(self, local: str, peer: str, tsval: int | None, stamp_s: int, now_s: int) -> bool:
        """A connection that `local` closed first enters TIME_WAIT, or the FIN_WAIT2 before it.

        Args:
            tsval: of the last segment accepted from the peer; None when the connection had no
                timestamps.
            stamp_s: when that segment came.

        Returns:
            Whether TIME_WAIT is to be short (`time_wait_s`); if not, it lasts the full 60 s.
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
        """Why a SYN from `peer` to `local` is dropped without an answer; empty when it is let in.

        It is for who asks to see that the SYN meets a listener (no TIME_WAIT of the same
        four-tuple, no SYN cookie).
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
    """Length of a recycled TIME_WAIT: 3.5 times the connection's retransmission timeout."""
    return 3.5 * rto_s
