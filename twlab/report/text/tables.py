"""The tables of a run, filled by its arms' steps (`twlab.lab.lab.Lab.row`). Pure.

Each title stands once, with the arm before each row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twlab.observation import plain
from twlab.results.result import Result

_UNITS = {"_per_s": "per s", "_share": "%", "_percent": "%", "_ms": "ms", "_s": "s"}  # the longer of two endings first
_NOTHING = "—"


@dataclass(frozen=True)
class TextTable:
    """A table as it is shown.

    Attributes:
        title: what it is about.
        columns: headings, with units.
        rows: of cells, all of them text.
        numeric: for each column whether it holds numbers, which are right-aligned.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]


def of(result: Result) -> list[TextTable]:
    """Return the tables of a run, in the order in which its arms began them.

    A column that a row does not have is empty there.
    """
    titles = dict.fromkeys(title for arm in result.arms.values() for title in arm.tables)
    return [
        of_rows(title, [{"arm": name, **row} for name, arm in result.arms.items() for row in arm.tables.get(title, [])])
        for title in titles
    ]


def text(table: TextTable) -> Iterator[str]:
    """Yield the lines of a table in columns, its title above."""
    lines = [table.columns, *table.rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(table.columns))]
    yield table.title
    for line in lines:
        cells = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, table.numeric, strict=True)
        )
        yield "  " + "  ".join(cells).rstrip()


def of_rows(title: str, rows: Sequence[Mapping[str, Any]]) -> TextTable:
    """Return a table of `rows`, whose keys are its columns.

    A column that a row does not have is empty there.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    numeric = [
        all(isinstance(row.get(name), int | float | None) and not isinstance(row.get(name), bool) for row in rows)
        for name in names
    ]
    return TextTable(
        title,
        tuple(map(_heading, names)),
        tuple(tuple(_cell(name, row.get(name)) for name in names) for row in rows),
        tuple(numeric),
    )


def _unit(name: str) -> str:
    return next((ending for ending in _UNITS if name.endswith(ending)), "")


def _heading(name: str) -> str:
    """Return a heading: ``median_ms`` is ``median (ms)``."""
    ending = _unit(name)
    words = name.removesuffix(ending).replace("_", " ")
    return f"{words} ({_UNITS[ending]})" if ending else words


def _cell(name: str, value: Any) -> str:
    if value is None:
        return _NOTHING
    if _unit(name) == "_share":
        return f"{100 * value:.3g}"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return plain(value)
