"""Draws the ladder as SVG: one <svg> element, or pieces for a page with folds.

Colours are CSS variables: the page decides between light and dark.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

from twlab.report.ladder.ladder import Ladder
from twlab.report.ladder.rows import Arrow, Break, Caption, Fold, Row, begins_s
from twlab.report.ladder.states import State

_LINE, _NEXT = 26, 16
_BOLD = ("copy", "injected")  # marks whose labels STYLE makes bold: their letters are wider
_CAPTIONS_APART = 14  # rows after which a step's band names the columns again
STYLE = """
.ladder{font:13px system-ui,sans-serif;background:var(--paper,#fff)} .ladder text{fill:var(--ink,#1c2430)}
.ladder .time,.ladder .verb text,.ladder .break text,.ladder .again{fill:var(--faint,#6a7280)}
.ladder .again{font-size:11px;stroke:var(--paper,#fff);stroke-width:6px;paint-order:stroke}
.ladder .note text{font-style:italic}
.ladder .rails{stroke:var(--rail,#c3c9d2)} .ladder path{stroke:var(--ink,#1c2430);stroke-width:1.5;fill:none}
.ladder .bulk path:first-of-type{stroke-width:5;opacity:.5}
.ladder .node,.ladder .step text,.ladder .end text{font-weight:600}
.ladder .copy path,.ladder .injected path{stroke:var(--alien,#b3199b);stroke-width:3}
.ladder .copy .label,.ladder .injected .label{fill:var(--alien,#b3199b);font-weight:600}
.ladder .held path,.ladder .delayed path{stroke:var(--late,#b56a00)}
.ladder .held .label,.ladder .delayed .label{fill:var(--late,#b56a00)}
.ladder .copied path{stroke:var(--kept,#0b7285)} .ladder .copied .label{fill:var(--kept,#0b7285)}
.ladder .dropped path,.ladder .lost path,.ladder .unanswered path{stroke:var(--lost,#c92a2a)}
.ladder .dropped .label,.ladder .lost .label,.ladder .unanswered .label{fill:var(--lost,#c92a2a)}
.ladder .state rect{fill:var(--paper,#fff);stroke:var(--state,#1864ab)}
.ladder .state text{fill:var(--state,#1864ab);font-size:11px}
.ladder .step rect,.ladder .end rect{fill:var(--band,#eef1f5)}
.ladder .break path{stroke:var(--rail,#c3c9d2);stroke-dasharray:2 4}
""".strip()


def draw(ladder: Ladder, styled: bool = True) -> str:
    """Return the <svg> element; not `styled`, for a page that has `STYLE`.

    Each row is a group with a class: ``arrow`` and its mark, ``fold``, ``step``, ``verb``, ``end``,
    ``state``, ``break``. Folded segments stay folded; ``draw(ladder.unfolded())`` has each of them.
    """
    return _Pen(ladder).svg(ladder.rows, heading=True, styled=styled)


@dataclass(frozen=True)
class Layout:
    """Where things stand across a ladder, in pixels.

    Attributes:
        left: where the columns begin; the times stand before it.
        columns: room for all columns together; few of them do not take it all.
        narrowest, widest: of a column.
        labels: room for labels beside the columns; 0: each stands below its arrow.
        least: width of the whole.
    """

    left: int
    columns: int
    narrowest: int
    widest: int
    labels: int
    least: int

    @property
    def below(self) -> bool:
        """Whether labels stand below their arrows."""
        return not self.labels


WIDE = Layout(left=84, columns=440, narrowest=56, widest=150, labels=400, least=1000)
NARROW = Layout(left=72, columns=288, narrowest=40, widest=144, labels=0, least=360)  # of a phone's screen


def mark_percent(ladder: Ladder, layout: Layout = WIDE) -> float:
    """Return where the labels begin, in per cent of the width.

    A page puts the handle of a fold before them; where they stand below, at the right edge.
    """
    pen = _Pen(ladder, layout)
    return 100.0 if layout.below else 100 * pen.labels / pen.width


def pieces(ladder: Ladder, layout: Layout = WIDE) -> Iterator[tuple[str, str]]:
    """Yield the ladder as <svg> elements to be stacked without a gap.

    Each comes with what it opens to: the same rows unfolded, or "". They lack their style, which a
    page needs only once: `STYLE`.
    """
    pen, heading = _Pen(ladder, layout), True
    for folded, group in groupby(ladder.rows, lambda row: isinstance(row, Fold)):
        for rows in [(row,) for row in group] if folded else [tuple(group)]:
            inner = rows[0].rows if isinstance(rows[0], Fold) else ()
            yield pen.svg(rows, heading=heading), pen.svg(inner) if inner else ""
            heading = False


class _Pen:
    """Draws rows.

    Between two calls it keeps what was written last, so that a time is written once.
    """

    def __init__(self, ladder: Ladder, layout: Layout = WIDE):
        self.ladder = ladder
        self.layout = layout
        width = max(layout.narrowest, min(layout.widest, layout.columns // len(ladder.columns or "x")))
        centres = [layout.left + width // 2 + at * width for at in range(len(ladder.columns))]
        self.x = {name: centres[at] for name, at in ladder.places.items()}
        self.centres = centres
        after = layout.left + width * len(centres)
        self.labels = 8 if layout.below else after - width // 2 + 60
        self.width = max(layout.least, after if layout.below else self.labels + layout.labels)
        self.said = ""
        self.since = 0  # rows since the columns were named

    def svg(self, rows: Sequence[Row], heading: bool = False, styled: bool = False) -> str:
        """Return the <svg> element with `rows`, with `heading` below the columns' names."""
        body, y = [], 2 * _LINE if heading else _LINE // 2
        for line in self.lines(rows):
            self.since += 1
            again = self.since > _CAPTIONS_APART and isinstance(line[0], Caption) and line[0].kind == "step"
            drawn, height = self.line(line, y)
            body.append(drawn)
            y += height
            if again:
                body.append(self.names(y - 8, "again"))
                y, self.since = y + 16, 0
        rails = "".join(f"M{x} {_LINE if heading else 0}V{y - _LINE // 2}" for x in self.centres)
        names = self.names(_LINE - 8, "node") if heading else ""
        title = escape(
            f"{self.ladder.scenario}, arm {self.ladder.arm}: segments between "
            + ", ".join(column.name for column in self.ladder.columns)
        )
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="ladder" role="group" '
            f'viewBox="0 0 {self.width} {y - _LINE // 2}" width="{self.width}">'
            + (f"<title>{title}</title>" if heading else "")
            + (f"<style>{STYLE}</style>" if styled else "")
            + f'<path class="rails" d="{rails}"/>{names}{"".join(body)}</svg>'
        )

    def names(self, y: int, kind: str) -> str:
        columns = zip(self.centres, self.ladder.columns, strict=True)
        return "".join(
            f'<text class="{kind}" text-anchor="middle" x="{x}" y="{y}">{escape(column.name)}</text>'
            for x, column in columns
        )

    def lines(self, rows: Iterable[Row]) -> Iterator[list[Row]]:
        """Yield the rows of each line.

        One row, or changes of state at one time, at nodes with room beside each other.
        """
        line: list[Row] = []
        for row in rows:
            if line and not (
                isinstance(row, State) and all(isinstance(each, State) and self.beside(each, row) for each in line)
            ):
                yield line
                line = []
            line.append(row)
        if line:
            yield line

    def beside(self, one: State, other: State) -> bool:
        apart = abs(self.x.get(one.node, 0) - self.x.get(other.node, 0))
        return one.at_s == other.at_s and apart > _half(one) + _half(other)

    def line(self, rows: Sequence[Row], y: int) -> tuple[str, int]:
        """Return a line of the ladder with its middle at `y`, and its height."""
        row = rows[0]
        if isinstance(row, State):
            return self.states([each for each in rows if isinstance(each, State)], y), _LINE
        if isinstance(row, Arrow):
            return self.arrow(row, y)
        if isinstance(row, Fold):
            return self.fold(row, y)
        if isinstance(row, Break):
            label, more = self.beside_or_below([f"{row.to_s - row.from_s:.1f} s in which nothing crosses"], "", y)
            end = self.width if self.layout.below else self.labels - 12
            return f'<g class="break"><path d="M{self.layout.left} {y}H{end}"/>{label}</g>', _LINE + more
        return self.caption(row, y)

    def beside_or_below(self, lines: Sequence[str], kind: str, y: int) -> tuple[str, int]:
        """Return the label of the arrow at `y`, and the height that it adds."""
        below = int(self.layout.below)
        text = "".join(_text(kind, self.labels, y + 4 + _NEXT * (at + below), line) for at, line in enumerate(lines))
        return text, _NEXT * (len(lines) - 1 + below)

    def caption(self, row: Caption, y: int) -> tuple[str, int]:
        text = f"{row.node}: {row.text}" if row.node else row.text
        beside = row.kind in ("verb", "note")
        x = self.labels if beside and not self.layout.below else self.layout.left
        lines = textwrap.wrap(text, (self.width - x) // (7 if beside else 8))
        more = _NEXT * (len(lines) - 1)
        drawn = self.time(row, y) + "".join(_text("", x, y + 4 + at * _NEXT, line) for at, line in enumerate(lines))
        band = "" if beside else f'<rect x="0" y="{y - 14}" width="{self.width}" height="{_LINE + more}"/>'
        return f'<g class="{row.kind}">{band}{drawn}</g>', more + (_LINE if beside else _LINE * 3 // 2)

    def arrow(self, row: Arrow, y: int) -> tuple[str, int]:
        start, end = self.x[row.path[0]], self.x[row.path[-1]]
        tip = "cross" if row.lost else "kept" if row.part == "out" else "head"
        letter = (8 if row.mark in _BOLD else 7) + self.layout.below  # there nothing may be cut off
        letters = (self.width - self.labels) // letter
        label = self.ladder.label(row)
        notes = textwrap.wrap(row.words, letters)
        text, more = self.beside_or_below(
            [*(textwrap.wrap(label, letters) if self.layout.below else [label]), *notes], "label", y
        )
        title = f"<title>{escape(row.path[0])} to {escape(row.path[-1])}</title>"
        line = f'{self.time(row, y)}<path d="{_line(start, end, y, tip)}"/>'
        drawn = f'<g class="{f"arrow {row.mark}".strip()}">{title}{line}{text}</g>'
        return drawn, _LINE + (more + 4 if more else 0)

    def fold(self, row: Fold, y: int) -> tuple[str, int]:
        drawn, line = self.time(row, y), y
        for strand in row.strands:
            start, end = self.x[strand.ends[0]], self.x[strand.ends[1]]
            head = _line(end, end, line, "head", start > end)
            text, more = self.beside_or_below([strand.words], "label", line)
            drawn += f'<g class="{f"bulk {strand.mark}".strip()}">'
            drawn += f'<path d="M{start} {line}H{end}"/><path d="{head}"/>{text}</g>'
            line += _LINE + more
        return f'<g class="fold">{drawn}</g>', line - y

    def states(self, rows: Sequence[State], y: int) -> str:
        """Draw changes of state at one time, each at its node."""
        drawn = self.time(rows[0], y)
        for row in rows:
            if row.node in self.x:
                text, half = row.words(), _half(row)
                x = min(self.x[row.node], self.width - half - 1)
                drawn += f'<rect x="{x - half}" y="{y - 10}" width="{2 * half}" height="20" rx="9"/>'
                title = f"<title>{escape(row.node)}</title>"
                drawn += f'<text text-anchor="middle" x="{x}" y="{y + 4}">{title}{escape(text)}</text>'
        return f'<g class="state">{drawn}</g>'

    def time(self, row: Row, y: int) -> str:
        text = f"{begins_s(row):.4f} s"
        if text == self.said:
            return ""
        self.said = text
        return f'<text class="time" x="8" y="{y + 4}">{text}</text>'


def _half(state: State) -> int:
    """Return half the width of a state's box."""
    return len(state.words()) * 7 // 2 + 8


def _line(start: int, end: int, y: int, tip: str, leftward: bool | None = None) -> str:
    """Return the path from `start` to `end` and its tip.

    The tip is a head, a cross where the segment was lost, or the bar in front of which it waits.
    """
    left = start > end if leftward is None else leftward
    back = 7 if left else -7
    line = f"M{start} {y}H{end}" if start != end else ""
    if tip == "cross":
        return f"{line}m-6 -6l12 12m0 -12l-12 12"
    if tip == "kept":
        return f"{line}m0 -8v16m{-back // 2} 0v-16"
    return f"{line}{'' if line else f'M{end} {y}'}m{back} -5l{-back} 5l{back} 5"


def _text(kind: str, x: int, y: int, text: str) -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x}" y="{y}">{escape(text)}</text>'
