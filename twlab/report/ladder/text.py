"""Draws the ladder as text.

Time at the left, a column for each node, and beside every arrow its label.
"""

from __future__ import annotations

import textwrap

from twlab.report.ladder.ladder import Ladder
from twlab.report.ladder.rows import Arrow, Break, Caption, Fold, Row
from twlab.report.ladder.states import State

UNICODE, ASCII = "│─▶◀✗■┄", "|-><x#:"  # rail, dash, heads to the right and left, cross, kept, rail of a break
_TIME = 11  # columns for the time
_COLOURS = {
    "held": 33, "delayed": 33, "copied": 36, "copy": 35, "injected": 35, "dropped": 31, "lost": 31, "unanswered": 31,
    "step": 1, "verb": 2, "state": 34, "end": 1,
}  # fmt: skip


def draw(ladder: Ladder, width: int = 120, colour: bool = False, ascii_only: bool = False) -> str:
    """Return the ladder as lines.

    Args:
        width: columns of the terminal; labels that do not fit beside their arrow are wrapped below
            it.
        colour: with ANSI colours.
        ascii_only: for terminals that know nothing else.
    """
    return "\n".join(_Text(ladder, width, colour, ASCII if ascii_only else UNICODE).lines())


class _Text:
    def __init__(self, ladder: Ladder, width: int, colour: bool, signs: str):
        self.ladder = ladder
        self.width = max(60, width)
        self.colour = colour
        self.bar, self.dash, self.right, self.left, self.cross, self.kept, self.gap = tuple(signs)
        self.fallback = signs == ASCII
        count = len(ladder.columns)
        self.step = max(4, min(16, (self.width * 45 // 100 - _TIME) // max(1, count)))
        self.centre = {name: at * self.step + self.step // 2 for name, at in ladder.places.items()}
        self.span = count * self.step

    def lines(self) -> list[str]:
        head = "".join(column.name[: self.step - 1].center(self.step) for column in self.ladder.columns)
        made = [" " * _TIME + head.rstrip()]
        for row in self.ladder.rows:
            made += self.row(row)
        return [line.encode("ascii", "replace").decode() if self.fallback else line for line in made]

    def row(self, row: Row) -> list[str]:
        if isinstance(row, Arrow):
            label = self.ladder.label(row) + (f"  << {row.words}" if row.words else "")
            tip = self.cross if row.lost else self.kept if row.part == "out" else ""
            return self.beside(row.left_s, self.arrow(row.path[0], row.path[-1], tip), label, row.mark)
        if isinstance(row, Fold):
            at_s = row.arrows[0].left_s
            drawn = [
                self.beside(at_s, self.arrow(*strand.ends, dash="="), strand.words, strand.mark)
                for strand in row.strands
            ]
            return [line for lines in drawn for line in lines]
        if isinstance(row, State):
            return self.beside(row.at_s, self.rails({row.node: row.words()}), "", "state")
        if isinstance(row, Break):
            rails = self.rails().replace(self.bar, self.gap)
            return [" " * _TIME + f"{rails} {row.to_s - row.from_s:.1f} s in which nothing crosses"]
        return self.caption(row)

    def caption(self, row: Caption) -> list[str]:
        who = f"{row.node}: " if row.node else ""
        lines = textwrap.wrap(f"{who}{row.text}", self.width - _TIME - 3) or [""]
        start = {"step": ">> ", "end": "== ", "note": " * "}.get(row.kind, "   ")
        painted = [self.paint(row.kind, f"{start if at == 0 else '   '}{line}") for at, line in enumerate(lines)]
        return ["", *self.timed(row.at_s, painted)] if row.kind in ("step", "end") else self.timed(row.at_s, painted)

    def beside(self, at_s: float, picture: str, label: str, kind: str) -> list[str]:
        parts = textwrap.wrap(label, max(24, self.width - _TIME - self.span - 1)) or [""]
        rails = self.rails()
        lines = [f"{picture} {part}".rstrip() if at == 0 else f"{rails} {part}" for at, part in enumerate(parts)]
        return self.timed(at_s, [self.paint(kind, line) for line in lines])

    def timed(self, at_s: float, lines: list[str]) -> list[str]:
        return [(f"{at_s:9.4f}  " if at == 0 else " " * _TIME) + line for at, line in enumerate(lines)]

    def rails(self, texts: dict[str, str] | None = None) -> str:
        line = [" "] * self.span
        for at in self.centre.values():
            line[at] = self.bar
        for name, text in (texts or {}).items():
            if name in self.centre:
                at = max(0, min(self.centre[name] - len(text) // 2, self.span - len(text)))
                line[at : at + len(text)] = text
        return "".join(line)

    def arrow(self, sender: str, receiver: str, tip: str = "", dash: str = "") -> str:
        """Return a line from node to node; `tip` replaces the head if it does not arrive."""
        line = list(self.rails())
        start, end = (self.centre[name] for name in (sender, receiver))
        for at in range(min(start, end) + 1, max(start, end)):
            line[at] = dash or self.dash
        forward = end > start
        line[end - 1 if forward else end + 1] = tip or (self.right if forward else self.left)
        return "".join(line)

    def paint(self, kind: str, text: str) -> str:
        return f"\033[{_COLOURS[kind]}m{text}\033[0m" if self.colour and kind in _COLOURS else text
