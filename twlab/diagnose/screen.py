"""A diagnosis on the terminal: the answer first, then pools, findings with their sources, advice,
and what is missing.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from twlab.diagnose.causes import FAULT, WARNING
from twlab.diagnose.diagnosis import Diagnosis, Part
from twlab.diagnose.pools import Pool

_POOLS = 8
_ALIKE = 3  # findings of one cause
_WIDTH = 100
_STYLES = {FAULT: "bold red", WARNING: "yellow"}
_COLUMNS = (
    "pool (source > destination)",
    "taken",
    "of",
    "TIME_WAIT",
    "open",
    "closes/s",
    "enough for/s",
    "full",
    "binds first",
    "program",
)


def render(diagnosis: Diagnosis, brief: bool = False) -> RenderableType:
    """The diagnosis for a Rich console. `brief`: without evidence and advice, for one screen."""
    parts: list[RenderableType] = [_text(diagnosis.snapshot.title, "bold")]
    for part in diagnosis.parts:
        if len(diagnosis.parts) > 1 and not part.measured.sockets:
            continue
        parts += list(_part(part, brief))
    empty = [part.place.name for part in diagnosis.parts if not part.measured.sockets]
    if len(diagnosis.parts) > 1 and empty:
        parts += [Text(), _text(f"no TCP sockets in: {', '.join(empty)}")]
    if diagnosis.snapshot.unseen:
        parts += [Text(), _text("not seen")]
        parts += [_line(text) for text in diagnosis.snapshot.unseen]
    for name, count in list(diagnosis.snapshot.unread.items())[:5]:
        parts.append(_text(f"not understood: {count:,} lines of {name}"))
    return Group(*parts)


def _part(part: Part, brief: bool) -> Iterator[RenderableType]:
    yield Text()
    yield _text(part.place.name, "bold")
    yield _line(part.answer, "bold")
    if part.measured.pools:
        yield Text()
        yield _table(part)
        if more := part.measured.others + max(0, len(part.measured.pools) - _POOLS):
            yield _line(f"and {more:,} more pools, less full")
    told = Counter[str]()
    for finding in part.findings:
        told[finding.cause] += 1
        if told[finding.cause] > _ALIKE:
            continue
        yield Text()
        heading = _wrapped(f"{finding.weight}  {finding.text} ({finding.cause})", "")
        heading.stylize(_STYLES.get(finding.weight, "bold"), 0, len(finding.weight))
        yield heading
        if brief:
            continue
        for fact in finding.evidence:
            yield _line(f"{fact.text}  [{fact.source}]")
        if finding.remedy:
            yield _line(f"remedy: {finding.remedy}")
        for shown in finding.shows:
            yield _line(f"see it: twlab run {shown}")
    for cause, count in told.items():
        if count > _ALIKE:
            yield Text()
            yield _text(f"and {count - _ALIKE:,} more of the kind {cause}; --json has them")
    if part.advice and not brief:
        yield Text()
        yield _text(f"advice for {part.advice.about}", "bold")
        yield _text(f"  {part.advice.command}")
        yield from (_line(line) for line in part.advice.lines)
    if part.missing and not brief:
        yield Text()
        yield _text("not read, and what would show it", "bold")
        yield from (_line(f"{what}: {command}") for what, command in part.missing)


def _line(text: str, style: str = "") -> Text:
    return _wrapped(text, "  ", style)


def _wrapped(text: str, indent: str, style: str = "") -> Text:
    lines = textwrap.wrap(_plain(text), _WIDTH, initial_indent=indent, subsequent_indent="  ", break_on_hyphens=False)
    return Text("\n".join(lines), style=style)


def _text(text: str, style: str = "") -> Text:
    return Text(_plain(text), style=style)


def _plain(text: str) -> str:
    """Names come from other people's processes and files: no control character reaches the
    terminal.
    """
    return "".join(char if char.isprintable() else "?" for char in text)


def _table(part: Part) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, name in enumerate(_COLUMNS):
        table.add_column(name, justify="left" if number in (0, 8, 9) else "right", overflow="fold")
    for pool in part.measured.pools[:_POOLS]:
        table.add_row(*map(_text, cells(pool)), style="red" if pool.fill >= 0.98 else "")
    return table


def cells(pool: Pool) -> tuple[str, ...]:
    """A row of the table, a text for each column."""
    ceiling = pool.ceiling_per_s
    dated = "" if pool.rate is None or pool.rate.dated else "~"
    return (
        pool.name,
        f"{pool.taken:,}",
        f"{pool.capacity:,}",
        f"{pool.time_wait:,}",
        f"{pool.busy:,}",
        f"{dated}{pool.rate_per_s:,.1f}" if pool.rate else "-",
        f"{ceiling:,.0f}" if ceiling is not None else "-",
        when_full(pool),
        f"{pool.bind.verdict}{', ' + pool.bind.confidence if pool.bind.confidence == 'likely' else ''}",
        ", ".join(pool.owners[:2]) or "-",
    )


def when_full(pool: Pool) -> str:
    """``now``, ``in 42 s``, or ``never``: at the present rate."""
    if pool.forecast is None or pool.forecast.full_in_s is None:
        return "never"
    return "now" if pool.forecast.full_in_s == 0 else f"in {pool.forecast.full_in_s:.0f} s"
