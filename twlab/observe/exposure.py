"""Works out what a late segment met.

It also works out what the segment would have met under a shorter TIME_WAIT.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from twlab.observe.headers import NO_SCALE
from twlab.observe.history import History, Past
from twlab.observe.incarnations import BY_RST, UNKNOWN, Incarnations, Sorted
from twlab.observe.late import Verdict
from twlab.observe.packets import ACK, FIN, RST, STAMPED, SYN, Array

ISN_PER_NS = 15.625e6 / 1e9  # Linux net/core/secure_seq.c: the initial sequence number advances every 64 ns
_CIRCLE, _HALF = 1 << 32, 1 << 31
_LARGEST_SCALE = 14


@dataclass(slots=True)
class Exposure:
    """What one late segment met.

    Attributes:
        late_ns: time since its connection was closed, in ns; negative if the connection was still
            open; None if the close was not seen.
        waits: its connection was closed by FIN, which leaves a TIME_WAIT; a RST leaves none.
        met: another connection was open on its four-tuple.
        harmed: that connection had it in its window, its ACK was acceptable (RFC 5961 section 5),
            and PAWS let it pass (RFC 7323).
        why: the reason for `harmed`, in words.
        in_window: lengths of TIME_WAIT in s. A connection opened at the end of one would have had
            the segment in its window, by Linux's clock of initial sequence numbers. None if a
            direction or the handshake is missing.
    """

    late_ns: int | None = None
    waits: bool = False
    met: bool = False
    harmed: bool = False
    why: str = ""
    in_window: list[float] | None = field(default_factory=list)


def weigh(
    verdict: Verdict, rows: Sorted, made: Incarnations, history: History, lengths_s: tuple[float, ...]
) -> Exposure:
    """Work out what the packet of `verdict` met.

    It also works out what the packet would have met for each TIME_WAIT in `lengths_s`.
    """
    row, old = verdict.row, verdict.old
    found = Exposure()
    now = int(made.of[row])
    if old == UNKNOWN:
        found.in_window = None
        return found
    closed = int(made.closed_at[old])
    if closed >= 0:
        found.late_ns = int(rows.t[row] - rows.t[closed])
        found.waits = bool(made.ending[old] != BY_RST)
    ended = int(made.closed_at[now])
    if now != old and (ended < 0 or ended > row):
        found.met = True
        found.harmed, found.why = _harm(row, now, rows, history)
    found.in_window = _hypothetical(row, old, closed, rows, made, history, lengths_s)
    return found


def _scale(one: Past, other: Past) -> int:
    """Return the shift of the windows that `one` sends: its own, if both ends offered one."""
    return min(one.scale, _LARGEST_SCALE) if NO_SCALE not in (one.scale, other.scale) else 0


def _harm(row: int, now: int, rows: Sorted, history: History) -> tuple[bool, str]:
    """Tell whether the open connection would have taken the packet, and why.

    Its window ends where the receiver's last ACK and window say. It begins behind what the sender
    has sent, because this tap does not show what arrived. The answer holds as far as the capture
    shows the connection.
    """
    side = int(rows.bits[row] & 1)
    sender, receiver = history.past(now, side), history.past(now, 1 - side)
    sent, told = sender.rows < row, receiver.rows < row
    if not sent.any() or not told.any():
        return False, "the handshake was not over"
    if rows.flags[row] & SYN:
        return False, "a SYN draws a challenge ACK"
    base = _furthest((sender.base + int(sender.end[sent].max())) % _CIRCLE, receiver, told, rows)
    answers = receiver.rows[told & ((rows.flags[receiver.rows] & ACK) != 0)]
    if not len(answers):
        return False, "the handshake was not over"
    last = answers[-1]
    window = int(rows.win[last]) << (0 if rows.flags[last] & SYN else _scale(receiver, sender))
    length = int(rows.ln[row]) + bool(rows.flags[row] & FIN)
    ahead = (int(rows.seq[row]) - base + _HALF) % _CIRCLE - _HALF
    if rows.flags[row] & RST:
        return (
            ahead == 0,
            "a RST at exactly the next number" if ahead == 0 else "a RST elsewhere draws a challenge ACK at most",
        )
    if not length:
        return False, "it carries nothing"
    edge = int(rows.ack[last]) + window
    beyond = (int(rows.seq[row]) - edge + _HALF) % _CIRCLE - _HALF
    if beyond >= 0 or ahead + length <= 0:
        return False, "outside the window"
    if rows.flags[row] & ACK:
        limit = _furthest((receiver.base + int(receiver.end[told].max())) % _CIRCLE, sender, sent, rows)
        past_limit = (int(rows.ack[row]) - limit + _HALF) % _CIRCLE - _HALF
        windows = sender.rows[sent][(rows.flags[sender.rows[sent]] & SYN) == 0]
        largest = int(rows.win[windows].max()) << _scale(sender, receiver) if len(windows) else 0
        acked = rows.ack[sender.rows[sent][-1]]
        before = (int(rows.ack[row]) - int(acked) + _HALF) % _CIRCLE - _HALF
        if past_limit > 0 or before < -largest:
            return False, "its ACK is not acceptable"
    if rows.bits[row] & STAMPED and sender.stamped:
        newest = sender.tsval[sent][-1]
        if 0 < (int(newest) - int(rows.tsval[row])) % _CIRCLE < _HALF:
            return False, "PAWS drops it"
    return True, "in the window, its ACK acceptable, and PAWS does not stop it"


def _furthest(sent: int, peer: Past, seen: Array, rows: Sorted) -> int:
    """Return the number after the last one that was sent.

    The sender's packets show it, or its peer's ACKs if the capture missed some packets.
    """
    acks = rows.ack[peer.rows[seen]][(rows.flags[peer.rows[seen]] & ACK) != 0]
    ahead = (acks.astype(np.int64) - sent + _HALF) % _CIRCLE - _HALF
    return (sent + max(0, int(ahead.max()))) % _CIRCLE if len(ahead) else sent


def _hypothetical(row: int, old: int, closed: int, rows: Sorted, made: Incarnations, history: History,
                  lengths_s: tuple[float, ...]) -> list[float] | None:  # fmt: skip
    """List the lengths of TIME_WAIT that would have let the packet into a window.

    The window is that of a connection opened at the end of such a TIME_WAIT.
    """
    side = int(rows.bits[row] & 1)
    if closed < 0 or (made.isn[old] < 0).any() or not rows.ln[row] + (rows.flags[row] & FIN):
        return None
    sender, receiver = history.past(old, side), history.past(old, 1 - side)
    opened = int(sender.t[0])
    window = int(rows.win[receiver.rows[-1]]) << _scale(receiver, sender)
    position = (int(rows.seq[row]) - sender.base) % _CIRCLE
    found = []
    for length_s in lengths_s:
        reopened = int(rows.t[closed]) + int(length_s * 1e9)
        if rows.t[row] <= reopened:
            continue
        ahead = (position - int(ISN_PER_NS * (reopened - opened))) % _CIRCLE
        if ahead < window or ahead + int(rows.ln[row]) > _CIRCLE:
            found.append(length_s)
    return found
