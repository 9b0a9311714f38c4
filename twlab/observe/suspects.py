"""Picks the packets that need a closer look.

They may not be what their connection sent in its course.
"""

from __future__ import annotations

import numpy as np

from twlab.observe.incarnations import BY_FIN, ONE_SIDE, Incarnations, Sorted, ranges
from twlab.observe.packets import AGAIN, RST, SEEN, SYN, Array, steps

ID_BITS = np.uint16(0x7FFF)  # network cards that segment count in the lower 15 bits alone (NDIS, large send offload)
_STEP, _FAR = 64, 1024  # of identifications: those that follow each other, and those that do not
_RARE = 50  # one packet in this number
_LEAP = 1 << 24  # a jump in sequence numbers that no window explains


def pick(rows: Sorted, made: Incarnations, held: Array, elsewhere: Array) -> Array:
    """Return indices into `rows` of the new packets that are suspect.

    They arrived after a close, are copies, were held, or have numbers that do not fit.

    Args:
        held: whether each packet was held between two places, in the packets' own order.
        elsewhere: by row, see `out_of_place`.
    """
    chosen = (rows.bits & AGAIN) != 0
    if held.any():
        chosen |= held[rows.order]
    closed = np.nonzero((made.closed_at >= 0) & ((made.ending == BY_FIN) | (made.ending == ONE_SIDE)))[0]
    chosen[ranges(made.closed_at[closed] + 1, made.stop[closed])] = True
    chosen |= elsewhere
    for side in (0, 1):
        at = np.nonzero((rows.bits & 1) == side)[0]
        if len(at):
            chosen[_unfit(rows, made, side, at)] = True
            chosen[_out_of_sequence(rows, made, at)] = True
    return np.nonzero(chosen & ((rows.bits & SEEN) == 0))[0]


def out_of_place(rows: Sorted, places: Array, nearest: Array) -> Array:
    """Flag the packets that were not seen where their direction is seen first.

    That is the interface where nearly all packets of the direction are seen first. If such packets
    are not rare in a direction, the capture itself misses packets, and none of them is flagged.

    Args:
        places, nearest: where each packet was seen, and where first, in the packets' own order;
            see `twlab.observe.sightings.Sightings`.
    """
    count = len(rows)
    if not count or (nearest == nearest[0]).all():
        return np.zeros(count, bool)
    places, nearest = places[rows.order], nearest[rows.order]
    begins = np.ones(count, bool)
    begins[1:] = rows.key[1:] != rows.key[:-1]
    way = np.cumsum(begins) * 2 + (rows.bits & 1)
    ways, inverse, totals = np.unique(way, return_inverse=True, return_counts=True)
    inverse = inverse.reshape(-1)
    common, counts = np.unique(inverse << 16 | nearest, return_counts=True)
    first = np.zeros(len(ways), np.int64)
    order = np.argsort(counts, kind="stable")
    first[common[order] >> 16] = common[order] & 0xFFFF  # the last assignment stays, and so the most frequent
    missing = (places & np.left_shift(np.uint64(1), (first[inverse] & 63).astype(np.uint64))) == 0
    lacking = np.bincount(inverse[missing], minlength=len(ways))
    rare = (lacking <= np.maximum(3, totals // _RARE)) & (lacking * 2 <= totals) & (totals - lacking > 1)
    return missing & rare[inverse]


def _out_of_sequence(rows: Sorted, made: Incarnations, at: Array) -> Array:
    """Find packets of one direction whose identification is far from those around them.

    The sequence goes on around them. At the end of a connection that means nothing: there hosts
    answer without a socket, and count elsewhere.
    """
    identity, inc = rows.ipid[at], made.of[at]
    counted = identity != 0
    if not counted.all():
        at, identity, inc = at[counted], identity[counted], inc[counted]
    if len(at) < 4:
        return at[:0]

    step = (identity[1:] - identity[:-1]) & ID_BITS
    leap = (step > _FAR) & (step < ID_BITS - _FAR) & (inc[1:] == inc[:-1])  # from each packet to the next
    some = np.nonzero(leap[1:-1] & leap[2:])[0] + 2

    def near(ahead: Array, behind: Array) -> Array:
        step = (identity[ahead] - identity[behind]) & ID_BITS
        return (step > 0) & (step <= _STEP) & (inc[ahead] == inc[behind])

    # From the packet before to the one behind; and the two packets before it follow each other.
    return at[some[near(some + 1, some - 1) & near(some - 1, some - 2)]]


def _unfit(rows: Sorted, made: Incarnations, side: int, at: Array) -> Array:
    """Find packets of one direction that do not begin where the one before ended.

    They fit the connection before, or none.
    """
    inc, seq, flags = made.of[at], rows.seq[at], rows.flags[at]
    end = rows.end[at]
    begins = np.concatenate([[True], inc[1:] != inc[:-1]])
    jump = np.concatenate([np.zeros(1, np.int32), steps(seq[1:], end[:-1])])
    irregular = np.where(begins, (flags & SYN) == 0, jump != 0)
    some = np.nonzero(irregular & ((flags & (SYN | RST)) != SYN))[0]
    some = some[made.previous[inc[some]] >= 0] if not np.any(np.abs(jump) > _LEAP) else some
    before = made.previous[inc[some]]
    isn, last = made.isn[before, side], made.fin[before, side]
    base = np.where(isn >= 0, isn, 0).astype(np.uint32)
    length = np.where(last >= 0, (last - base.astype(np.int64)) & 0xFFFFFFFF, _LEAP)
    earlier = (before >= 0) & (isn >= 0) & ((seq[some] - base) <= length)
    leaps = ~begins[some] & (np.abs(jump[some].astype(np.int64)) > _LEAP)
    return at[some[earlier | leaps]]
