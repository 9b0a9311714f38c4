"""The ladder of one arm, read from a run's folder.

It holds columns, arrows, folds, breaks, captions and states of sockets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from twlab.errors import UsageError, did_you_mean
from twlab.observation import plain
from twlab.report.ladder.arrows import arrows, parted
from twlab.report.ladder.folding import fold, listed, paused
from twlab.report.ladder.rows import Arrow, Caption, Fold, Row
from twlab.report.ladder.states import State, follow
from twlab.report.ladder.transits import Transit, transits
from twlab.results.pcapng import read_capture
from twlab.results.result import ArmResult, read_result
from twlab.results.transcript import Entry

_LAST = 1 << 40  # sorts behind every arrow of the same time


@dataclass(frozen=True, slots=True)
class Column:
    """A rail of the ladder, for one node or for several.

    Several share one if the ladder shows none of them alone and they go alike.
    """

    name: str
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Ladder:
    """One arm, to be drawn.

    Attributes:
        columns: from left to right.
        rows: what stands in it, from top to bottom.
    """

    scenario: str
    arm: str
    role: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)

    def unfolded(self) -> Ladder:
        """Return the same ladder with every fold opened."""
        rows = (row for outer in self.rows for row in (outer.rows if isinstance(outer, Fold) else (outer,)))
        return replace(self, rows=tuple(rows))

    @property
    def places(self) -> dict[str, int]:
        """Each node's column, counted from 0."""
        return {node: at for at, column in enumerate(self.columns) for node in column.nodes}

    def label(self, arrow: Arrow) -> str:
        """Return ``#7 SYN seq 0``; with the name of a node that shares its column."""
        ends = (arrow.path[0], arrow.path[-1])
        shared = next(
            (node for column in self.columns if len(column.nodes) > 1 for node in column.nodes if node in ends), ""
        )
        again = " arrives:" if arrow.part == "in" else ""
        return f"#{arrow.number}{again} " + (f"{shared}: " if shared else "") + arrow.label()


def read(folder: Path, arm: str) -> Ladder:
    """Return the ladder of one arm of the run in `folder`.

    Raises:
        UsageError: as `twlab.results.result.read_result` and `twlab.results.pcapng.read_capture`
            do; or the run has no such arm (``no-such-arm``).
    """
    result = read_result(folder)
    if arm not in result.arms:
        near = did_you_mean(arm, result.arms)
        raise UsageError(
            f"this run of {result.scenario} has no arm called {arm!r}{near}",
            f"its arms are: {', '.join(result.arms)}",
            "no-such-arm",
        )
    found = result.arms[arm]
    capture = found.capture or f"{arm}.pcapng"
    if Path(capture).name != capture:
        raise UsageError(
            f"{folder} names a capture outside itself: {capture}",
            "name a folder that twlab run has made",
            "foreign-result",
        )
    return draw_up(result.scenario, arm, found, (folder if folder.is_dir() else folder.parent) / capture)


def draw_up(scenario: str, name: str, arm: ArmResult, capture: Path) -> Ladder:
    """Return the ladder of an arm, which may be under way still.

    Args:
        scenario, name: what it is called.
        arm: its settings and its transcript, as far as there are any.
        capture: the packets so far.

    Raises:
        UsageError: as `twlab.results.pcapng.read_capture`.
    """
    crossed = transits(read_capture(capture), arm.settings)
    rows = fold(arrange(parted(arrows(crossed)), captions(arm), follow(crossed, arm)))
    return Ladder(scenario, name, arm.role, columns(crossed, arm, rows), tuple(paused(rows)), arm.settings)


def captions(arm: ArmResult) -> list[Caption]:
    """Return the entries of the transcript that stand in the ladder.

    The arrows show what the wire did; notes from before the first step are settings.
    """
    entries = [Entry(**entry) for entry in arm.transcript]
    first = next((at for at, entry in enumerate(entries) if entry.kind == "step"), 0)
    found = [
        Caption(e.at_s, e.kind, e.text, e.node)
        for at, e in enumerate(entries)
        if e.kind in ("step", "verb") or (e.kind == "note" and at > first)
    ]
    if arm.observed:
        facts = " ".join(
            f"{key}={plain(value)}"
            for key, value in arm.observed.items()
            if value != "" and not isinstance(value, list)
        )
        found.append(Caption(arm.virtual_s, "end", f"observed: {facts}"))
    return found


def arrange(made: Iterable[Arrow], texts: Iterable[Caption], states: Iterable[State]) -> list[Row]:
    """Return all rows in the order of time.

    At one time a step comes first, then arrows, each followed by the states that it brought about,
    then what the nodes did.
    """
    keyed: list[tuple[tuple[float, float, int], Row]] = [((arrow.left_s, arrow.number, 0), arrow) for arrow in made]
    keyed += [((state.at_s, state.after or _LAST, 1), state) for state in states]
    keyed += [((text.at_s, {"step": 0, "end": _LAST + 2}.get(text.kind, _LAST + 1), 0), text) for text in texts]
    return [row for _, row in sorted(keyed, key=lambda each: each[0])]


def columns(crossed: Iterable[Transit], arm: ArmResult, rows: Sequence[Row]) -> tuple[Column, ...]:
    """Return a column for each node that segments met; all nodes when none crossed.

    The first SYNs go from left to right. Nodes that only folds show, and alike, share a column.
    """
    order: list[str] = []
    for path in dict.fromkeys(
        transit.nodes for transit in sorted(crossed, key=lambda transit: transit.sightings[0].segment.flags != "S")
    ):
        for at, node in enumerate(path):
            if node not in order:
                known = next((later for later in path[at + 1 :] if later in order), None)
                order.insert(order.index(known) if known else len(order), node)
    seen = {node for row in rows if isinstance(row, Arrow) for node in row.path}
    fates: dict[str, set[str]] = {}
    for strand in (strand for row in rows if isinstance(row, Fold) for strand in row.strands):
        for node in strand.nodes:
            fates.setdefault(node, set()).add(strand.mark)
    shared: dict[object, list[str]] = {}
    for node in order or arm.settings:
        alone = node in seen or node not in fates
        shared.setdefault(node if alone else frozenset(fates[node]), []).append(node)
    return tuple(Column(listed(nodes), tuple(nodes)) for nodes in shared.values())
