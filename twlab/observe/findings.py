"""The findings about a capture.

Counts, distributions, and a verdict with its evidence for each late packet.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from twlab.observe.distribution import Distribution
from twlab.observe.frames import Interface
from twlab.observe.headers import Tables
from twlab.observe.late import KINDS

LENGTHS_S = (60.0, 30.0, 15.0, 10.0, 1.0)


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame, given by its file and its number there, counted from 1."""

    file: str
    number: int


@dataclass(slots=True)
class Late:
    """A packet of a closed connection, or one that the network delivered again.

    Attributes:
        kind: ``copy``, ``retransmission``, ``delayed``, ``answer``, ``foreign`` or ``undecided``.
        rule: the rule that decided.
        frame: its frame.
        against: the frames that it was compared with.
        flow: sender, its port, receiver, its port.
        late_s: seconds since the close of its connection; None if that was open, or if the clock
            ran back in between.
        age_s: seconds since its first sighting, or since its neighbours were sent; None if not
            known.
        met: the next connection on its four-tuple was open.
        harmed: that connection took it, as far as the capture shows.
        why: the reason for `harmed`.
        in_window: lengths of TIME_WAIT, in s. A connection opened at the end of one would have had
            the packet in its window. None if this cannot be known.
        what: flags, numbers and length in words.
        key: of its four-tuple, see `twlab.observe.packets`.
        contents: ``same`` or ``differ``: its bytes compared with those that the open connection
            sent under the same numbers; empty if they were not compared.
    """

    kind: str
    rule: str
    frame: Frame
    against: list[Frame]
    flow: tuple[str, int, str, int]
    late_s: float | None
    age_s: float | None
    met: bool
    harmed: bool
    why: str
    in_window: list[float] | None
    what: str
    key: int
    contents: str = ""


@dataclass
class Kind:
    """One class of late packets.

    Attributes:
        lateness: seconds after the close.
        age: seconds since a packet was first seen, or sent.
        undated: packets whose lateness is not known.
        before_close: packets that came while their connection was still open.
    """

    lateness: Distribution = field(default_factory=Distribution)
    age: Distribution = field(default_factory=Distribution)
    undated: int = 0
    before_close: int = 0


@dataclass
class Row:
    """The packets that a TIME_WAIT of one length would have let through.

    Attributes:
        exposed: copies and delayed segments of connections closed by FIN that came later than its
            end.
        met: of these, the next connection was open.
        harmed: of these, the next connection took it.
        in_window: of the exposed: a connection opened at the end of TIME_WAIT would have had it in
            its window.
        refused: of the exposed: `in_window` cannot be known.
        watched: closed connections that were watched for at least this long.
    """

    exposed: int = 0
    met: int = 0
    harmed: int = 0
    in_window: int = 0
    refused: int = 0
    watched: int = 0


@dataclass
class Reuse:
    """How soon four-tuples were reused.

    Attributes:
        gaps: seconds from the close to the next SYN, of connections closed by FIN.
        signed: those with the numbers that tcp_tw_reuse picks.
        after_reset: reuses after a RST, which leaves no TIME_WAIT.
        pairs: (client, server, port) to [reuses, those by tcp_tw_reuse, shortest gap in s].
    """

    gaps: Distribution = field(default_factory=Distribution)
    signed: Distribution = field(default_factory=Distribution)
    after_reset: int = 0
    pairs: dict[tuple[str, str, int], list[float]] = field(default_factory=dict)


@dataclass
class Findings:
    """All findings about one capture, or about several files that make one.

    Attributes:
        title: what was read.
        files: names and frames of each.
        places: of each file: the numbers of its interfaces among all.
        faults: why a file could not be read to its end.
        begin_ns, end_ns: earliest and latest time, in ns since 1970.
        addresses: those that the keys of late packets refer to.
        counts: frames by what they are, see `twlab.observe.headers.Tables`.
        links: frames of link types that cannot be read.
        duplicates: further sightings of packets, left out.
        back: how often the clock ran back by over 1 ms.
        back_s: the farthest that it ran back, in s.
        connections: all connections.
        opened: connections whose SYN was seen.
        open: connections that were still open when they were last seen.
        one_way: connections of which one direction was seen.
        split: four-tuples that are one connection, by their numbers, in several virtual networks.
        closes: closed connections by the end that closed first: ``client``, ``server``, ``both``,
            ``unknown``, ``reset``.
        close_times: closed connections by second, since 1970.
        remembered_s: how far back packets were remembered at least, in s.
        forgotten: four-tuples that were dropped from memory while the capture went on.
        late: late packets that are listed.
        unlisted: further late packets, which are only counted.
    """

    title: str = ""
    files: list[tuple[str, int]] = field(default_factory=list)
    places: list[list[int]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    interfaces: list[Interface] = field(default_factory=list)
    begin_ns: int = 0
    end_ns: int = 0
    frames: int = 0
    addresses: Tables = field(default_factory=Tables)
    counts: Counter[str] = field(default_factory=Counter)
    links: Counter[int] = field(default_factory=Counter)
    bad_times: int = 0
    duplicates: int = 0
    back: int = 0
    back_s: float = 0.0
    connections: int = 0
    opened: int = 0
    open: int = 0
    one_way: int = 0
    split: int = 0
    closes: Counter[str] = field(default_factory=Counter)
    close_times: Counter[int] = field(default_factory=Counter)
    remembered_s: float = 0.0
    forgotten: int = 0
    kinds: dict[str, Kind] = field(default_factory=lambda: {name: Kind() for name in KINDS})
    reuse: Reuse = field(default_factory=Reuse)
    lengths_s: tuple[float, ...] = LENGTHS_S
    table: dict[float, Row] = field(default_factory=dict)
    late: list[Late] = field(default_factory=list)
    unlisted: int = 0

    @property
    def watched_s(self) -> float:
        """Seconds from the earliest to the latest packet."""
        return max(0, self.end_ns - self.begin_ns) / 1e9

    @property
    def closed(self) -> int:
        """Connections closed by FIN; a RST leaves no TIME_WAIT."""
        return sum(count for who, count in self.closes.items() if who != "reset")

    def watched(self, length_s: float) -> int:
        """Connections closed by FIN that were watched for at least `length_s` afterwards."""
        last = self.end_ns // 10**9 - length_s - 1
        return sum(count for second, count in self.close_times.items() if second <= last)
