"""Finds the frames of a pcapng file.

The format is that of IETF draft-ietf-opsawg-pcapng: any number of sections and interfaces, either
byte order.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct, unpack_from

import numpy as np

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
            before = -1
            while stream.start != before:
                before = stream.start
                try:
                    starts = self._packets()
                    yield from self._batch(starts)
                    if stream.start == before:
                        self._other_block()
                except DamagedError as why:
                    fault = str(why)
                    break
        if not fault and stream.end > stream.start:
            fault = f"it ends in the middle of a block, after frame {self.frames}"
        if fault:
            raise DamagedError(fault)

    def _packets(self) -> list[int]:
        """Skip the enhanced packet blocks in the buffer, up to a block of another kind.

        Returns:
            Where each of them begins.
        """
        stream = self._stream
        starts: list[int] = []
        append, unpack = starts.append, Struct(f"{self.order}II").unpack_from
        data, at, end = stream.data, stream.start, stream.end
        while at + 12 <= end:
            kind, size = unpack(data, at)
            if kind != _PACKET or size < 32 or at + size > end:
                break
            append(at)
            at += size
        stream.start = at
        return starts

    def _batch(self, starts: list[int]) -> Iterator[Frames]:
        if not starts:
            return
        data, order = self._stream.data, self.order
        at = np.array(starts, np.int64)
        size = number(data, at + 4, f"{order}u4").astype(np.int64)
        kept = number(data, at + 20, f"{order}u4").astype(np.int64)
        place = number(data, at + 8, f"{order}u4").astype(np.int64) + self._first
        good = (size % 4 == 0) & (kept <= size - 32) & (place < len(self.interfaces))
        good &= number(data, np.where(good, at + size - 4, at), f"{order}u4") == size
        count = len(at) if good.all() else int(np.argmin(good))
        at, kept, place = at[:count], kept[:count], place[:count]
        ticks = number(data, at + 12, f"{order}u4").astype(np.uint64) << np.uint64(32) | number(
            data, at + 16, f"{order}u4"
        )
        length = number(data, at + 24, f"{order}u4").astype(np.int64)
        yield from self._frames(at + _HEADER, kept, length, ticks, place)
        if count < len(starts):
            raise DamagedError(f"the block of frame {self.frames + 1} is damaged")

    def _frames(self, start: Array, kept: Array, length: Array, ticks: Array, place: Array) -> Iterator[Frames]:
        """Yield the frames by link type, without those whose time is out of range."""
        numbers = np.arange(self.frames, self.frames + len(start))
        self.frames += len(start)
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

    def _other_block(self) -> None:
        """Read the block at the front of the buffer if it is whole.

        Skips a block that is not needed.
        """
        stream = self._stream
        at, left = stream.start, stream.end - stream.start
        if left < 12:
            return
        if stream.data[at : at + 4] == MAGIC:
            self._section(at)
        kind, size = unpack_from(f"{self.order}II", stream.data, at)
        if size < 12 or size % 4:
            raise DamagedError(f"the block after frame {self.frames} has a length of {size:,} bytes")
        if size > stream.capacity:
            if kind in (_SECTION, _INTERFACE, _OBSOLETE, _PACKET) or size > 1 << 30:
                raise DamagedError(f"the block after frame {self.frames} claims {size:,} bytes")
            stream.skip(size)
            return
        if size > left:
            return
        if unpack_from(f"{self.order}I", stream.data, at + size - 4)[0] != size:
            raise DamagedError(f"the block after frame {self.frames} is damaged")
        stream.start += size
        if kind == _INTERFACE:
            self._interface(at, size)
        elif kind in (_OBSOLETE, _SIMPLE):
            self.frames += 1  # neither is written any more; a simple block has no time
            self.bad_times += 1
        elif kind == _PACKET:
            raise DamagedError(f"the block of frame {self.frames + 1} is too short")

    def _section(self, at: int) -> None:
        order = _ORDER.get(bytes(self._stream.data[at + 8 : at + 12]))
        if order is None:
            raise DamagedError(f"the section after frame {self.frames} has no byte order")
        self.order, self._first = order, len(self.interfaces)

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
