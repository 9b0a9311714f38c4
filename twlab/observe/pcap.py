"""Finds the frames of a pcap file.

The format is that of IETF draft-ietf-opsawg-pcap: microseconds or nanoseconds, either byte order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from struct import Struct, unpack_from
from typing import Any

import numpy as np

from twlab.observe.files import DamagedError, Stream
from twlab.observe.frames import LARGEST, Frames, Interface, rows

# magic number, as its bytes stand in the file: byte order, nanoseconds of a unit, bytes of a
# record's header
MAGIC = {
    b"\xd4\xc3\xb2\xa1": ("<", 1000, 16),
    b"\xa1\xb2\xc3\xd4": (">", 1000, 16),
    b"\x4d\x3c\xb2\xa1": ("<", 1, 16),
    b"\xa1\xb2\x3c\x4d": (">", 1, 16),
    b"\x34\xcd\xb2\xa1": ("<", 1000, 24),  # Kuznetsov's patched libpcap
    b"\xa1\xb2\xcd\x34": (">", 1000, 24),
}
_HEADER = 24


class PcapReader:
    """The frames of the pcap file in `stream`, whose first bytes are in its buffer.

    Attributes:
        interfaces: the one interface.
        frames: frames read so far.
        bad_times: always 0; times of this format cannot be out of range.
        order: byte order, as `struct` has it.
        before: bytes between a frame and the field with its kept length.

    Raises:
        DamagedError: on construction or while reading; the frames yielded before are good.
    """

    bad_times = 0

    def __init__(self, stream: Stream):
        self._stream = stream
        if not stream.require(_HEADER):
            raise DamagedError("it ends in the file's header")
        self.order, self._unit, self._record = MAGIC[bytes(stream.data[stream.start : stream.start + 4])]
        link = (
            unpack_from(f"{self.order}I", stream.data, stream.start + 20)[0] & 0xFFFF
        )  # above: bits about the frame check sequence
        self._header = np.dtype([(name, f"{self.order}u4") for name in ("s", "fraction", "kept", "length")])
        stream.start += _HEADER
        self.interfaces = [Interface(link)]
        self.frames = 0
        self.before = self._record - 8

    def __iter__(self) -> Iterator[Frames]:
        stream, more, fault = self._stream, True, ""
        while more and not fault:
            try:
                more = stream.fill()
            except DamagedError as why:
                more, fault = False, str(why)
            batch, damage = self._batch()
            fault = damage or fault
            if batch is not None:
                yield batch
        if not fault and stream.end > stream.start:
            fault = f"it ends in the middle of frame {self.frames + 1}"
        if fault:
            raise DamagedError(fault)

    def _batch(self) -> tuple[Frames | None, str]:
        """Return the whole records in the buffer, and why the one after them cannot be one."""
        stream, record = self._stream, self._record
        at = np.array(
            _walk(stream.data, stream.start, stream.end, record, Struct(f"{self.order}I").unpack_from), np.int64
        )
        header = rows(stream.data, at, self._header)
        kept = header["kept"].astype(np.int64)
        whole = (kept <= LARGEST) & (at + record + kept <= stream.end)
        count = len(at) if whole.all() else int(np.argmin(whole))
        damage = (
            f"frame {self.frames + count + 1} claims {int(kept[count]):,} bytes"
            if count < len(at) and kept[count] > LARGEST
            else ""
        )
        if not count:
            return None, damage
        at, kept, header = at[:count], kept[:count], header[:count]
        stream.start = int(at[-1] + record + kept[-1])
        first, self.frames = self.frames, self.frames + count
        t = header["s"].astype(np.int64) * 1_000_000_000 + header["fraction"].astype(np.int64) * self._unit
        place, link = np.zeros(count, np.uint16), self.interfaces[0].link
        length = header["length"].astype(np.int64)
        return Frames(
            stream.data, at + record, kept, length, t, np.arange(first, self.frames), place, link, stream.offset
        ), damage


def _walk(data: bytearray, start: int, end: int, record: int, unpack: Callable[..., Any]) -> list[int]:
    """Return where each record between `start` and `end` begins.

    The last one may reach beyond `end`.
    """
    starts: list[int] = []
    append, last = starts.append, end - record
    while start <= last:
        append(start)
        start += record + unpack(data, start + 8)[0]
    return starts
