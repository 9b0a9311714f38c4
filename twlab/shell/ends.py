"""The connections of a shell session.

Kept are their ends by name, the connections that are still being opened, and the bytes that each
end has read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby

from twlab.errors import UsageError
from twlab.numerals import is_whole
from twlab.traffic.applications import Connecting, Listener
from twlab.traffic.connection import Connection

_LETTERS = (("c", "s"), ("a", "b"), ("x", "y"), ("opener", "accepter"))  # of the opener, and of the accepter
_RUN = 16  # so many equal bytes are shown as a count
_MOST_RUNS = 64
_SHOWN = 4096  # bytes that a read shows where no range is named
_KEPT = 1 << 24


@dataclass
class _Opening:
    """A connection that is being opened, or whose other end has not been accepted yet."""

    number: int
    connecting: Connecting
    server: str
    port: int
    announced: bool = False


class Ends:
    """The ends of all connections.

    Args:
        nodes: names that no end may have.
        say: prints a line.

    Attributes:
        named: name to end: ``c1`` for the node that opened the first connection and ``s1`` for the
            one that accepted it, or other letters where a node has such a name.
        listeners: (node, port) to listener.
    """

    def __init__(self, nodes: Iterable[str], say: Callable[[str], None]):
        names = list(nodes)
        self._letters = next(
            (pair for pair in _LETTERS if not any(re.fullmatch(rf"({pair[0]}|{pair[1]})\d+", name) for name in names)),
            _LETTERS[-1],
        )
        self.named: dict[str, Connection] = {}
        self.listeners: dict[tuple[str, int], Listener] = {}
        self._say = say
        self._openings: list[_Opening] = []
        self._count = 0
        self._read: dict[str, bytearray] = {}

    def begin(self, connecting: Connecting, server: str, port: int) -> str:
        """Take up a connection that is being opened, and return its end's future name."""
        self._count += 1
        self._openings.append(_Opening(self._count, connecting, server, port))
        return f"{self._letters[0]}{self._count}"

    @property
    def pending(self) -> bool:
        """Return whether a connect() is still without an outcome."""
        return any(opening.connecting.attempt is None for opening in self._openings)

    @property
    def complete(self) -> bool:
        """Return whether every open connection has both ends named.

        A connection counts only where a listener of the shell is to accept it.
        """
        return not any(opening.connecting.attempt and self._waits(opening) for opening in self._openings)

    def settle(self) -> None:
        """Name the ends of new connections, and report the refused ones."""
        for opening in list(self._openings):
            attempt = opening.connecting.attempt
            if attempt is None:
                continue
            names = [f"{letter}{opening.number}" for letter in self._letters]
            if not attempt.connection:
                self._openings.remove(opening)
                self._count -= opening.number == self._count  # the next one is called so
                if attempt.error == "ECONNREFUSED":
                    self._say(self._why_refused(opening))
                continue
            self.named.setdefault(names[0], attempt.connection)
            listener = self.listeners.get((opening.server, opening.port))
            peer = listener.peer_of(attempt.connection) if listener else None
            if peer:
                self.named[names[1]] = peer
                self._say(f"{names[1]}: open" if opening.announced else f"{names[0]} and {names[1]}: open")
            elif not opening.announced:
                later = (
                    f"; {opening.server} has not accepted it yet, {names[1]} is named when it does" if listener else ""
                )
                self._say(f"{names[0]}: open{later}")
            opening.announced = True
            if peer or not listener:
                self._openings.remove(opening)

    def _why_refused(self, opening: _Opening) -> str:
        if (opening.server, opening.port) in self.listeners:
            return f"{opening.server} listens on port {opening.port}, but the connection was led to another port"
        return f"no application listens there: listen {opening.server} {opening.port}"

    def _waits(self, opening: _Opening) -> bool:
        attempt, listener = opening.connecting.attempt, self.listeners.get((opening.server, opening.port))
        return bool(attempt and attempt.connection and listener and not listener.waiting)

    def __getitem__(self, name: str) -> Connection:
        if name not in self.named:
            known = ", ".join(self.named) or "none yet; see help connect"
            raise UsageError(f"there is no end called {name!r}", f"there are: {known}", "bad-phrase")
        return self.named[name]

    def read(self, name: str, span: str = "") -> str:
        """Have the application at the end `name` read, and return in words what it read.

        Args:
            name: the end whose application reads what has arrived.
            span: ``200-239``: show these bytes of all that it has read so far, counted from 0, and
                not what is new.

        Raises:
            UsageError: no such end, no range, or one that ends past what has been read
                (``bad-phrase``).
        """
        end = self[name]
        kept = self._read.setdefault(name, bytearray())
        first, last = _span(span) if span else (len(kept), None)
        if end.unread:
            kept += end.receive(end.unread)
            del kept[_KEPT:]
        if last is not None and last >= len(kept):
            raise UsageError(
                f"{name} has read {len(kept)} bytes",
                f"for example: read {name} 0-{max(0, len(kept) - 1)}",
                "bad-phrase",
            )
        data = bytes(kept[first : None if last is None else last + 1])
        text = shown(data if last is not None else data[:_SHOWN], first)
        rest = len(data) - _SHOWN if last is None else 0
        return f"{name}: {text}" + (
            f" ... and {rest} bytes more: read {name} {first + _SHOWN}-{first + len(data) - 1}" if rest > 0 else ""
        )


def shown(data: bytes, first: int = 0) -> str:
    """Return all of `data` in words: short data as it is, other data run by run.

    A run's place is counted from `first`.
    """
    if len(data) <= _RUN:
        return repr(data)
    runs: list[tuple[int, bytes]] = []
    at = first
    for byte, same in groupby(data):
        text = bytes([byte]) * len(list(same))
        if runs and len(text) < _RUN and not _long(runs[-1][1]):
            runs[-1] = (runs[-1][0], runs[-1][1] + text)
        else:
            runs.append((at, text))
        at += len(text)
    if len(runs) > _MOST_RUNS or (len(runs) == 1 and not _long(data)):
        return f"{len(data)} bytes: {data!r}"
    words = [
        f"{start}-{start + len(text) - 1} " + (f"{len(text)} x {text[:1]!r}" if _long(text) else repr(text))
        for start, text in runs
    ]
    return f"{len(data)} bytes: {', '.join(words)}"


def _long(text: bytes) -> bool:
    """Return whether `text` is a run: many bytes, all equal."""
    return len(text) >= _RUN and len(set(text)) == 1


def _span(text: str) -> tuple[int, int]:
    first, sign, last = text.partition("-")
    if not (sign and is_whole(first) and is_whole(last) and int(first) <= int(last)):
        raise UsageError(
            f"{text!r} is no range of bytes", "for example: read s1 200-239; the first byte is 0", "bad-phrase"
        )
    return int(first), int(last)
