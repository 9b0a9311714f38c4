"""Shows a diagnosis on the terminal, the answer first."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from twlab.diagnose.causes import FAULT, WARNING
from twlab.diagnose.diagnosis import Diagnosis, Part
from twlab.diagnose.pool import FULL, Pool

_POOLS = 8
_ALIKE = 3  # findings of one cause
_NARROWEST, _WIDTH = 20, 100
_STYLES = {FAULT: "bold red", WARNING: "yellow"}
_COLUMNS = {  # heading to its rank: on a narrow terminal those of the highest rank are left out first
    "pool (source > destination)": 0,
    "taken": 0,
    "of": 0,
    "TIME_WAIT": 2,
    "open": 3,
    "closes/s": 1,
    "enough for/s": 4,
    "full": 0,
    "binds first": 1,
    "closes first": 5,
    "timestamps": 6,
    "program": 2,
}
_LEFT = ("pool (source > destination)", "binds first", "closes first", "timestamps", "program")


def render(diagnosis: Diagnosis, width: int = 160, brief: bool = False) -> RenderableType:
    """Show a diagnosis on a Rich console.

    Args:
        width: columns that there are.
        brief: leave out evidence and advice, for one screen.
    """
    parts: list[RenderableType] = [_text(diagnosis.snapshot.title, "bold")]
    for part in diagnosis.parts:
        if len(diagnosis.parts) > 1 and not part.measured.sockets:
            continue
        parts += list(_part(part, width, brief))
    empty = [part.place.name for part in diagnosis.parts if not part.measured.sockets]
    if len(diagnosis.parts) > 1 and empty:
        parts += [Text(), _text(f"no TCP sockets in: {', '.join(empty)}")]
    if diagnosis.snapshot.unseen:
        parts += [Text(), _text("not seen")]
        parts += [_line(width, text) for text in diagnosis.snapshot.unseen]
    for name, count in list(diagnosis.snapshot.unread.items())[:5]:
        parts.append(_text(f"not understood: {count:,} lines of {name}"))
    return Group(*parts)


def _part(part: Part, width: int, brief: bool) -> Iterator[RenderableType]:
    yield Text()
    yield _text(part.place.name, "bold")
    yield _line(width, part.answer, "bold")
    if part.measured.pools:
        yield Text()
        yield _table(part, width)
        if more := part.measured.others + max(0, len(part.measured.pools) - _POOLS):
            yield _line(width, f"and {more:,} more pools, less full")
    told = Counter[str]()
    for finding in part.findings:
        told[finding.cause] += 1
        if told[finding.cause] > _ALIKE:
            continue
        yield Text()
        heading = _wrapped(width, f"{finding.weight}  {finding.text} ({finding.cause})", "")
        heading.stylize(_STYLES.get(finding.weight, "bold"), 0, len(finding.weight))
        yield heading
        if brief:
            continue
        for fact in finding.evidence:
            yield _line(width, f"{fact.text}  [{fact.source}]")
        if finding.remedy:
            yield _line(width, f"remedy: {finding.remedy}")
        for shown in finding.shows:
            yield _line(width, f"see it: twlab run {shown}")
    for cause, count in told.items():
        if count > _ALIKE:
            yield Text()
            yield _text(f"and {count - _ALIKE:,} more of the kind {cause}; --json has them")
    if part.advice and not brief:
        yield Text()
        yield _text(f"advice for {part.advice.about}", "bold")
        yield _text(f"  {part.advice.command}")
        yield from (_line(width, line) for line in part.advice.lines)
    if part.missing and not brief:
        yield Text()
        yield _text("not read, and what would show it", "bold")
        yield from (_line(width, f"{what}: {command}") for what, command in part.missing)


def _line(width: int, text: str, style: str = "") -> Text:
    return _wrapped(width, text, "  ", style)


def _wrapped(width: int, text: str, indent: str, style: str = "") -> Text:
    lines = textwrap.wrap(
        _plain(text),
        max(_NARROWEST, min(width, _WIDTH)),
        initial_indent=indent,
        subsequent_indent="  ",
        break_on_hyphens=False,
    )
    return Text("\n".join(lines), style=style)


def _text(text: str, style: str = "") -> Text:
    return Text(_plain(text), style=style)


def _plain(text: str) -> str:
    """Replace control characters: names come from other people's processes."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _table(part: Part, width: int) -> Table:
    pools = part.measured.pools[:_POOLS]
    rows = [cells(pool) for pool in pools]
    shown = _fitting(rows, width)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in shown:
        table.add_column(name, justify="left" if name in _LEFT else "right", overflow="fold")
    for pool, row in zip(pools, rows, strict=True):
        table.add_row(*(_text(row[name]) for name in shown), style="red" if pool.fill >= FULL else "")
    return table


def _fitting(rows: list[dict[str, str]], width: int) -> list[str]:
    """Choose the columns that fit into `width`, in their order."""
    shown = list(_COLUMNS)
    while sum(2 + max(len(name), *(len(row[name]) for row in rows)) for name in shown) - 2 > width:
        last = max(shown, key=lambda name: _COLUMNS[name])
        if not _COLUMNS[last]:
            break
        shown.remove(last)
    return shown


def cells(pool: Pool) -> dict[str, str]:
    """Return a row of the table, heading to text."""
    ceiling = pool.ceiling_per_s
    dated = "" if pool.rate is None or pool.rate.dated else "~"
    have, asked = pool.timestamps
    texts = (
        pool.name,
        f"{pool.taken:,}",
        f"{pool.capacity:,}",
        f"{pool.time_wait:,}",
        f"{pool.busy:,}",
        f"{dated}{pool.rate_per_s:,.1f}" if pool.rate else "-",
        f"{ceiling:,.0f}" if ceiling is not None else "-",
        when_full(pool),
        f"{pool.bind.verdict}{', ' + pool.bind.confidence if pool.bind.confidence == 'likely' else ''}",
        pool.closes_first,
        "not seen" if not asked else "yes" if have == asked else "no" if not have else f"{have} of {asked}",
        ", ".join(pool.owners[:2]) or "-",
    )
    return dict(zip(_COLUMNS, texts, strict=True))


def when_full(pool: Pool) -> str:
    """Say ``now``, ``in 42 s``, or ``never``."""
    if pool.forecast is None or pool.forecast.full_in_s is None:
        return "never"
    return "now" if pool.forecast.full_in_s == 0 else f"in {pool.forecast.full_in_s:.0f} s"
