"""Holds TCP packets in columns: one numpy array a field, all of one length."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
_FEW = 64

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16

# Bits of the column `bits`.
FORWARD = 1  # the sender is the lower of the two ends; the other direction has 0
STAMPED = 2  # it carries a timestamp
SIX = 4  # IPv6: it has no identification, and its addresses are indices into `Tables.six`
SEEN = 8  # it was analysed in an earlier batch
AGAIN = 16  # an identical packet had passed the same place before: a copy
STRAY = 32  # its numbers are not those of the connection that was open
PARTIAL = 64  # a fragment, or a packet that was cut before its options

FILE = 40  # bits of a frame's number
NUMBER = (1 << FILE) - 1
SMALL_STEP_NS = 1_000_000  # packets of several queues stand so far from their order at most

FIELDS = {
    "t": np.int64,  # nanoseconds since 1970
    "n": np.int64,  # number of the frame in its file, counted from 0; above bit 40: number of the file
    "off": np.int64,  # where the frame's bytes begin in the decompressed file
    "key": np.uint64,  # hash of the four-tuple and the virtual network, the same for both directions
    "same": np.uint64,  # hash of what copies share: four-tuple, numbers, timestamps, identification
    "src": np.uint32,
    "dst": np.uint32,
    "seq": np.uint32,
    "ack": np.uint32,
    "tsval": np.uint32,
    "tsecr": np.uint32,
    "ln": np.uint32,  # bytes of payload
    "sport": np.uint16,
    "dport": np.uint16,
    "win": np.uint16,  # not scaled
    "ipid": np.uint16,
    "iface": np.uint16,
    "net": np.uint16,  # index of the virtual network
    "flags": np.uint8,
    "ttl": np.uint8,
    "bits": np.uint8,
    "scale": np.uint8,  # of a SYN: the shift of later windows; 255: the option is missing
}


class Packets:
    """Columns by name, see `FIELDS`."""

    __slots__ = (*FIELDS, "size")

    t: Array
    n: Array
    off: Array
    key: Array
    same: Array
    src: Array
    dst: Array
    seq: Array
    ack: Array
    tsval: Array
    tsecr: Array
    ln: Array
    sport: Array
    dport: Array
    win: Array
    ipid: Array
    iface: Array
    net: Array
    flags: Array
    ttl: Array
    bits: Array
    scale: Array

    def __init__(self, size: int, columns: dict[str, Array] | None = None):
        self.size = size
        for name, kind in FIELDS.items():
            setattr(self, name, columns[name] if columns else np.empty(size, kind))

    def __len__(self) -> int:
        return self.size

    def take(self, which: Array) -> Packets:
        """Copy the rows `which`, given as indices or as a mask."""
        columns = {name: getattr(self, name)[which] for name in FIELDS}
        return Packets(len(columns["t"]), columns)

    def view(self, size: int) -> Packets:
        """Return the first `size` rows, not copied."""
        return Packets(size, {name: getattr(self, name)[:size] for name in FIELDS})

    def put(self, at: int, other: Packets) -> None:
        """Copy all rows of `other` into this one, from row `at` on."""
        for name in FIELDS:
            getattr(self, name)[at : at + other.size] = getattr(other, name)

    @property
    def forward(self) -> Array:
        """1 where the sender is the lower of the two ends, otherwise 0."""
        return self.bits & FORWARD


def settle(packets: Packets) -> None:
    """Sort by time where neighbours stand in the wrong order by 1 ms at most.

    A step back that is longer is one of the clock, and no packet moves over it.
    """
    steps_ns = np.diff(packets.t)
    back = np.nonzero(steps_ns < 0)[0]
    clock = np.nonzero(steps_ns[back] < -SMALL_STEP_NS)[0]
    edges = np.concatenate([[0], back[clock] + 1, [packets.size]])
    small = np.delete(back, clock)
    for part in np.unique(np.searchsorted(edges, small, "right")).tolist():
        begin, end = int(edges[part - 1]), int(edges[part])
        order = np.argsort(packets.t[begin:end], kind="stable")
        moved = np.nonzero(order != np.arange(end - begin))[0]
        for name in FIELDS:
            column = getattr(packets, name)[begin:end]
            column[moved] = column[order[moved]]


def after_last(seq: Array, length: Array, flags: Array) -> Array:
    """Return the sequence number after the last one that each packet occupies."""
    return seq + length + ((flags & FIN) != 0) + ((flags & SYN) != 0).astype(np.uint32)


def joined(parts: Iterable[Packets]) -> Packets:
    """Join the rows of `parts`, in their order."""
    all_parts = list(parts)
    columns = {name: np.concatenate([getattr(part, name) for part in all_parts]) for name in FIELDS}
    return Packets(len(columns["t"]), columns)


def put_first(target: Array, index: tuple[Array, ...], values: Array) -> None:
    """Assign ``target[index] = values``; of a repeated index the first value stays."""
    # Copies, because numpy walks views with negative strides from their other end, and then the
    # last value would stay.
    target[tuple(column[::-1].copy() for column in index)] = values[::-1].copy()


def steps(ahead: Array, behind: Array) -> Array:
    """Return how far `ahead` is ahead of `behind` on the circle of 2^32.

    The result is between -2^31 and 2^31 - 1.
    """
    return (ahead - behind).astype(np.uint32).view(np.int32)


def mixed(value: Array) -> Array:
    """Spread the entropy of 64-bit integers over all bits.

    This is the finaliser of splitmix64. Overwrites `value`.
    """
    value ^= value >> np.uint64(30)
    value *= np.uint64(0xBF58476D1CE4E5B9)
    value ^= value >> np.uint64(27)
    value *= np.uint64(0x94D049BB133111EB)
    value ^= value >> np.uint64(31)
    return value


def grouped(keys: Array) -> tuple[Array, Array]:
    """Sort so that equal `keys` become neighbours, and stay in their order.

    The order of different keys is arbitrary.

    Returns:
        The index of each, and the keys in this order.
    """
    high, order = _by_upper_bits(keys)
    ordered = keys[order]
    clash = (high[1:] == high[:-1]) & (ordered[1:] != ordered[:-1])
    if clash.any():
        at = np.nonzero(np.isin(high, high[1:][clash]))[0]
        order[at] = order[at][np.lexsort((order[at], ordered[at], high[at]))]
        ordered[at] = keys[order[at]]
    return order, ordered


def repeated(keys: Array) -> Array:
    """Return the indices of `keys` that occur more than once, grouped.

    The order is that of `grouped`."""
    some = _perhaps_repeated(keys)
    if not len(some):
        return some
    order, ordered = grouped(keys[some])
    alike = ordered[1:] == ordered[:-1]
    return some[order][np.append(alike, False) | np.append(False, alike)]


def _perhaps_repeated(keys: Array) -> Array:
    """Return the indices, in order, of the `keys` of which another has the same lower half.

    Where they are few. Otherwise the indices of all.
    """
    half = keys.astype(np.uint32)
    ordered = np.sort(half)
    alike = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(alike) > len(keys) // _FEW:
        return np.arange(len(keys))
    marked = np.zeros(1 << 16, bool)
    marked[alike & 0xFFFF] = True
    some = np.nonzero(marked[half & np.uint32(0xFFFF)])[0]
    return some[np.isin(half[some], alike)]


def _by_upper_bits(keys: Array) -> tuple[Array, Array]:
    """Sort 64-bit integers by those of their bits that leave room for an index.

    It takes one sort of integers: these bits above the index.

    Returns:
        The bits, sorted; the index of each.
    """
    bits = np.uint64(max(1, int(len(keys) - 1).bit_length()) if len(keys) else 1)
    low = (np.uint64(1) << bits) - np.uint64(1)
    packed = keys & ~low
    packed |= np.arange(len(keys), dtype=np.uint64)
    packed.sort()
    order = (packed & low).view(np.int64)
    packed >>= bits
    return packed, order
