"""What a person types after a verb of the shell, read: which segments are meant, how many, and
where. Pure.

hold data from client to server:80 number 2
duplicate fin from server after 2.5 count all at wire2
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from twlab.errors import UsageError
from twlab.numerals import real, whole
from twlab.segment import Match, Segment, match

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
_HELP = f"segments are named by {', '.join(KINDS)}; then: from NODE[:PORT], to NODE[:PORT], flags FA, having F, containing TEXT, number 2, count 3"
_KINDS: dict[str, Match] = {
    "any": match(),
    "data": match(payload=True),
    "syn": match(flags="S"),
    "synack": match(flags="SA"),
    "ack": match(flags="A", payload=False),
    "fin": match(having="F"),
    "rst": match(having="R"),
}


@dataclass(frozen=True)
class Phrase:
    """What was typed.

    Attributes:
        match: the segments that are meant.
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


def parse(text: str, addresses: Mapping[str, Sequence[str]], *, count: int | None = 1) -> Phrase:
    """Read `text`.

    Args:
        addresses: node to all its addresses.
        count: where the text says none.

    Raises:
        UsageError: a word or a node that there is not, or a number that is none (``bad-phrase``).
    """
    found = None
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
            if word in ("from", "to"):
                more = _end(word, value, addresses)
            elif word in ("flags", "having"):
                more = _flags(word, value)
            elif word == "containing":
                more = match(payload=value.encode())
            elif word == "number":
                nth = int(_number(word, value, whole))
            elif word == "count":
                many = None if value == "all" else int(_number(word, value, whole))
            elif word == "after":
                after_s = _number(word, value, real)
            elif word == "behind":
                behind = int(_number(word, value, whole))
            else:
                at = value
        else:
            raise _bad(f"{word!r} is not understood")
        if more:
            found = _both(found, more)
    segments = found or _KINDS["any"]
    return Phrase(Match(segments.test, segments.words, nth), many, after_s, behind, at)


def end(text: str, addresses: Mapping[str, Sequence[str]]) -> tuple[str, int | None]:
    """``NODE`` or ``NODE:PORT``. Raises UsageError (``bad-phrase``)."""
    name, colon, port = text.partition(":")
    if name not in addresses:
        raise _bad(f"there is no node called {name!r}", f"the nodes are: {', '.join(addresses)}")
    return name, int(_number("a port", port, whole)) if colon else None


def _end(word: str, text: str, addresses: Mapping[str, Sequence[str]]) -> Match:
    name, port = end(text, addresses)
    known = frozenset(addresses[name])
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


def _number(word: str, text: str, kind: Callable[[str], float]) -> float:
    try:
        value = kind(text)
    except ValueError:
        value = -1
    if value < 0:
        raise _bad(f"{text!r} is no number for {word}")
    return value


def _bad(message: str, remedy: str = _HELP) -> UsageError:
    return UsageError(message, remedy, "bad-phrase")
