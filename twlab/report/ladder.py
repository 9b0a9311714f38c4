"""The ladder of one arm: columns, arrows, folds, breaks, captions and socket states, read from a run's folder. Pure but for reading.

Sequence numbers are relative to the first SYN of the four-tuple in the arm, and stay so when the four-tuple is opened again:
where the numbers of two connections overlap, the ladder shows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from twlab.errors import UsageError
from twlab.observation import plain
from twlab.report.reading import read_capture
from twlab.report.states import State, follow
from twlab.report.transit import Transit, transits
from twlab.result import ArmResult, read_result
from twlab.segment import Flow, Segment, distance
from twlab.transcript import Entry

FOLD_FROM = 6  # so many plain segments in a row are folded
CROWD = 60  # between two steps; more arrows than this are folded, whatever they are
BREAK_S = 0.5  # a pause longer than this is marked
_LAST = 1 << 40  # sorts behind every arrow of the same time


@dataclass(frozen=True, slots=True)
class Arrow:
    """One segment, from where it set out to where it arrived.

    Attributes:
        number: counted from 1 in the arm, in the order in which segments set out.
        packet: the first sighting's number in the capture, as Wireshark counts.
        path: the nodes on its way.
        left_s, arrived_s: first and last sighting, in seconds since the arm began.
        flow: the four-tuple outside of all gateways, sender first.
        seq, ack: relative, see above; `ack` is None without the flag.
        connection: which connection of its four-tuple this is, counted from 1; 0 when its SYN was not seen.
        mark: what the lab did: "", ``held``, ``delayed``, ``copied``, ``copy``, ``injected``, ``dropped`` or ``lost``.
        words: the same in words; or that bytes of it had been in a segment that the lab put in.
        lost: it did not arrive.
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

    @property
    def plain(self) -> bool:
        """Nothing distinguishes it from the bulk around it."""
        return not self.words and not set(self.flags) & set("SFR") and self.arrived_s - self.left_s < 0.1

    def label(self) -> str:
        """``SYN seq 0``; ``PSH ACK seq 33,000,001 ack 1 len 400``."""
        names = {"F": "FIN", "S": "SYN", "R": "RST", "P": "PSH", "A": "ACK", "U": "URG"}
        text = " ".join(names[letter] for letter in "SFRPAU" if letter in self.flags) + f" seq {self.seq:,}"
        text += f" ack {self.ack:,}" if self.ack is not None else ""
        text += f" len {self.length:,}" if self.length else ""
        return text + (f" ts {self.timestamp[0]}" if self.timestamp else "")


@dataclass(frozen=True, slots=True)
class Fold:
    """Arrows that are shown as one until somebody wants to see them."""

    arrows: tuple[Arrow, ...]

    @property
    def at_s(self) -> float:
        return self.arrows[0].left_s

    @property
    def ends(self) -> tuple[str, str]:
        """The nodes that it spans, as the arrow that carries most has them."""
        most = max(self.arrows, key=lambda arrow: arrow.length)
        return most.path[0], most.path[-1]

    def label(self) -> str:
        """``1,020 segments, 33.0 MB client > server``, both ways where both ways carried data."""
        loads: dict[tuple[str, str], int] = {}
        for arrow in self.arrows:
            ends = arrow.path[0], arrow.path[-1]
            loads[ends] = loads.get(ends, 0) + arrow.length
        carried = [f"{size(load)} {one} > {other}" for (one, other), load in loads.items() if load]
        return ", ".join([f"{len(self.arrows):,} segments", *carried])


@dataclass(frozen=True, slots=True)
class Caption:
    """A line across the ladder: a step of the scenario, or what was done or found; `kind` as in the transcript, or ``end``."""

    at_s: float
    kind: str
    text: str
    node: str = ""


@dataclass(frozen=True, slots=True)
class Break:
    """Nothing happens from `from_s` to `to_s`."""

    from_s: float
    to_s: float


Row = Arrow | Fold | Caption | Break | State


