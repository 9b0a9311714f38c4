"""Folds rows of a ladder, so that thousands of segments stay readable. Pure.

Three rules, in this order. Connections that went as an earlier one of the same step are folded;
the first of each kind stays. Runs of plain segments are folded: bulk transfer. Where a step has
still more rows than a page, its middle is folded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from twlab.report.ladder.rows import Arrow, Break, Caption, Fold, Row, Strand, begins_s, bulk
from twlab.report.ladder.states import State
from twlab.segment import Flow

FOLD_FROM = 6  # plain segments in a row, from which on they are folded
REPEATS_FROM = 3  # connections like an earlier one, from which on they are folded
FEW_CALLERS = 3  # clients up to which each is a kind; of more, those that fare alike are one
CROWD = 60  # rows between two steps; more are folded, of any kind
BREAK_S = 0.5  # a pause longer than this is marked
_OWN = ("copy", "injected")  # what the lab put in is never folded as a repetition

Exchange = tuple[frozenset[Flow], int]
Likeness = tuple[object, ...]


def fold(rows: Iterable[Row], fold_from: int = FOLD_FROM, crowd: int = CROWD) -> list[Row]:
    """Return the rows, with those folded that add nothing for the reader.

    Opened again, the folds hold every row, in its order.
    """
    shown: list[Row] = []
    for section in _sections(rows):
        folded: list[Row] = []
        for foldable, group in groupby(_repeats_folded(section), lambda row: isinstance(row, Arrow) and row.plain):
            run = list(group)
            folded += [bulk(tuple(run))] if foldable and len(run) >= fold_from else run
        for caption, group in groupby(folded, lambda row: isinstance(row, Caption)):
            run = list(group)
            if not caption and len(run) > crowd:
                middle = tuple(
                    row
                    for outer in run[crowd // 2 : -crowd // 4]
                    for row in (outer.rows if isinstance(outer, Fold) else (outer,))
                )
                inner = [bulk(middle)] if any(isinstance(row, Arrow) for row in middle) else list(middle)
                run = [*run[: crowd // 2], *inner, *run[-crowd // 4 :]]
            shown += run
    return shown


def paused(rows: Iterable[Row], longer_than_s: float = BREAK_S) -> Iterator[Row]:
    """Yield the rows, with a break for each pause longer than `longer_than_s`."""
    last_s: float | None = None
    for row in rows:
        now_s = begins_s(row)
        if last_s is not None and now_s - last_s > longer_than_s:
            yield Break(last_s, now_s)
        yield row
        end_s = begins_s(row.rows[-1]) if isinstance(row, Fold) else now_s
        last_s = end_s if last_s is None else max(last_s, end_s)


def _sections(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Yield the rows of each step, its caption first."""
    section: list[Row] = []
    for row in rows:
        if isinstance(row, Caption) and row.kind in ("step", "end") and section:
            yield section
            section = []
        section.append(row)
    if section:
        yield section


def _repeats_folded(section: Sequence[Row]) -> Iterator[Row]:
    arrows: dict[Exchange, list[Arrow]] = {}
    for row in section:
        if isinstance(row, Arrow) and row.connection:
            arrows.setdefault(row.exchange, []).append(row)
    few = len({own[0].path[0] for own in arrows.values()}) <= FEW_CALLERS
    kinds = {exchange: _kind(own, own[0].path[0] if few else "") for exchange, own in arrows.items()}
    firsts: dict[Likeness, Exchange] = {}
    for exchange, kind in kinds.items():
        firsts.setdefault(kind, exchange)
    like = {exchange: arrows[firsts[kind]] for exchange, kind in kinds.items() if firsts[kind] != exchange}
    for repeated, run in _runs(section, like):
        met = dict.fromkeys(row.exchange for row in run if isinstance(row, Arrow))
        if repeated and len(met) >= REPEATS_FROM:
            yield Fold(tuple(run), tuple(_strands({exchange: arrows[exchange] for exchange in met}, like)))
        else:
            yield from run


def _runs(section: Sequence[Row], like: dict[Exchange, list[Arrow]]) -> Iterator[tuple[bool, list[Row]]]:
    """Yield runs of rows that belong to repetitions, and of rows that do not.

    What a node did goes with the segments before it.
    """
    flows = {flow for flows, _ in like for flow in flows}
    numbers = {row.number for row in section if isinstance(row, Arrow) and row.exchange in like}
    repeated, run = False, list[Row]()
    for row in section:
        if isinstance(row, Arrow):
            now = row.exchange in like
        elif isinstance(row, State):
            now = row.after in numbers if row.after else row.flow in flows
        else:
            now = repeated and isinstance(row, Caption) and row.kind == "verb"
        if now != repeated and run:
            yield repeated, run
            run = []
        repeated = now
        run.append(row)
    yield repeated, run


def _kind(arrows: Sequence[Arrow], caller: str) -> Likeness:
    """Return what two like connections have in common.

    That is the caller, the server, and what crossed in which direction; bulk counts once.
    """
    first = arrows[0]
    events = [
        (arrow.path[0] == first.path[0], arrow.flags, arrow.mark, arrow.part, arrow.length > 0) for arrow in arrows
    ]
    if any(arrow.mark in _OWN for arrow in arrows):
        return (first.number,)
    return caller, first.path[-1], tuple(event for event, _ in groupby(events))


def _strands(met: dict[Exchange, list[Arrow]], like: dict[Exchange, list[Arrow]]) -> Iterator[Strand]:
    """Yield a line for each kind of repetition."""
    kinds: dict[int, list[list[Arrow]]] = {}
    for exchange, own in met.items():
        kinds.setdefault(like[exchange][0].number, []).append(own)
    for exchange_number, alike in kinds.items():
        first = alike[0][0]
        model = like[first.exchange]
        nodes = tuple(dict.fromkeys(own[0].path[0] for own in alike))
        numbers = (
            f"#{exchange_number} to #{model[-1].number}"
            if model[-1].number > exchange_number
            else f"#{exchange_number}"
        )
        what = "connects" if first.flags == "S" else "connections"
        mark = "unanswered" if any(arrow.mark == "unanswered" for arrow in model) else ""
        fate = "none is answered" if mark else "each is answered" if any(arrow.flags == "SA" for arrow in model) else ""
        words = f"{len(alike):,} more {what} from {listed(nodes)} like {numbers}" + (f": {fate}" if fate else "")
        yield Strand((first.path[0], first.path[-1]), words, mark, nodes)


def listed(names: Sequence[str]) -> str:
    """Return names as a list: ``c3``; ``c3, c4``; ``c3 … c20``."""
    return ", ".join(names) if len(names) <= 2 else f"{names[0]} … {names[-1]}"
