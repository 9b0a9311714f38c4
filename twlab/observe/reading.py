"""Reads files into an observer.

Finds out the format of each, their order, and how far each could be read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from twlab.errors import UsageError
from twlab.observe import headers, pcap, pcapng
from twlab.observe.contents import Source
from twlab.observe.files import STANDARD_INPUT, DamagedError, Stream
from twlab.observe.findings import LENGTHS_S, Findings
from twlab.observe.frames import Interface
from twlab.observe.observer import Observer
from twlab.observe.packets import Array

_MOST_PLACES = 65_535


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


def first_time(path: str) -> int:
    """Return when the first frame of a capture was captured, in ns since 1970.

    0 if that cannot be read.
    """
    stream = Stream(path, 2 << 20)
    try:
        for frames in open_reader(stream):
            return int(frames.t[0]) if len(frames) else 0
    except (DamagedError, UsageError):
        pass
    finally:
        stream.close()
    return 0


def in_order(paths: Sequence[str]) -> list[str]:
    """Sort rotated captures by the times of their first frames.

    They stay as given if one of them is standard input.
    """
    if len(paths) < 2 or STANDARD_INPUT in paths:
        return list(paths)
    return sorted(paths, key=first_time)


def observe(
    paths: Sequence[str],
    *,
    title: str = "",
    lengths_s: Sequence[float] = LENGTHS_S,
    remember_s: float = 120.0,
    batch: int = 1 << 21,
    keep: int = 1 << 20,
    progress: Callable[[int], None] | None = None,
) -> Findings:
    """Read captures as one, in the order of their first frames.

    Args:
        paths: files, or ``-`` for standard input.
        lengths_s: lengths of TIME_WAIT to work out.
        remember_s, batch, keep: see `twlab.observe.observer.Observer`.
        progress: called with the number of frames so far.

    Raises:
        UsageError: a file is not there (``no-capture-file``) or is no capture (``not-a-capture``).
        CapabilityError: a package that decompresses it is missing (``no-decompressor``).
    """
    found = Findings(title=title or ", ".join(paths), lengths_s=tuple(lengths_s))
    tables = headers.Tables()
    observer = Observer(found, tables, remember_s=remember_s, batch=batch, keep=keep)
    places: dict[tuple[Interface, int], int] = {}
    for number, path in enumerate(in_order(paths)):
        if number:
            observer.begin_file()
        _read(path, found, tables, observer, places, progress)
    observer.finish()
    found.counts, found.links = tables.counts, tables.links
    return found


def _read(
    path: str,
    found: Findings,
    tables: headers.Tables,
    observer: Observer,
    places: dict[tuple[Interface, int], int],
    progress: Callable[[int], None] | None,
) -> None:
    stream = Stream(path)
    base, reader = found.frames, None
    observer.current = stream.name
    numbers = np.zeros(0, np.uint16)
    try:
        reader = open_reader(stream)
        order = ""
        for frames in reader:
            if reader.order != order:  # a pcapng section says it, and each may say another
                order, first = reader.order, base + int(frames.n[0])
                observer.sources.append(Source(path if stream.seekable else "", first, order, reader.before))
            if len(numbers) < len(reader.interfaces):
                numbers = _places(reader.interfaces, places, found)
            packets = headers.read(frames, tables, numbers)
            packets.n = packets.n + base
            observer.add(packets)
            if progress:
                progress(base + reader.frames)
    except DamagedError as fault:
        found.faults.append(f"{stream.name}: {fault}")
    finally:
        read = reader.frames if reader else 0
        found.files.append((stream.name, read))
        found.frames += read
        found.bad_times += reader.bad_times if reader else 0
        stream.close()


def _places(interfaces: list[Interface], places: dict[tuple[Interface, int], int], found: Findings) -> Array:
    """Return the number of each of a file's interfaces among those of all files.

    The same name, or the same place in rotated files, is the same interface.
    """
    numbers = []
    for index, interface in enumerate(interfaces):
        identity = interface, 0 if interface.name else index
        if identity not in places:
            places[identity] = min(len(places), _MOST_PLACES)
            found.interfaces.append(interface)
        numbers.append(places[identity])
    return np.array(numbers, np.uint16)