@dataclass(frozen=True)
class Ladder:
    """One arm, to be drawn.

    Attributes:
        columns: names of nodes, from left to right.
        rows: what stands in it, from top to bottom.
    """

    scenario: str
    arm: str
    role: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)

    def unfolded(self) -> Ladder:
        """The same with every fold opened."""
        rows = (row for outer in self.rows for row in (outer.arrows if isinstance(outer, Fold) else (outer,)))
        return Ladder(self.scenario, self.arm, self.role, self.columns, tuple(rows), self.settings)


def read(folder: Path, arm: str) -> Ladder:
    """The ladder of one arm of the run in `folder`.

    Raises:
        UsageError: as `twlab.result.read_result` and `twlab.report.reading.read_capture` do; or the run has no such arm (``no-such-arm``).
    """
    result = read_result(folder)
    if arm not in result.arms:
        raise UsageError(f"this run of {result.scenario} has no arm called {arm!r}", f"its arms are: {', '.join(result.arms)}", "no-such-arm")
    found = result.arms[arm]
    capture = found.capture or f"{arm}.pcapng"
    if Path(capture).name != capture:
        raise UsageError(f"{folder} names a capture outside itself: {capture}", "name a folder that twlab run has made", "foreign-result")
    ways = transits(read_capture((folder if folder.is_dir() else folder.parent) / capture), found.settings)
    events = arrange(arrows(ways), captions(found), follow(ways, found))
    return Ladder(result.scenario, arm, found.role, columns(ways, found), tuple(paused(fold(events))), found.settings)


def arrows(ways: Sequence[Transit]) -> list[Arrow]:
    """An arrow for each transit, in their order."""
    origins: dict[Flow, int] = {}
    opened: dict[Flow, list[int]] = {}
    numbers: dict[tuple[object, ...], int] = {}
    alien: dict[Flow, Transit] = {}
    outside: dict[Flow, Flow] = {}  # a four-tuple behind a gateway to the one that the server knows
    made = []
    for number, way in enumerate(ways, 1):
        first, last = way.sightings[0], way.sightings[-1]
        segment = last.segment
        if segment.flags == "S" and (inner := first.segment.flow) != segment.flow:
            outside |= {inner: segment.flow, inner.reversed(): segment.flow.reversed()}
        flow = outside.get(segment.flow, segment.flow)
        if "S" in segment.flags:
            origins.setdefault(flow, segment.seq)
            if "A" not in segment.flags and segment.seq not in (seqs := opened.setdefault(flow, [])):
                seqs.append(segment.seq)
        same = segment.seq, segment.ack, segment.flags, segment.length
        mark, words = _mark(way, numbers.get(same))
        numbers.setdefault(same, number)
        if mark in ("copy", "injected") and segment.length:
            alien[flow] = way
        elif not mark and (other := alien.get(flow)) and _overlap(other.sightings[-1].segment, segment):
            words = f"the same sequence numbers as the {_mark(other, None)[0]} above"
        own, peer = origins.get(flow, segment.seq), origins.get(flow.reversed(), segment.ack)
        ack = distance(peer, segment.ack) if "A" in segment.flags else None
        seqs = opened.get(flow) or opened.get(flow.reversed()) or []
        made.append(
            Arrow(number, first.number, way.nodes, first.segment.at_s, segment.at_s, flow, segment.flags, distance(own, segment.seq), ack,
                  segment.length, segment.timestamp, len(seqs), mark, words, way.lost and mark in ("dropped", "lost", "held"))
        )  # fmt: skip
    return made


def _overlap(one: Segment, other: Segment) -> bool:
    return distance(one.seq, other.end_seq) > 0 and distance(other.seq, one.end_seq) > 0 and other.length > 0


def _mark(way: Transit, earlier: int | None) -> tuple[str, str]:
    """What the lab did to a transit, as a mark and in words. `earlier`: the number of the arrow that had the same numbers."""
    words = "; ".join(sighting.comment for sighting in reversed(way.sightings) if sighting.comment)
    if "copy of the packet" in words:
        return "copy", words.replace("copy of the packet", f"copy of #{earlier}" if earlier else "copy of a segment")
    if "injected" in words or "own endpoint" in words:
        return "injected", words
    if "dropped" in words:
        return "dropped", words
    if way.lost:
        return ("held", f"{words}, never released") if words else ("lost", "was not seen again")
    for mark in ("held", "delayed", "copied"):
        if mark in words:
            return mark, words.split(";")[0]
    return ("delayed", words) if words else ("", "")


