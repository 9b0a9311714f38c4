"""Reads files into an observer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from twlab.observe import headers
from twlab.observe.captures import Capture, Lanes, merged
from twlab.observe.findings import LENGTHS_S, Findings
from twlab.observe.frames import Interface
from twlab.observe.observer import Observer
from twlab.observe.packets import FILE, Packets

_MOST_PLACES = 65_535


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
    """Read captures as one, in the order of time.

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

    def count(frames: int) -> None:
        found.frames += frames
        if progress:
            progress(found.frames)

    captures = [Capture(path, tables, count) for path in paths]
    if len(captures) > 1:
        for capture in captures:
            capture.look()
        captures.sort(key=lambda capture: capture.first)
    reader = _Reader(found, observer, captures)
    for packets in merged(reader.captures, reader.begin, reader.place, reader.end):
        observer.add(packets)
    observer.finish()
    found.addresses, found.counts, found.links = tables, Counter(tables.counts), Counter(tables.links)
    return found


class _Reader:
    """Numbers captures and their interfaces as they are read, and notes what could not be read."""

    def __init__(self, found: Findings, observer: Observer, captures: Sequence[Capture]):
        self._found, self._observer, self.captures = found, observer, captures
        self._lanes, self._lane = Lanes(), [0] * len(captures)
        self._places: dict[tuple[int, Interface, int], int] = {}
        found.files = [(capture.name, 0) for capture in captures]
        found.places = [[] for _ in captures]

    def begin(self, number: int) -> None:
        """Choose a capture's place among the rotated ones."""
        capture = self.captures[number]
        capture.fill()
        self._lane[number] = self._lanes.enter(number, capture.name)
        self._observer.sources[number] = capture.sources

    def place(self, number: int, packets: Packets) -> None:
        """Number packets and their interfaces over all captures.

        The same name, or the same place in rotated files, is the same interface.
        """
        found, capture, lane = self._found, self.captures[number], self._lane[number]
        places = found.places[number]
        for index in range(len(places), len(capture.interfaces)):
            interface = capture.interfaces[index]
            identity = lane, interface, 0 if interface.name else index
            if identity not in self._places:
                self._places[identity] = min(len(self._places), _MOST_PLACES)
                found.interfaces.append(interface)
            places.append(self._places[identity])
        packets.iface = np.array(places, np.uint16)[packets.iface]
        packets.n = packets.n + (number << FILE)
        self._observer.watch(packets, lane)

    def end(self, number: int) -> None:
        """Note how much of a capture was read, and why it ended too soon."""
        capture, found = self.captures[number], self._found
        self._lanes.leave(number)
        found.files[number] = (capture.name, capture.frames)
        found.bad_times += capture.bad_times
        found.faults += [capture.fault] if capture.fault else []
