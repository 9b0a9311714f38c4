"""Reads captures side by side, and merges their packets in the order of time.

A capture is opened when the others are 1 ms past its first packet. So rotated files are read one
after the other, and files of the same time together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from pathlib import Path

import numpy as np

from twlab.errors import UsageError
from twlab.observe import headers, pcap, pcapng
from twlab.observe.contents import Source
from twlab.observe.files import STANDARD_INPUT, DamagedError, Stream
from twlab.observe.frames import Interface
from twlab.observe.packets import SMALL_STEP_NS, Array, Packets, joined

_LEAST_NS = np.iinfo(np.int64).min


def open_reader(stream: Stream) -> pcap.PcapReader | pcapng.PcapngReader:
    """Choose the reader for the format of `stream`.

    Raises:
        UsageError: it is no capture (``not-a-capture``).
        DamagedError: it is one, and ends in its header.
    """
    stream.require(4)
    head = bytes(stream.data[stream.start : min(stream.end, stream.start + 4)])
    if head in pcap.MAGIC:
        return pcap.PcapReader(stream)
    if head == pcapng.MAGIC:
        return pcapng.PcapngReader(stream)
    remedy = "give a pcap or pcapng file, plain or compressed with gzip, zstd or lz4"
    what = "is empty" if not head else f"begins with {head.hex(' ')}, as no capture does"
    raise UsageError(f"{stream.name} {what}", remedy, "not-a-capture")


class Capture:
    """A capture that is being read.

    Attributes:
        name: as `Stream` has it.
        first: time of its first frame, in ns since 1970, after `look`; 0 if that cannot be read.
        pending: packets that were read and not taken yet.
        keys: where each of them stands in a merge: the latest time so far.
        interfaces: those found so far.
        sources: its parts, if it can be read again; empty otherwise.
        frames, bad_times: read so far.
        fault: why it could not be read to its end; empty if it could.
    """

    def __init__(self, path: str, tables: headers.Tables, progress: Callable[[int], None]):
        self._path, self._tables, self._progress = path, tables, progress
        self.name, self.fault = path, ""
        self.first = self.frames = self.bad_times = 0
        self.interfaces: list[Interface] = []
        self.sources: list[Source] = []
        self.pending, self.keys = Packets(0), np.zeros(0, np.int64)
        self._batches = self._read()
        self._latest = _LEAST_NS

    def look(self) -> None:
        """Find out `first`."""
        if self._path != STANDARD_INPUT and Path(self._path).is_file():
            self.first = _first_time(self._path)
        elif self.fill():  # standard input or a pipe can be read once only
            self.first = int(self.keys[0])

    def fill(self) -> bool:
        """Read on if no packets are pending.

        Returns:
            False at the end of the capture.
        """
        while not self.pending.size:
            batch = next(self._batches, None)
            if batch is None:
                return False
            self.pending = batch
        if len(self.keys) != self.pending.size:
            self.keys = np.maximum.accumulate(np.maximum(self.pending.t, self._latest))
            self._latest = int(self.keys[-1])
        return True

    def take(self, until: int | None = None) -> tuple[Packets, Array]:
        """Take the pending packets whose keys are `until` at most, or all; and their keys."""
        count = self.pending.size if until is None else int(np.searchsorted(self.keys, until, "right"))
        if count == self.pending.size:
            taken = self.pending, self.keys
            self.pending, self.keys = Packets(0), self.keys[:0]
            return taken
        taken = self.pending.take(np.arange(count)), self.keys[:count]
        self.pending, self.keys = self.pending.take(np.arange(count, self.pending.size)), self.keys[count:]
        return taken

    def _read(self) -> Iterator[Packets]:
        """Yield the packets; their frames and interfaces have the numbers that they have in the file."""
        stream = Stream(self._path)
        self.name, reader, order = stream.name, None, ""
        try:
            reader = open_reader(stream)
            for frames in reader:
                if reader.order != order and stream.seekable:  # each section of a pcapng may have another
                    order = reader.order
                    self.sources.append(Source(self._path, int(frames.n[0]), order, reader.before))
                self.interfaces = reader.interfaces
                packets = headers.read(frames, self._tables, np.arange(len(reader.interfaces), dtype=np.uint16))
                self._count(reader.frames)
                yield packets
        except DamagedError as fault:
            self.fault = f"{stream.name}: {fault}"
        finally:
            if reader:
                self._count(reader.frames)
                self.bad_times = reader.bad_times
            stream.close()

    def _count(self, frames: int) -> None:
        self._progress(frames - self.frames)
        self.frames = frames


def _first_time(path: str) -> int:
    stream = Stream(path, 2 << 20)
    try:
        for frames in open_reader(stream):
            return int(frames.t[0]) if len(frames) else 0
    except (DamagedError, UsageError):
        pass
    finally:
        stream.close()
    return 0


class Lanes:
    """Sequences of rotated captures: each begins when the one before has ended.

    Captures of one lane have the same interfaces; captures of the same time are in different lanes.
    """

    def __init__(self) -> None:
        self._last: list[str] = []  # the name of each lane's last capture
        self._busy: dict[int, int] = {}  # lane of each capture that is being read

    def enter(self, number: int, name: str) -> int:
        """Return the lane of a capture that begins now.

        It is that of the ended capture whose name is most alike, or a new one.
        """
        free = [lane for lane in range(len(self._last)) if lane not in self._busy.values()]
        if free:
            lane = max(free, key=lambda lane: _alike(self._last[lane], name))
            self._last[lane] = name
        else:
            lane = len(self._last)
            self._last.append(name)
        self._busy[number] = lane
        return lane

    def leave(self, number: int) -> None:
        """Note that a capture has ended."""
        del self._busy[number]


def _alike(one: str, other: str) -> int:
    """Count the characters that two names begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def merged(
    captures: Sequence[Capture], begin: Callable[[int], None], taken: Callable[[int, Packets], None],
    end: Callable[[int], None],
) -> Iterator[Packets]:  # fmt: skip
    """Yield the packets of captures that are sorted by `first`, in the order of time.

    Within a capture they stay in its order. Of equal times those of the first capture come first.

    Args:
        begin, end: called with the number of a capture before and after its packets.
        taken: called with packets as they are taken from a capture, to be changed in place.
    """
    waiting = list(range(len(captures)))
    open_now: list[int] = []
    while waiting or open_now:
        soonest = min((int(captures[number].keys[-1]) for number in open_now), default=None)
        if waiting and (soonest is None or captures[waiting[0]].first + SMALL_STEP_NS <= soonest):
            open_now.append(waiting.pop(0))
            begin(open_now[-1])
        else:
            parts = []
            for number in open_now:
                packets, keys = captures[number].take(soonest if len(open_now) > 1 else None)
                if packets.size:
                    taken(number, packets)
                    parts.append((packets, keys))
            if len(parts) == 1:
                yield parts[0][0]
            else:
                order = np.argsort(np.concatenate([keys for _, keys in parts]), kind="stable")
                yield joined(packets for packets, _ in parts).take(order)
        for number in [number for number in open_now if not captures[number].fill()]:
            open_now.remove(number)
            end(number)
