"""Finds the frames of a pcapng file.

The format is that of IETF draft-ietf-opsawg-pcapng: any number of sections and interfaces, either
byte order.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import pack, unpack_from

import numpy as np

from twlab.observe.chain import Format, follow
from twlab.observe.files import DamagedError, Stream
from twlab.observe.frames import Frames, Interface, number
from twlab.observe.packets import Array

MAGIC = b"\x0a\x0d\x0d\x0a"
_SECTION, _INTERFACE, _OBSOLETE, _SIMPLE, _PACKET = 0x0A0D0D0A, 1, 2, 3, 6
_NAME, _RESOLUTION, _OFFSET = 2, 9, 14
_ORDER = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_MOST_INTERFACES = 60_000
_LATEST_NS = 1 << 62
_HEADER = 28  # of an enhanced packet block: type, length, interface, time, kept, length
_LEAST_BLOCK, _LEAST_PACKET = 12, 32  # bytes of any block, of an enhanced packet block


class PcapngReader:
    """The frames of the pcapng file in `stream`, whose first bytes are in its buffer.

    Attributes:
        interfaces: all interfaces of all sections so far.
        frames: frames read so far.
        order: byte order of the section, as `struct` has it.
        before: bytes between a frame and the field with its kept length.
        bad_times: frames left out because their time is out of range, or because their block has
            none.

    Raises:
        DamagedError: while reading; the frames yielded before are good.
    """

    def __init__(self, stream: Stream):
        self._stream = stream
        self.before = 8
        self.interfaces: list[Interface] = []
        self._units: list[tuple[int, int]] = []  # of each interface: time resolution as its option has it, offset in s
        self._first = 0  # number of the section's first interface
        self.order = "<"
        self.frames = self.bad_times = 0

    def __iter__(self) -> Iterator[Frames]:
        stream, more, fault = self._stream, True, ""
        while more and not fault:
            try:
                more = stream.fill()
            except DamagedError as why:
                more, fault = False, str(why)
            try:
                yield from self._blocks()
            except DamagedError as why:
                fault = str(why)
        if not fault and stream.end > stream.start:
            fault = f"it ends in the middle of a block, after frame {self.frames}"
        if fault:
            raise DamagedError(fault)

    def _blocks(self) -> Iterator[Frames]:
        """Read the whole blocks in the buffer."""
        stream, before = self._stream, -1
        while stream.start != before:
            before, order = stream.start, self.order
            form = Format(order, 4, 0, _LEAST_BLOCK, stream.capacity, pack(f"{order}I", _PACKET), 0)
            at, end = follow(stream.data, before, stream.end, form)
            edges, kinds = np.append(at, end), number(stream.data, at, f"{order}u4")
            done = 0
            for mark in np.nonzero((kinds == _SECTION) | (kinds == _INTERFACE))[0].tolist():
                yield from self._packets(edges[done : mark + 1])
                if kinds[mark] == _SECTION and self._order_at(int(at[mark])) != order:
                    break  # from here on, lengths have the other byte order
                self._mark(int(at[mark]), int(edges[mark + 1] - at[mark]), int(kinds[mark]))
                done = mark + 1
            else:
                yield from self._packets(edges[done:])
            self._where_it_stopped()

    def _packets(self, edges: Array) -> Iterator[Frames]:
        """Read blocks between which no section and no interface begins.

        Args:
            edges: where each begins, and where the last one ends.
        """
        if len(edges) < 2:
            return
        data, order = self._stream.data, self.order
        at, size = edges[:-1], np.diff(edges)
        kind = number(data, at, f"{order}u4")
        packet, counted = kind == _PACKET, (kind == _PACKET) | (kind == _SIMPLE) | (kind == _OBSOLETE)
        kept = number(data, at + 20, f"{order}u4").astype(np.int64)
        place = number(data, at + 8, f"{order}u4").astype(np.int64) + self._first
        good = (size % 4 == 0) & (number(data, edges[1:] - 4, f"{order}u4") == size)
        good &= ~packet | ((kept <= size - _LEAST_PACKET) & (place < len(self.interfaces)))
        count = len(at) if good.all() else int(np.argmin(good))
        numbers = self.frames + np.cumsum(counted[:count]) - 1
        self.frames += int(counted[:count].sum())
        self.bad_times += int(
            (counted[:count] & ~packet[:count]).sum()
        )  # no longer written; a simple block has no time
        which = np.nonzero(packet[:count])[0]
        if len(which):
            at, kept, place = at[which], kept[which], place[which]
            high, low = (number(data, at + field, f"{order}u4").astype(np.uint64) for field in (12, 16))
            length = number(data, at + 24, f"{order}u4").astype(np.int64)
            ticks = high << np.uint64(32) | low
            yield from self._frames(at + _HEADER, kept, length, ticks, place, numbers[which])
        self._stream.start = int(edges[count])
        if count < len(good):
            which_one = f"of frame {self.frames + 1}" if counted[count] else f"after frame {self.frames}"
            raise DamagedError(f"the block {which_one} is damaged")

    def _frames(
        self, start: Array, kept: Array, length: Array, ticks: Array, place: Array, numbers: Array
    ) -> Iterator[Frames]:
        """Yield the frames by link type, without those whose time is out of range."""
        t = np.empty(len(start), np.int64)
        for one in np.unique(place):
            mine = place == one
            t[mine] = _nanoseconds(ticks[mine], *self._units[one])
        good = t >= 0
        self.bad_times += int(len(t) - good.sum())
        links = np.array([interface.link for interface in self.interfaces])[place]
        for link in np.unique(links):
            which = np.nonzero(good & (links == link))[0]
            if len(which):
                yield Frames(self._stream.data, start[which], kept[which], length[which], t[which], numbers[which],
                             place[which].astype(np.uint16), int(link), self._stream.offset)  # fmt: skip

    def _mark(self, at: int, size: int, kind: int) -> None:
        """Read a block that begins a section, or describes an interface."""
        if size % 4 or unpack_from(f"{self.order}I", self._stream.data, at + size - 4)[0] != size:
            raise DamagedError(f"the block after frame {self.frames} is damaged")
        if kind == _INTERFACE:
            self._interface(at, size)
        else:
            self._first = len(self.interfaces)
        self._stream.start = at + size

    def _where_it_stopped(self) -> None:
        """Look at the block where the chain has stopped.

        It is not whole yet, or too large, or it is a section in the other byte order.
        """
        stream = self._stream
        at, left = stream.start, stream.end - stream.start
        if left < _LEAST_BLOCK:
            return
        if stream.data[at : at + 4] == MAGIC:
            self.order = self._order_at(at)
        kind, size = unpack_from(f"{self.order}II", stream.data, at)
        if size < _LEAST_BLOCK or size % 4:
            raise DamagedError(f"the block after frame {self.frames} has a length of {size:,} bytes")
        if size > stream.capacity:
            if kind in (_SECTION, _INTERFACE, _OBSOLETE, _PACKET) or size > 1 << 30:
                raise DamagedError(f"the block after frame {self.frames} claims {size:,} bytes")
            stream.skip(size)
        elif size <= left:
            self._mark(at, size, kind)

    def _order_at(self, at: int) -> str:
        """Return the byte order of the section that begins at `at`."""
        if order := _ORDER.get(bytes(self._stream.data[at + 8 : at + 12])):
            return order
        raise DamagedError(f"the section after frame {self.frames} has no byte order")

    def _interface(self, at: int, size: int) -> None:
        if size < 20 or len(self.interfaces) >= _MOST_INTERFACES:
            raise DamagedError(f"the interface after frame {self.frames} is damaged, or there are too many")
        link = unpack_from(f"{self.order}H", self._stream.data, at + 8)[0]
        options = dict(self._options(at + 16, at + size - 4))
        resolution = options.get(_RESOLUTION, b"\6")
        offset = options.get(_OFFSET, b"")
        name = options.get(_NAME, b"").split(b"\0")[0].decode(errors="replace")
        self.interfaces.append(Interface(link, name))
        self._units.append(
            (resolution[0] if resolution else 6, unpack_from(f"{self.order}q", offset)[0] if len(offset) == 8 else 0)
        )

    def _options(self, at: int, end: int) -> Iterator[tuple[int, bytes]]:
        while at + 4 <= end:
            code, size = unpack_from(f"{self.order}HH", self._stream.data, at)
            if code == 0 or at + 4 + size > end:
                return
            yield code, bytes(self._stream.data[at + 4 : at + 4 + size])
            at += 4 + size + -size % 4


def _nanoseconds(ticks: Array, resolution: int, offset_s: int) -> Array:
    """Return times in ns since 1970; -1 where one is out of range.

    Args:
        resolution: as in if_tsresol: a power of ten, or of two with bit 7.
    """
    power = resolution & 0x7F
    per_s = (2 if resolution & 0x80 else 10) ** power
    if per_s > 10**18 or abs(offset_s) > _LATEST_NS // 10**9:
        return np.full(len(ticks), -1, np.int64)
    seconds = ticks // np.uint64(per_s)
    rest = ticks - seconds * np.uint64(per_s)
    if per_s <= 10**9:
        nanoseconds = rest * np.uint64(10**9) // np.uint64(per_s)
    else:
        nanoseconds = (rest.astype(np.float64) * (1e9 / per_s)).astype(np.uint64)
    good = seconds < _LATEST_NS // 10**9 - abs(offset_s)
    t = (np.where(good, seconds, 0).astype(np.int64) + offset_s) * 10**9 + nanoseconds.astype(np.int64)
    return np.where(good & (t >= 0), t, -1)
