"""Knows what each direction of each connection has sent.

Compares a packet's numbers, timestamp and identification with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from twlab.observe.headers import NO_SCALE
from twlab.observe.incarnations import UNKNOWN, Incarnations, Sorted
from twlab.observe.packets import AGAIN, FIN, FORWARD, RST, SIX, STAMPED, STRAY, SYN, Array, steps

CIRCLE, HALF = 1 << 32, 1 << 31
SLACK_IDS = 64  # identifications that may be missing in a row
HALF_IDS = 32_768  # half a cycle of identifications; and network cards that segment count in the lower 15 bits
_LARGEST_STEP = 1024
_LARGEST = 65_535  # bytes with one identification
_DEPTH = 16  # connections of a four-tuple to look back
_WINDOW = 1 << 20  # the farthest that a packet of an open connection is from the others


class Once:
    """Makes a property that is worked out once.

    functools.cached_property has a lock, which costs more.
    """

    def __init__(self, work: Callable[[Any], Any]):
        self._work, self._name, self.__doc__ = work, work.__name__, work.__doc__

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        value = instance.__dict__[self._name] = self._work(instance)
        return value


class Past:
    """One direction of a connection: its packets without strays and copies.

    What is derived from them is worked out when it is first needed.

    Attributes:
        rows: indices of the packets.
        base: the number that sequence numbers count from.
    """

    def __init__(self, packets: Sorted, rows: Array, isn: int):
        self._packets, self.rows, self._isn = packets, rows, isn
        self.base = isn if isn >= 0 else int(packets.seq[rows[0]]) if len(rows) else 0

    @Once
    def seq(self) -> Array:
        """The first number of each packet; it goes on beyond 4 GiB."""
        numbers = self._packets.seq[self.rows]
        if not len(numbers):
            return np.zeros(0, np.int64)
        begin = (int(numbers[0]) - self.base) % CIRCLE
        seq = begin + np.concatenate([[0], np.cumsum(steps(numbers[1:], numbers[:-1]), dtype=np.int64)])
        if self._isn >= 0 and np.count_nonzero(seq < 0) * 2 > len(seq):
            seq[np.argmax(seq < 0) :] += CIRCLE  # over 2 GiB that are no longer remembered are before it
        return seq

    @Once
    def end(self) -> Array:
        """The number after the last one of each packet."""
        flags = self._packets.flags[self.rows]
        return self.seq + self._packets.ln[self.rows] + ((flags & SYN) != 0) + ((flags & FIN) != 0)

    @Once
    def last(self) -> int:
        """The number after the last byte, or after the FIN."""
        return int(self.end.max()) if len(self.rows) else 0

    def position(self, number: int) -> int:
        """Return the last place of a sequence number, up to the last number sent."""
        return self.last - (self.last - (number - self.base)) % CIRCLE

    @Once
    def ipid(self) -> Array:
        """The identifications."""
        return self._packets.ipid[self.rows]

    @Once
    def tsval(self) -> Array:
        """The timestamps."""
        return self._packets.tsval[self.rows]

    @Once
    def t(self) -> Array:
        """The times, in ns since 1970."""
        return self._packets.t[self.rows]

    @Once
    def used(self) -> Array:
        """The identifications that are not zero."""
        return self.ipid[self.ipid != 0].astype(np.int64)

    @Once
    def counting(self) -> bool:
        """The identification counts; it is neither zero nor constant."""
        return len(self.used) > 1 and bool((self.used != self.used[0]).any())

    @Once
    def orderly(self) -> bool:
        """The identification goes up in small steps."""
        return len(self.used) > 1 and bool(((np.diff(self.used) % HALF_IDS) <= _LARGEST_STEP).all())

    @Once
    def counted(self) -> Array:
        """How far before the last identification each of `used` is, beyond 65,535 too."""
        ahead = np.diff(self.used)
        ahead = ahead % HALF_IDS if self.orderly else (ahead + HALF_IDS) % (2 * HALF_IDS) - HALF_IDS
        return np.append(np.cumsum(ahead[::-1])[::-1], 0)

    @Once
    def fresh(self) -> Array:
        """The identifications, 0 for those that half a cycle or more has followed."""
        ids = self.ipid.copy()
        ids[np.nonzero(ids)[0][np.abs(self.counted) >= HALF_IDS]] = 0
        return ids

    @Once
    def stamped(self) -> bool:
        """There are timestamps."""
        return bool(((self._packets.bits[self.rows] & STAMPED) != 0).any())

    @Once
    def ticking(self) -> bool:
        """The timestamp moved while the connection was open."""
        return self.stamped and bool((self.tsval != self.tsval[0]).any())

    @Once
    def scale(self) -> int:
        """The shift that the SYN offers for later windows; 255: none."""
        syn = self.rows[(self._packets.flags[self.rows] & SYN) != 0]
        return int(self._packets.scale[syn[0]]) if len(syn) else NO_SCALE


class History:
    """The connections of one batch, direction by direction.

    Each direction is assembled when it is first needed.
    """

    def __init__(self, rows: Sorted, made: Incarnations):
        self._rows, self._made = rows, made
        self._past: dict[tuple[int, int], Past] = {}

    def past(self, inc: int, side: int) -> Past:
        """Return the packets that one direction of a connection sent."""
        if (inc, side) not in self._past:
            if len(self._past) > 4096:
                self._past.clear()
            self._past[inc, side] = self._make_past(inc, side)
        return self._past[inc, side]

    def _make_past(self, inc: int, side: int) -> Past:
        rows, made = self._rows, self._made
        start, stop, closed = int(made.start[inc]), int(made.stop[inc]), int(made.closed_at[inc])
        stop = closed + 1 if closed >= 0 else stop
        own = (rows.bits[start:stop] & (FORWARD | AGAIN | STRAY)) == side
        own &= (rows.flags[start:stop] & RST) == 0
        return Past(rows, start + np.nonzero(own)[0], int(made.isn[inc, side]))

    def forget(self, inc: int) -> None:
        """Drop what is known of a connection, so that it is assembled anew.

        Needed after one of its packets has proved to be of another connection.
        """
        for side in (0, 1):
            self._past.pop((inc, side), None)

    def within(self, row: int, inc: int, side: int) -> bool:
        """Tell whether the packet's numbers are a connection's, or just before or behind."""
        past = self.past(inc, side)
        if not len(past.rows):
            return False
        lowest = 0 if self._made.isn[inc, side] >= 0 else int(past.seq.min())
        return past.position(int(self._rows.seq[row])) >= lowest - 1

    def older(self, row: int, inc: int, side: int) -> int:
        other = int(self._made.previous[inc])
        for _ in range(_DEPTH):
            if other < 0:
                return UNKNOWN
            if self.within(row, other, side):
                return other
            other = int(self._made.previous[other])
        return UNKNOWN

    def fits(self, row: int, inc: int, side: int) -> bool:
        """Tell whether the numbers could be the open connection's.

        They can from its first number up to a window behind its last.
        """
        past = self.past(inc, side)
        others = past.rows != row
        if not others.any():
            return bool(self._made.isn[inc, side] < 0)
        seq = past.last + (int(self._rows.seq[row]) - past.base - past.last + HALF) % CIRCLE - HALF
        low = -1 if self._made.isn[inc, side] >= 0 else int(past.seq[others].min()) - _WINDOW
        near = np.abs(past.end[others] - seq) <= _WINDOW
        return seq >= low and bool(near.any())

    def older_by_signs(self, row: int, old: int, inc: int, side: int) -> bool:
        """Tell whether timestamp or identification show the older connection.

        For packets whose numbers fit both connections.
        """
        rows, now, then = self._rows, self.past(inc, side), self.past(old, side)
        if rows.bits[row] & STAMPED and now.stamped:
            return after(int(now.tsval[0]), int(rows.tsval[row]))
        earlier = now.rows < row
        if now.counting and rows.ipid[row] and earlier.any():
            own = (
                int(rows.ipid[row]) - int(now.ipid[earlier & (now.ipid != 0)][-1])
                if (now.ipid[earlier] != 0).any()
                else 0
            )
            return not 0 <= own % 65536 <= SLACK_IDS and self.id_fits(int(rows.ipid[row]), then)
        return False

    def is_older(self, row: int, past: Past) -> bool:
        """Tell whether the packet was sent before the last one of its direction.

        Its timestamp or its identification shows that.
        """
        rows = self._rows
        if rows.bits[row] & STAMPED and past.stamped:
            return after(int(past.tsval[-1]), int(rows.tsval[row]))
        if past.counting and rows.ipid[row] and not rows.bits[row] & SIX:
            return self.id_fits(int(rows.ipid[row]), past)
        return False

    def id_fits(self, identity: int, past: Past) -> bool:
        """Tell whether `identity` is between the first and last of the last half cycle."""
        if not past.orderly or not identity:
            return False
        return (int(past.used[-1]) - identity) % 65_536 <= min(int(past.counted[0]), HALF_IDS - 1)

    def continues(self, row: int, inc: int, side: int) -> bool:
        """Tell whether the packet's identification continues its direction's sequence.

        If it does, the same host sent it. Its numbers are then no further on than the packets that
        have the identifications between can have brought them.
        """
        rows, past, identity = self._rows, self.past(inc, side), int(self._rows.ipid[row])
        before = past.rows[(past.rows < row) & (past.ipid != 0)]
        if not (identity and past.counting and len(before)):
            return False
        last = int(before[-1])
        count = (identity - int(rows.ipid[last])) % 65536
        ahead = (int(rows.seq[row]) - int(rows.end[last]) + HALF) % CIRCLE - HALF
        return 0 < count <= SLACK_IDS and ahead <= count * _LARGEST

    def extent(self, row: int, past: Past) -> tuple[int, int]:
        """Return the packet's first number and the one after its last.

        Both count from the base of `past`.
        """
        rows = self._rows
        seq = past.position(int(rows.seq[row]))
        return seq, seq + int(rows.ln[row]) + bool(rows.flags[row] & FIN) + bool(rows.flags[row] & SYN)


def after(one: int, other: int) -> bool:
    """Tell whether timestamp `one` is later than `other`."""
    return 0 < (one - other) % CIRCLE < HALF


def covered(past: Past, seq: int, end: int) -> bool:
    """Tell whether all numbers from `seq` up to `end` had been sent."""
    order = np.argsort(past.seq, kind="stable")
    for begin, behind in zip(past.seq[order].tolist(), past.end[order].tolist(), strict=True):
        if begin > seq:
            return False
        seq = max(seq, behind)
        if seq >= end:
            return True
    return False
