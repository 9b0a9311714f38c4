"""The rows of a ladder: arrows, folds, captions, breaks. Pure.

States are rows too, see `twlab.report.ladder.states`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from twlab.report.ladder.states import State
from twlab.segment import Flow

_NAMES = {"F": "FIN", "S": "SYN", "R": "RST", "P": "PSH", "A": "ACK", "U": "URG"}
ArrowPart = Literal["", "out", "in"]


@dataclass(frozen=True, slots=True)
class Arrow:
    """One segment, from where it set out to where it arrived.

    A segment that was kept on its way for long is two arrows.

    Attributes:
        number: counted from 1 in the arm, in the order in which segments set out.
        packet: the first sighting's number in the capture, as Wireshark counts.
        path: the nodes on its way.
        left_s, arrived_s: first and last sighting, in seconds since the arm began.
        flow: the four-tuple outside of all gateways, sender first.
        seq, ack: relative to the SYN of its connection, a copy's as its original's; `ack` is None
            without the flag.
        connection: which connection of its four-tuple this is, counted from 1; 0 when its SYN was
            not seen.
        mark: what happened to it: "", ``held``, ``delayed``, ``copied``, ``copy``, ``injected``,
            ``dropped``, ``lost`` or ``unanswered``.
        words: the same in words; or that bytes of it had been in a segment that the lab put in.
        lost: it did not arrive.
        part: ``out``: the way to the node that kept it; ``in``: the way on from there, `left_s` is
            when it was released; "": the whole way.
        kept_at: the node that kept it longest; "" without one.
        kept_s: for how long.
    """

    number: int
    packet: int
    path: tuple[str, ...]
    left_s: float
    arrived_s: float
    flow: Flow
    flags: str
    seq: int
    ack: int | None
    length: int
    timestamp: tuple[int, int] | None
    connection: int
    mark: str
    words: str
    lost: bool
    part: ArrowPart = ""
    kept_at: str = ""
    kept_s: float = 0.0

    @property
    def plain(self) -> bool:
        """Whether nothing distinguishes it from the bulk around it."""
        return not self.words and not set(self.flags) & set("SFR")

    @property
    def exchange(self) -> tuple[frozenset[Flow], int]:
        """The connection that it belongs to, in either direction."""
        return frozenset((self.flow, self.flow.reversed())), self.connection

    def label(self) -> str:
        """Return ``SYN seq 0`` or ``PSH ACK seq 33,000,001 ack 1 len 400``."""
        text = " ".join(_NAMES[letter] for letter in "SFRPAU" if letter in self.flags) + f" seq {self.seq:,}"
        text += f" ack {self.ack:,}" if self.ack is not None else ""
        text += f" len {self.length:,}" if self.length else ""
        return text + (f" ts {self.timestamp[0]}" if self.timestamp else "")


@dataclass(frozen=True, slots=True)
class Strand:
    """One line of a fold: many segments drawn as one arrow.

    Attributes:
        ends: the nodes that it spans.
        words: what it stands for.
        mark: as of an arrow.
        nodes: the nodes at its beginning, where there are several.
    """

    ends: tuple[str, str]
    words: str
    mark: str = ""
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fold:
    """Rows shown as a line or a few, until the reader opens them."""

    rows: tuple[Row, ...]
    strands: tuple[Strand, ...]

    @property
    def arrows(self) -> list[Arrow]:
        return [row for row in self.rows if isinstance(row, Arrow)]


@dataclass(frozen=True, slots=True)
class Caption:
    """A line across the ladder: a step of the scenario, or what was done or found.

    `kind` is as in the transcript, or ``end``.
    """

    at_s: float
    kind: str
    text: str
    node: str = ""


@dataclass(frozen=True, slots=True)
class Break:
    """A time in which nothing happens."""

    from_s: float
    to_s: float


Row = Arrow | Fold | Caption | Break | State


def begins_s(row: Row) -> float:
    """Return the time at which a row stands."""
    if isinstance(row, Fold):
        return begins_s(row.rows[0])
    return row.left_s if isinstance(row, Arrow) else row.from_s if isinstance(row, Break) else row.at_s


def bulk(rows: tuple[Row, ...]) -> Fold:
    """Fold `rows`: ``1,020 segments, 33.0 MB client > server``.

    Both directions are named if both carried data.
    """
    arrows = [row for row in rows if isinstance(row, Arrow)]
    loads: dict[tuple[str, str], int] = {}
    for arrow in arrows:
        ends = arrow.path[0], arrow.path[-1]
        loads[ends] = loads.get(ends, 0) + arrow.length
    carried = [f"{size(load)} {one} > {other}" for (one, other), load in loads.items() if load]
    most = max(loads, key=lambda ends: loads[ends])
    return Fold(rows, (Strand(most, ", ".join([f"{len(arrows):,} segments", *carried])),))


def size(count: int) -> str:
    """Return bytes in words: ``400 B``, ``33.0 MB``."""
    for unit, one in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= one:
            return f"{count / one:.1f} {unit}"
    return f"{count} B"
