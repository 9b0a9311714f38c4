"""Tells repeated captures of a packet from repeated deliveries.

Duplicates are packets that were captured more than once. Copies are packets that the network
delivered more than once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from twlab.observe.packets import AGAIN, SEEN, Array, Packets, repeated

SAME_MOMENT_NS = 1_000_000  # the same packet at the same place within this time is a capture's duplicate
_ADJACENT = 64  # frames: over a step of the clock, duplicates are no farther apart
# Likewise, where a capture holds most packets of a connection twice, or sees them with two TTLs.
SLOW_MOMENT_NS = 100_000_000
_LEAST = 3
_PLACES = np.left_shift(np.uint64(1), np.arange(64, dtype=np.uint64))
HELD_NS = 1_000_000_000  # above the usual time between two places: a packet that took longer was held between them


@dataclass
class Sightings:
    """How the packets of a batch relate to each other.

    Attributes:
        original: of a copy: the index of the packet's first sighting; -1 elsewhere. A copy is
            identical to a packet that passed the same interface at least 1 ms earlier, or 100 ms
            where it had another TTL.
        duplicate: a further sighting of a packet, or of a copy that is counted already.
        held: a duplicate that took over 1 s longer than others from one place to another. It is the
            first sighting there.
        places: of all that are not duplicates: the interfaces where the packet was seen, as bits
            (number modulo 64).
        nearest: of all that are not duplicates: the interface nearest to the sender, where the TTL
            was highest.
    """

    original: Array
    duplicate: Array
    held: Array
    places: Array
    nearest: Array


def find(packets: Packets, steps: Array) -> Sightings:
    """Compare all packets, in the order of the file, with each other.

    Args:
        steps: numbers of the frames before which the clock was set back by over 1 s.
    """
    count = len(packets)
    places: Array = _PLACES[packets.iface & np.uint16(63)]
    found = Sightings(np.full(count, -1), np.zeros(count, bool), np.zeros(count, bool), places, packets.iface.copy())
    if not count:
        return found
    at = repeated(packets.same)
    if not len(at):
        return found
    same = packets.same[at]
    begins = np.ones(len(at), bool)
    begins[1:] = same[1:] != same[:-1]
    chain = np.cumsum(begins)
    head = at[begins][chain - 1]
    moment = np.full(len(at), SAME_MOMENT_NS)
    passing = _passings(packets, at, chain, steps, moment)
    moment = _duplicates_within(packets, at, head, passing)
    if (moment > SAME_MOMENT_NS).any():
        passing = _passings(packets, at, chain, steps, moment)
    # Of all passings at their places, a copy's first sighting is the one that no earlier sighting
    # equals in number.
    ceiling = np.maximum.accumulate(chain * (1 << 32) + passing)
    earlier = np.concatenate([[0], ceiling[:-1]]) - chain * (1 << 32)
    is_head = at == head
    again = ~is_head & ((passing > np.maximum(earlier, 1)) | ((packets.bits[at] & AGAIN) != 0))
    found.original[at[again]] = head[again]
    rest = ~is_head & ~again & ((packets.bits[at] & SEEN) == 0)
    found.duplicate[at[rest]] = True
    leader = _leaders(at, chain, passing, is_head | again)
    np.bitwise_or.at(found.places, leader, places[at].copy())
    order = np.lexsort((at, -packets.ttl[at].astype(np.int64), leader))
    begins = np.concatenate([[True], leader[order][1:] != leader[order][:-1]])
    found.nearest[leader[order][begins]] = packets.iface[at[order][begins]]
    elsewhere = rest & (packets.iface[at] != packets.iface[leader])
    _held(packets, at[elsewhere], leader[elsewhere], found)
    return found


def _duplicates_within(packets: Packets, at: Array, head: Array, passing: Array) -> Array:
    """Return, for each sighting, the time within which an identical one is a duplicate.

    Both are at the same place. The time is 1 ms, except for connections of which a capture holds at
    least a third of the packets more than once. There a SPAN port is slow, or sees several places.
    The time is then 100 ms if at least three packets took longer than 1 ms. Otherwise it is eight
    times the longest of those below 1 ms.
    """
    moment = np.full(len(at), SAME_MOMENT_NS)
    again = at != head
    took, key = np.abs(packets.t[at] - packets.t[head]), packets.key[at]
    slow = again & (passing > 1) & (took < SLOW_MOMENT_NS)
    if not slow.any():
        return moment
    keys = np.unique(key[slow])
    of = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
    mine = keys[of] == key
    totals = _occurrences(keys, packets.key)
    twice = np.bincount(of[mine & again], minlength=len(keys))
    often = np.bincount(of[slow & ((packets.bits[at] & SEEN) == 0)], minlength=len(keys))
    longest = np.zeros(len(keys), np.int64)
    quick = mine & again & (passing == 1)
    np.maximum.at(longest, of[quick], took[quick])
    allowed = np.where(
        often >= _LEAST, SLOW_MOMENT_NS, np.maximum(SAME_MOMENT_NS, np.minimum(8 * longest, SLOW_MOMENT_NS))
    )
    allowed = np.where(twice * 3 >= totals, allowed, SAME_MOMENT_NS)
    moment[mine] = allowed[of[mine]]
    return moment


def _occurrences(keys: Array, among: Array) -> Array:
    """Count how often each of a few sorted `keys` occurs in a long array."""
    low = np.uint64(0xFFFF)
    marked = np.zeros(int(low) + 1, bool)
    marked[keys & low] = True
    some = among[marked[among & low]]
    where = np.minimum(np.searchsorted(keys, some), len(keys) - 1)
    return np.bincount(where[keys[where] == some], minlength=len(keys))


def _leaders(at: Array, chain: Array, passing: Array, leads: Array) -> Array:
    """Choose, for each sighting in a chain, the one that stands for its passing.

    It is the first of the same number, or else the chain's first.
    """
    order = np.lexsort((at, ~leads, passing, chain))
    code = chain[order] * (1 << 32) + passing[order]
    begins = np.concatenate([[True], code[1:] != code[:-1]])
    leader = np.empty(len(at), np.int64)
    leader[order] = at[order][np.nonzero(begins)[0]][np.cumsum(begins) - 1]
    return leader


def _passings(packets: Packets, at: Array, chain: Array, steps: Array, moment: Array) -> Array:
    """Number the passings at each interface: to which one each sighting belongs, from 1.

    Sightings with different TTLs are those of different places, and count apart from each other.
    That ends where an interface has not seen the packet for 100 ms: what follows passes it anew,
    by whichever path it comes.
    """
    t, n, iface = packets.t[at], packets.n[at], packets.iface[at]
    order, begins = _runs(chain << 16 | iface)
    rests = begins | _apart(t[order], n[order], steps, np.full(len(at), SLOW_MOMENT_NS))
    visit = np.empty(len(at), np.int64)
    visit[order] = np.cumsum(rests) - 1
    by_place, first = _runs(visit << 8 | packets.ttl[at])
    later = np.cumsum(~first & _apart(t[by_place], n[by_place], steps, moment[by_place]))
    number = later - later[first][np.cumsum(first) - 1] + 1
    most = np.maximum.reduceat(number, np.nonzero(np.diff(visit[by_place], prepend=-1))[0])
    before = np.cumsum(most) - most  # passings in all visits before
    new = begins[rests]  # visits that are the first at their interface
    before -= before[new][np.cumsum(new) - 1]
    passing = np.empty(len(at), np.int64)
    passing[by_place] = number + before[visit[by_place]]
    return passing


def _runs(code: Array) -> tuple[Array, Array]:
    """Sort so that equal codes become neighbours, and flag the first of each."""
    order = np.argsort(code, kind="stable")
    ordered = code[order]
    return order, np.concatenate([[True], ordered[1:] != ordered[:-1]])


def _apart(t: Array, n: Array, steps: Array, moment: Array) -> Array:
    """Flag the sightings that are no duplicates of those before them, by time."""
    stepped = np.diff(np.searchsorted(steps, n, "right")) != 0
    other = (np.abs(np.diff(t)) >= moment[1:]) | (stepped & (np.diff(n) > _ADJACENT))
    return np.concatenate([[True], other])


def _held(packets: Packets, at: Array, head: Array, found: Sightings) -> None:
    """Mark the packets that were held between two interfaces.

    They took over 1 s longer than the median of all packets between the same two.
    """
    if not len(at):
        return
    way = packets.iface[head].astype(np.int64) << 16 | packets.iface[at]
    took = packets.t[at] - packets.t[head]
    for one in np.unique(way[took > HELD_NS]).tolist():
        mine = way == one
        usual = np.median(took[mine]) if mine.sum() > 2 else 0
        late = mine & (took - usual > HELD_NS)
        found.held[at[late]] = True
        found.original[at[late]] = head[late]
