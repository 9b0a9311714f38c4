"""Finds the frames of a pcap file.

The format is that of IETF draft-ietf-opsawg-pcap: microseconds or nanoseconds, either byte order.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import unpack_from

import numpy as np

from twlab.observe.chain import Format, follow
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
        stream, record, order = self._stream, self._record, self.order
        data, begin = stream.data, stream.start
        high = 2 if order == "<" else 0  # of the seconds: the bytes that change every 18 hours
        form = Format(order, 8, record, record, record + LARGEST, bytes(data[begin + high : begin + high + 2]), high)
        at, stream.start = follow(data, begin, stream.end, form)
        first, count = self.frames, len(at)
        self.frames += count
        damage = ""
        if stream.start + record <= stream.end:
            claimed = unpack_from(f"{order}I", data, stream.start + 8)[0]
            damage = f"frame {self.frames + 1} claims {claimed:,} bytes" if claimed > LARGEST else ""
        if not count:
            return None, damage
        header = rows(data, at, self._header)
        kept, length = header["kept"].astype(np.int64), header["length"].astype(np.int64)
        t = header["s"].astype(np.int64) * 1_000_000_000
        t += header["fraction"].astype(np.int64) * self._unit
        place, link = np.zeros(count, np.uint16), self.interfaces[0].link
        return Frames(
            data, at + record, kept, length, t, np.arange(first, self.frames), place, link, stream.offset
        ), damage