def captions(arm: ArmResult) -> list[Caption]:
    """What of the transcript stands in the ladder. What the wire did is seen at the arrows."""
    found = [Caption(e.at_s, e.kind, e.text, e.node) for e in (Entry(**entry) for entry in arm.transcript) if e.kind in ("step", "verb")]
    if arm.observed:
        facts = " ".join(f"{key}={plain(value)}" for key, value in arm.observed.items() if value != "" and not isinstance(value, list))
        found.append(Caption(arm.virtual_s, "end", f"observed: {facts}"))
    return found


def arrange(made: Iterable[Arrow], texts: Iterable[Caption], states: Iterable[State]) -> list[Row]:
    """All rows in the order of time; at one time a step comes first, then arrows, each followed by the
    states that it brought about, then what the verbs tell."""
    keyed: list[tuple[tuple[float, float, int], Row]] = [((arrow.left_s, arrow.number, 0), arrow) for arrow in made]
    keyed += [((state.at_s, state.after or _LAST, 1), state) for state in states]
    keyed += [((text.at_s, {"step": 0, "end": _LAST + 2}.get(text.kind, _LAST + 1), 0), text) for text in texts]
    return [row for _, row in sorted(keyed, key=lambda each: each[0])]


def fold(rows: Iterable[Row], fold_from: int = FOLD_FROM, crowd: int = CROWD) -> list[Row]:
    """The rows with every run of at least `fold_from` plain arrows folded; and where more than `crowd` rows of arrows and states
    are left between two captions, with their middle folded."""
    folded: list[Row] = []
    for foldable, group in groupby(rows, lambda row: isinstance(row, Arrow) and row.plain):
        run = list(group)
        folded += [Fold(tuple(run))] if foldable and len(run) >= fold_from else run  # type: ignore[arg-type]
    shown: list[Row] = []
    for caption, group in groupby(folded, lambda row: isinstance(row, Caption)):
        run = list(group)
        if not caption and len(run) > crowd:
            middle = run[crowd // 2 : -crowd // 4]
            inner = [arrow for row in middle for arrow in (row.arrows if isinstance(row, Fold) else (row,)) if isinstance(arrow, Arrow)]
            run = run[: crowd // 2] + ([Fold(tuple(inner))] if inner else []) + run[-crowd // 4 :]
        shown += run
    return shown


def paused(rows: Iterable[Row], longer_than_s: float = BREAK_S) -> Iterator[Row]:
    """The rows with a break wherever nothing happens for `longer_than_s`."""
    last_s: float | None = None
    for row in rows:
        now_s = begins_s(row)
        if last_s is not None and now_s - last_s > longer_than_s:
            yield Break(last_s, now_s)
        yield row
        end_s = row.arrows[-1].left_s if isinstance(row, Fold) else now_s
        last_s = end_s if last_s is None else max(last_s, end_s)


def begins_s(row: Row) -> float:
    """The time at which a row stands."""
    return row.left_s if isinstance(row, Arrow) else row.from_s if isinstance(row, Break) else row.at_s


def columns(ways: Iterable[Transit], arm: ArmResult) -> tuple[str, ...]:
    """The nodes that segments met, so that the first SYNs go from left to right; all nodes when nothing crossed."""
    order: list[str] = []
    for path in dict.fromkeys(way.nodes for way in sorted(ways, key=lambda way: way.sightings[0].segment.flags != "S")):
        for at, node in enumerate(path):
            if node not in order:
                known = next((later for later in path[at + 1 :] if later in order), None)
                order.insert(order.index(known) if known else len(order), node)
    return tuple(order or arm.settings)


def size(count: int) -> str:
    """``400 B``, ``33.0 MB``."""
    for unit, one in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= one:
            return f"{count / one:.1f} {unit}"
    return f"{count} B"
