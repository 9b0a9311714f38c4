"""Splits each four-tuple's packets into connections.

Finds how each connection was opened and closed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from twlab.observe.packets import (
    ACK,
    AGAIN,
    FIN,
    RST,
    STRAY,
    SYN,
    Array,
    Packets,
    after_last,
    grouped,
    mixed,
    put_first,
    steps,
)

UNKNOWN = -1
OPEN, BY_FIN, BY_RST, ONE_SIDE = (
    0,
    1,
    2,
    3,
)  # how a connection ended; one side: its FIN and last ACK, the other was not seen
_NEAR = 1 << 20  # the farthest that a RST of the connection is from its last packet
_BACK = 64


class Column:
    """A column of sorted packets; only rows that are asked for are looked up."""

    __slots__ = ("_column", "_order")

    def __init__(self, column: Array, order: Array):
        self._column, self._order = column, order

    def __getitem__(self, rows: Any) -> Any:
        return self._column[self._order[rows]]


class Sorted:
    """Packets sorted by four-tuple, within each in the order of the file.

    Columns that are used whole are sorted when they are first needed.
    """

    _WHOLE = ("bits", "flags", "seq", "ln")

    def __init__(self, packets: Packets):
        self.packets = packets
        self.order, self.key = grouped(packets.key)

    def __len__(self) -> int:
        return len(self.order)

    def __getattr__(self, name: str) -> Any:
        column = getattr(self.__dict__["packets"], name)
        column = column[self.order] if name in self._WHOLE else Column(column, self.order)
        self.__dict__[name] = column  # from now on found without this method
        return column

    @cached_property
    def end(self) -> Array:
        """The sequence number after the last one that a packet occupies."""
        return after_last(self.seq, self.ln, self.flags)


@dataclass
class Incarnations:
    """Connections, in the order of their packets.

    Row i has packets ``start[i]`` up to ``stop[i]``.

    Attributes:
        of: the connection of each packet.
        previous: the connection before on the same four-tuple; -1 if memory has no such connection.
        opener: the direction of the SYN; -1 if it was not seen.
        syn_at: the packets with SYN, by direction; -1 if not seen.
        isn: initial sequence numbers by direction; -1 if not seen.
        fin: the number after the FIN, by direction; -1 without.
        fin_at: the packet with the first FIN, by direction; -1 without.
        closed_at: the packet that closed the connection: the last ACK, or the RST; -1 while it is
            open.
        ending: `OPEN`, `BY_FIN`, `BY_RST` or `ONE_SIDE`.
        closer: the direction that closed first; 2: both at once; -1: not known.
        seen: packets by direction.
    """

    of: Array
    start: Array
    stop: Array
    previous: Array
    opener: Array
    syn_at: Array
    isn: Array
    fin: Array
    fin_at: Array
    closed_at: Array
    ending: Array
    closer: Array
    seen: Array

    def __len__(self) -> int:
        return len(self.start)


def split(rows: Sorted) -> Incarnations:
    """Split `rows` into connections.

    Marks SYNs and FINs of earlier connections as strays.
    """
    count = len(rows)
    first = np.ones(count, bool)
    first[1:] = rows.key[1:] != rows.key[:-1]
    boundary, openers = _boundaries(rows, first)
    start = np.nonzero(boundary)[0]
    of = np.cumsum(boundary) - 1
    stop = np.append(start[1:], count)
    previous = np.where(first[start], UNKNOWN, np.arange(len(start)) - 1)
    size = len(start)
    pair = (size, 2)
    made = Incarnations(
        of,
        start,
        stop,
        previous,
        np.full(size, UNKNOWN),
        np.full(pair, UNKNOWN),
        np.full(pair, UNKNOWN),
        np.full(pair, UNKNOWN),
        np.full(pair, UNKNOWN),
        np.full(size, UNKNOWN),
        np.zeros(size, np.int8),
        np.full(size, UNKNOWN),
        np.bincount(of * 2 + (rows.bits & 1), minlength=2 * size).reshape(pair),
    )
    at, pure = openers
    inc, side = of[at], (rows.bits[at] & 1).astype(np.int64)
    put_first(made.isn, (inc, side), rows.seq[at])
    put_first(made.syn_at, (inc, side), at)
    put_first(made.opener, (inc,), np.where(pure, side, 1 - side))
    _fins(rows, made)
    _closes(rows, made)
    return made


def _boundaries(rows: Sorted, first: Array) -> tuple[Array, tuple[Array, Array]]:
    """Find where connections begin.

    Returns:
        Whether each packet begins one; the SYNs and SYN/ACKs that open connections, with whether
        each is a SYN.
    """
    plain = ((rows.flags & (SYN | FIN | RST)) == SYN) & ((rows.bits & (AGAIN | STRAY)) == 0)
    at = np.nonzero(plain)[0]
    key = rows.key[at]
    pure = (rows.flags[at] & ACK) == 0
    boundary = first.copy()
    syn, syn_key = at[pure], key[pure]
    number = rows.seq[syn].astype(np.int64) << 1 | (rows.bits[syn] & 1)
    repeated = np.zeros(len(syn), bool)
    repeated[1:] = (syn_key[1:] == syn_key[:-1]) & (number[1:] == number[:-1])
    stray = ~_first_of_kind(syn_key, number) & ~repeated
    boundary[syn[~stray & ~repeated]] = True
    _mark(rows, syn[stray], STRAY)
    good = syn[~stray]
    answer, answer_key = at[~pure], key[~pure]
    last = np.searchsorted(good, answer) - 1
    asked = np.append(good, 0)[last]
    known = (last >= 0) & (rows.key[asked] == answer_key)
    matches = (
        known & (rows.seq[asked] + np.uint32(1) == rows.ack[answer]) & ((rows.bits[asked] ^ rows.bits[answer]) & 1 == 1)
    )
    alone, alone_key, isn = answer[~known], answer_key[~known], rows.seq[answer[~known]]
    fresh = np.ones(len(alone), bool)
    fresh[1:] = (alone_key[1:] != alone_key[:-1]) | (isn[1:] != isn[:-1])
    boundary[alone[fresh]] = True
    _mark(rows, answer[known & ~matches], STRAY)
    openers = np.concatenate([good, answer[matches], alone])
    pure = np.concatenate([np.ones(len(good), bool), np.zeros(len(openers) - len(good), bool)])
    order = np.argsort(openers, kind="stable")
    return boundary, (openers[order], pure[order])


def _first_of_kind(key: Array, number: Array) -> Array:
    """Flag each SYN that is the first of its four-tuple with this number."""
    code = mixed(key ^ (number.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)))
    order, ordered = grouped(code)
    first = np.ones(len(code), bool)
    first[order[1:]] = ordered[1:] != ordered[:-1]
    return first


def _mark(rows: Sorted, at: Array, bit: int) -> None:
    if len(at):
        rows.bits[at] |= np.uint8(bit)
        rows.packets.bits[rows.order[at]] |= np.uint8(bit)


def _fins(rows: Sorted, made: Incarnations) -> None:
    """Fill in the first FIN of each direction.

    A FIN with the numbers of the connection before is a stray.
    """
    at = np.nonzero(((rows.flags & (SYN | FIN | RST)) == FIN) & ((rows.bits & (AGAIN | STRAY)) == 0))[0]
    end, side, inc = rows.end[at], (rows.bits[at] & 1).astype(np.int64), made.of[at]
    put_first(made.fin, (inc, side), end)
    before = made.previous[inc]
    stale = (before >= 0) & (made.fin[before, side] == end)
    # Numbers below the first one, or of a connection that has sent more than 2 GiB.
    isn = made.isn[inc, side]
    below = np.nonzero((isn >= 0) & ((end - isn.astype(np.uint32)) >= np.uint32(1 << 31)))[0]
    stale[below[~_near(rows, made, at[below], isn[below].astype(np.uint32))]] = True
    if stale.any():
        _mark(rows, at[stale], STRAY)
        made.fin[inc, side] = UNKNOWN
        at, end, side, inc = at[~stale], end[~stale], side[~stale], inc[~stale]
        put_first(made.fin, (inc, side), end)
    put_first(made.fin_at, (inc, side), at)


def _closes(rows: Sorted, made: Incarnations) -> None:
    """Fill in how and where each connection was closed, and which end closed first."""
    acked = np.full(made.fin.shape, UNKNOWN)
    began = np.where(made.fin_at < 0, len(rows), made.fin_at).min(1)
    some = np.nonzero(began < len(rows))[0]
    at = ranges(began[some] + 1, made.stop[some])
    inc, other = made.of[at], 1 - (rows.bits[at] & 1).astype(np.int64)
    hit = ((rows.flags[at] & ACK) != 0) & (rows.ack[at] == made.fin[inc, other]) & (at > made.fin_at[inc, other])
    hit &= (made.fin_at[inc, other] >= 0) & ((rows.bits[at] & (AGAIN | STRAY)) == 0)
    put_first(acked, (inc[hit], other[hit]), at[hit])
    both = (acked >= 0).all(1)
    made.closed_at[both] = acked[both].max(1)
    made.ending[both] = BY_FIN
    fins = (made.fin_at >= 0).all(1)
    earlier = np.where(made.fin_at[:, 0] < made.fin_at[:, 1], 0, 1)
    made.closer = np.where(
        fins, earlier, np.where(made.fin_at[:, 0] >= 0, 0, np.where(made.fin_at[:, 1] >= 0, 1, UNKNOWN))
    )
    each = np.arange(len(made))
    at_once = fins & (acked[each, earlier] > made.fin_at[each, 1 - earlier])
    second = np.nonzero(at_once)[0]
    # The second FIN acknowledges the first where the closes came one after the other.
    late = rows.ack[made.fin_at[second, 1 - earlier[second]]] == made.fin[second, earlier[second]]
    made.closer[second[~late]] = 2
    _one_side(rows, made)
    _resets(rows, made)


def _one_side(rows: Sorted, made: Incarnations) -> None:
    """Fill in the close of connections of which only one direction was seen.

    Its FIN is the close; or, if one follows, the first packet with another ACK number.
    """
    for side in (0, 1):
        some = np.nonzero((made.seen[:, 1 - side] == 0) & (made.fin_at[:, side] >= 0))[0]
        fin_at = made.fin_at[some, side]
        at = ranges(fin_at + 1, made.stop[some])
        inc = made.of[at]
        moved = ((rows.bits[at] & (AGAIN | STRAY)) == 0) & (rows.ack[at] != rows.ack[made.fin_at[inc, side]])
        made.closed_at[some] = fin_at
        made.closer[some] = UNKNOWN
        put_first(made.closed_at, (inc[moved],), at[moved])
        made.closer[inc[moved]] = side
        made.ending[some] = ONE_SIDE


def _resets(rows: Sorted, made: Incarnations) -> None:
    """Fill in the closes by RST.

    A RST with the connection's own numbers closes it, unless it was closed before.
    """
    at = np.nonzero(((rows.flags & (SYN | RST)) == RST) & ((rows.bits & (AGAIN | STRAY)) == 0))[0]
    inc, side = made.of[at], (rows.bits[at] & 1).astype(np.int64)
    isn, before = made.isn[inc, side], made.previous[inc]
    refused = ((rows.flags[at] & ACK) != 0) & (rows.ack[at] == ((made.isn[inc, 1 - side] + 1) & 0xFFFFFFFF)) & (isn < 0)
    own = np.where(isn < 0, (before < 0) | refused, _near(rows, made, at))
    own &= ~((before >= 0) & (made.fin[before, side] == rows.seq[at]) & ~refused)
    at, inc = at[own], inc[own]
    reset = np.full(len(made), len(rows))
    put_first(reset, (inc,), at)
    sooner = (reset < len(rows)) & ((made.closed_at < 0) | (reset < made.closed_at))
    made.closed_at[sooner] = reset[sooner]
    made.ending[sooner] = BY_RST
    made.closer[sooner] = rows.bits[reset[sooner]] & 1


def _near(rows: Sorted, made: Incarnations, at: Array, base: Array | None = None) -> Array:
    """Flag the packets whose number is near the end of the packet before.

    That is the last packet before them of the same direction and connection.

    Args:
        base: for each packet, the number below which none is near one above.
    """
    near = np.zeros(len(at), bool)
    left = np.ones(len(at), bool)
    for back in range(1, _BACK + 1):
        if not left.any():
            break
        other = np.maximum(at - back, 0)
        left &= (at >= back) & (made.of[other] == made.of[at])
        mine = left & (((rows.bits[other] ^ rows.bits[at]) & 1) == 0) & ((rows.bits[other] & (AGAIN | STRAY)) == 0)
        if base is None:
            far = steps(rows.seq[at], rows.end[other]).astype(np.int64)
        else:
            far = (rows.seq[at] - base).astype(np.int64) - (rows.end[other] - base)
        near |= mine & (np.abs(far) <= _NEAR)
        left &= ~mine
    return near


def ranges(start: Array, stop: Array) -> Array:
    """List the integers from each ``start[i]`` up to ``stop[i]``, range after range."""
    length = np.maximum(stop - start, 0)
    total = np.cumsum(length)
    if not len(total) or not total[-1]:
        return np.zeros(0, np.int64)
    return np.arange(total[-1]) + np.repeat(start - (total - length), length)
