"""Parses what follows a verb of the shell: which segments, how many, and where.

Two examples of such text, with the verb before it:

``hold data from client to server:80 number 2``
``duplicate fin from server after 2.5 count all at wire2``
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twlab.errors import UsageError
from twlab.numerals import real, whole
from twlab.segment import Match, Segment, advance, match

KINDS = ("any", "data", "syn", "synack", "ack", "fin", "rst")
WORDS = (
    "from",
    "to",
    "flags",
    "having",
    "containing",
    "with-timestamp",
    "without-timestamp",
    "number",
    "count",
    "after",
    "behind",
    "at",
)
_MOST_BYTES = 65_000  # of one segment; an IP packet has at most 65,535 with its headers
_HELP = (
    f"segments are named by {', '.join(KINDS)}; then: from NODE[:PORT], to NODE[:PORT], flags FA, having F, "
    "containing TEXT, number 2, count 3"
)
_KINDS: dict[str, Match] = {
    "any": match(),
    "data": match(payload=True),
    "syn": match(flags="S"),
    "synack": match(flags="SA"),
    "ack": match(flags="A", payload=False),
    "fin": match(having="F"),
    "rst": match(having="R"),
}


End = tuple[str, int | None]  # a node and a port, None: any


@dataclass(frozen=True)
class Phrase:
    """The segments that a line of the shell means.

    Attributes:
        match: the segments that are meant.
        source, destination: the node and the port (None: any) that they come from and go to; None:
            any.
        count: of how many; None: of all.
        after_s: seconds until a copy or a delayed segment arrives.
        behind: how many later segments overtake.
        at: the wire; empty: the first.
    """

    match: Match
    count: int | None
    after_s: float
    behind: int
    at: str
    source: End | None = None
    destination: End | None = None


def parse(text: str, addresses: Mapping[str, Sequence[str]], *, count: int | None = 1) -> Phrase:
    """Parse what follows a verb.

    Args:
        addresses: node to all its addresses.
        count: the number of segments where the text gives none; None: all.

    Raises:
        UsageError: an unknown word or node, a malformed number, or words that fit no segment
            (``bad-phrase``).
    """
    found = None
    ends: dict[str, End] = {}
    texts: list[str] = []
    nth: int | None = None
    many, after_s, behind, at = count, 0.0, 1, ""
    rest = iter(text.split())
    for word in rest:
        more: Match | None = None
        if word in _KINDS:
            more = _KINDS[word]
        elif word in ("with-timestamp", "without-timestamp"):
            more = match(timestamps=word == "with-timestamp")
        elif word in WORDS:
            value = next(rest, "")
            if not value:
                raise _bad(f"nothing stands behind {word!r}")
            if word in ends:
                raise _bad(f"{word!r} stands there twice")
            if word in ("from", "to"):
                ends[word] = end(value, addresses)
            elif word in ("flags", "having"):
                more = _flags(word, value)
            elif word == "containing":
                texts.append(value)
                more = match(payload=value.encode())
            elif word == "number":
                nth = int(_number(word, value, whole, 1))
            elif word == "count":
                many = None if value == "all" else int(_number(word, value, whole, 1))
            elif word == "after":
                after_s = _number(word, value, real)
            elif word == "behind":
                behind = int(_number(word, value, whole, 1))
            else:
                at = value
        else:
            raise _bad(f"{word!r} is not understood")
        if more:
            found = _both(found, more)
    if found and not any(map(found.test, _all_kinds("".join(texts).encode()))):
        raise _bad(f"no segment is {found.words}")
    for word, (name, port) in ends.items():
        found = _both(found, _end(word, name, port, addresses))
    segments = found or _KINDS["any"]
    match_ = Match(segments.test, segments.words, nth)
    return Phrase(match_, many, after_s, behind, at, ends.get("from"), ends.get("to"))


def _all_kinds(text: bytes) -> Iterator[Segment]:
    """Yield a segment of every kind.

    The kinds combine all flags, no data and some data that contains `text`, no timestamp and one.
    """
    header = bytes(12) + b"\x50" + bytes(7)
    for letters in ("".join(letter for bit, letter in enumerate("FSRPAU") if value >> bit & 1) for value in range(64)):
        for data in (b"", text or b"x"):
            for stamp in (None, (1, 0)):
                yield Segment(0.0, "", "", 0, 0, 0, 0, letters, 0, stamp, len(data), header + data, 0)


def end(text: str, addresses: Mapping[str, Sequence[str]]) -> End:
    """Parse ``NODE`` or ``NODE:PORT``. Raises UsageError (``bad-phrase``)."""
    name, colon, port = text.partition(":")
    if name not in addresses:
        raise _bad(f"there is no node called {name!r}", f"the nodes are: {', '.join(addresses)}")
    return name, int(_number("a port", port, whole, 1)) if colon else None


@dataclass(frozen=True)
class Injection:
    """The fields of a segment to inject, relative to an existing one.

    Attributes:
        seq, ack, tsval, tsecr: how much higher than the existing segment's; tsval and tsecr are
            None where the timestamp stays as it is.
        flags, payload: None: as in the existing segment.
        timestamp: keep the existing segment's timestamp, if it has one.
        into: the node at which it arrives; empty: the wire sends it on as any other.
    """

    seq: int = 0
    ack: int = 0
    tsval: int | None = None
    tsecr: int | None = None
    flags: str | None = None
    payload: bytes | None = None
    timestamp: bool = True
    into: str = ""

    def fields(self, like: Segment) -> dict[str, Any]:
        """Return the arguments of `twlab.wire.craft.craft` besides ``like``."""
        known: dict[str, Any] = {"seq": like.seq + self.seq, "ack": like.ack + self.ack}
        if not self.timestamp:
            known["timestamp"] = None
        elif self.tsval is not None or self.tsecr is not None:
            value, echo = like.timestamp or (0, 0)
            known["timestamp"] = advance(value, self.tsval or 0), advance(echo, self.tsecr or 0)
        if self.payload is not None:
            known["payload"] = self.payload
        elif len(like.payload) < like.length:
            known["payload"] = b"x" * like.length  # of bulk, the capture keeps the beginning
        flags = self.flags if self.flags is not None else "PA" if self.payload is not None else None
        return known | ({"flags": flags} if flags is not None else {})


def parse_injection(words: Sequence[str], nodes: Collection[str], usage: str) -> Injection:
    """Parse what follows ``inject NUMBER|END``.

    Args:
        nodes: the names that may follow ``into``.
        usage: the remedy where something is not understood.

    Raises:
        UsageError: it cannot be read (``bad-phrase``).
    """
    fields: dict[str, Any] = {}
    rest = iter(words)
    for word in rest:
        if word == "without-timestamp":
            fields["timestamp"] = False
            continue
        value = next(rest, "")
        try:
            if word in ("seq", "ack", "tsval", "tsecr"):
                fields[word] = whole(value)
            elif word == "bytes" and 0 <= whole(value) <= _MOST_BYTES:
                fields["payload"] = b"x" * whole(value)
            elif word == "text" and value:
                fields["payload"] = value.encode()
            elif word == "flags" and value and not set(value.upper()) - set("FSRPAU"):
                fields["flags"] = value.upper()
            elif word == "into" and value in nodes:
                fields["into"] = value
            else:
                raise ValueError
        except ValueError:
            raise UsageError(f"{word} {value}".rstrip() + " is not understood", usage, "bad-phrase") from None
    return Injection(**fields)


def _end(word: str, name: str, port: int | None, addresses: Mapping[str, Sequence[str]]) -> Match:
    known, text = frozenset(addresses[name]), name if port is None else f"{name}:{port}"
    if word == "from":
        return Match(lambda s: s.source in known and port in (None, s.source_port), f"from {text}")
    return Match(lambda s: s.destination in known and port in (None, s.destination_port), f"to {text}")


def _flags(word: str, text: str) -> Match:
    letters = text.upper()
    if set(letters) - set("FSRPAU"):
        raise _bad(f"{text!r} are no flags", "flags are letters of FSRPAU, as in SA for SYN ACK")
    return match(flags=letters) if word == "flags" else match(having=letters)


def _both(one: Match | None, other: Match) -> Match:
    if one is None:
        return other
    first, second = one.test, other.test

    def test(segment: Segment) -> bool:
        return first(segment) and second(segment)

    return Match(test, f"{one.words} {other.words}")


def _number(word: str, text: str, kind: Callable[[str], float], least: int = 0) -> float:
    try:
        value = kind(text)
    except ValueError:
        value = -1
    if value < least:
        raise _bad(f"{text!r} is no number for {word}", f"a number from {least} on is wanted")
    return value


def _bad(message: str, remedy: str = _HELP) -> UsageError:
    return UsageError(message, remedy, "bad-phrase")
