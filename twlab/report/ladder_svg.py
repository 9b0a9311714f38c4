"""The ladder as SVG: an <svg> element to stand in a page. Colours are CSS variables, so that the page decides between light and dark."""

from __future__ import annotations

from html import escape
from itertools import pairwise

from twlab.report.ladder import Arrow, Break, Caption, Fold, Ladder, Row, begins_s
from twlab.report.states import State

_LEFT, _COLUMN, _LINE, _LABEL = 90, 190, 26, 560
_HELD_S = 0.1  # an arrow that took longer ends at a line of its own
STYLE = """
.ladder{font:13px system-ui,sans-serif;background:var(--paper,#fff);color:var(--ink,#1c2430)}
.ladder text{fill:var(--ink,#1c2430)} .ladder .time,.ladder .verb text,.ladder .break text{fill:var(--faint,#6a7280)}
.ladder .rail{stroke:var(--rail,#c3c9d2)} .ladder .arrow line,.ladder .arrow path{stroke:var(--ink,#1c2430);stroke-width:1.5;fill:none}
.ladder .bulk line{stroke-width:5;opacity:.5} .ladder .node,.ladder .step text,.ladder .end text{font-weight:600}
.ladder .copy line,.ladder .copy path,.ladder .injected line,.ladder .injected path{stroke:var(--alien,#b3199b);stroke-width:3}
.ladder .copy text.label,.ladder .injected text.label{fill:var(--alien,#b3199b);font-weight:600}
.ladder .held line,.ladder .held path,.ladder .delayed line,.ladder .delayed path{stroke:var(--late,#b56a00)}
.ladder .copied line,.ladder .copied path{stroke:var(--kept,#0b7285)} .ladder .copied text.label{fill:var(--kept,#0b7285)}
.ladder .dropped line,.ladder .dropped path,.ladder .lost line,.ladder .lost path{stroke:var(--lost,#c92a2a)}
.ladder .state rect{fill:var(--paper,#fff);stroke:var(--state,#1864ab)} .ladder .state text{fill:var(--state,#1864ab);font-size:11px}
.ladder .step rect,.ladder .end rect{fill:var(--band,#eef1f5)} .ladder .break line{stroke:var(--rail,#c3c9d2);stroke-dasharray:2 4}
""".strip()


def draw(ladder: Ladder) -> str:
    """The <svg> element. Each row is a group with a class: ``arrow`` and its mark, ``fold``, ``step``, ``verb``, ``end``, ``state``, ``break``.

    Folded segments stay folded here; ``draw(ladder.unfolded())`` has each of them. A page that holds both toggles them by
    class: the root has ``folded``, or ``unfolded`` when there is nothing to unfold.
    """
    columns = {name: _LEFT + _COLUMN // 2 + number * _COLUMN for number, name in enumerate(ladder.columns)}
    width = _LEFT + _COLUMN * len(columns) + _LABEL
    body, y = [], 2 * _LINE
    for row in ladder.rows:
        height = _height(row)
        body.append(_row(row, columns, y, width))
        y += height
    kind = "folded" if any(isinstance(row, Fold) for row in ladder.rows) else "unfolded"
    title = escape(f"{ladder.scenario}, arm {ladder.arm}: segments between {', '.join(ladder.columns)}")
    rails = "".join(f'<line class="rail" x1="{x}" x2="{x}" y1="{_LINE}" y2="{y}"/>' for x in columns.values())
    names = "".join(f'<text class="node" text-anchor="middle" x="{x}" y="{_LINE - 8}">{escape(name)}</text>' for name, x in columns.items())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="ladder {kind}" role="group" aria-label="{title}" '
        f'viewBox="0 0 {width} {y + 8}" width="{width}">'
        f"<title>{title}</title><style>{STYLE}</style>{rails}{names}{''.join(body)}</svg>"
    )


def _height(row: Row) -> int:
    if isinstance(row, Arrow):
        return _LINE * (2 if row.words else 1) + (_LINE if row.arrived_s - row.left_s > _HELD_S else 0)
    return _LINE * 3 // 2 if isinstance(row, Caption) and row.kind != "verb" else _LINE


def _row(row: Row, columns: dict[str, int], y: int, width: int) -> str:
    end = max(columns.values(), default=_LEFT) + _COLUMN // 2
    time = f'<text class="time" x="8" y="{y + 4}">{begins_s(row):.4f} s</text>'
    if isinstance(row, Arrow):
        label = f"#{row.number} {row.label()}"
        note = _text("label", end, y + 20, row.words) if row.words else ""
        drop = _height(row) - _LINE if row.arrived_s - row.left_s > _HELD_S else 0
        picture = _arrow(row, columns, y, drop)
        return _group(f"arrow {row.mark}", f"{label} {row.words}", time + picture + _text("label", end, y + 4, label) + note)
    if isinstance(row, Fold):
        points = [(columns[name], y) for name in row.ends]
        return _group("arrow fold bulk", row.label(), time + _line(points, lost=False) + _text("label", end, y + 4, row.label()))
    if isinstance(row, State):
        if row.node not in columns:
            return ""
        x, text = columns[row.node], row.words()
        half = 4 * len(text) + 6
        box = f'<rect x="{x - half}" y="{y - 10}" width="{2 * half}" height="20" rx="9"/>'
        return _group("state", f"{row.node} {text}", time + box + f'<text text-anchor="middle" x="{x}" y="{y + 4}">{escape(text)}</text>')
    if isinstance(row, Break):
        text = f"{row.to_s - row.from_s:.1f} s in which nothing crosses"
        return _group("break", text, f'<line x1="{_LEFT}" x2="{end}" y1="{y}" y2="{y}"/>' + _text("", end, y + 4, text))
    text = f"{row.node}: {row.text}" if row.node else row.text
    band = f'<rect x="0" y="{y - 14}" width="{width}" height="24"/>' if row.kind != "verb" else ""
    return _group(row.kind, "", band + time + _text("", _LEFT if band else end, y + 4, text))


def _arrow(row: Arrow, columns: dict[str, int], y: int, drop: int) -> str:
    """A line along the path, down by `drop` at the node that kept the segment, and its head or its cross."""
    xs = [columns[name] for name in row.path]
    points = [(x, y + (drop if at else 0)) for at, x in enumerate(xs)] if drop else [(xs[0], y), (xs[-1], y)]
    return _line(points, row.lost)


def _line(points: list[tuple[int, int]], lost: bool) -> str:
    lines = "".join(f'<line x1="{a}" y1="{b}" x2="{c}" y2="{d}"/>' for (a, b), (c, d) in pairwise(points))
    x, tip = points[-1]
    back = -7 if x >= points[-2][0] else 7
    head = f"M{x - 6} {tip - 6}l12 12m0 -12l-12 12" if lost else f"M{x + back} {tip - 5}L{x} {tip}L{x + back} {tip + 5}"
    return f'{lines}<path d="{head}"/>'


def _group(classes: str, title: str, content: str) -> str:
    return f'<g class="{classes.strip()}">' + (f"<title>{escape(title)}</title>" if title else "") + content + "</g>"


def _text(classes: str, x: int, y: int, text: str) -> str:
    return f'<text class="{classes}" x="{x}" y="{y}">{escape(text)}</text>'
