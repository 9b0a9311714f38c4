"""Draws the flows of late packets as ladders of text.

A ladder has both ends, every packet between them, and the verdicts beside them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from twlab.observe import headers
from twlab.observe.export import packets_of
from twlab.observe.findings import Findings, Frame, Late
from twlab.observe.packets import FILE, NUMBER, SIX, Packets, joined

MOST_FLOWS, MOST_ROWS = 20, 120
_WIDTH = 46
_FLAGS = ((2, "SYN"), (1, "FIN"), (4, "RST"), (8, "PSH"), (16, "ACK"))
_AROUND = 12  # packets before and behind each that is named


def ladders(found: Findings) -> list[list[str]]:
    """Draw a ladder for each flow with late packets, the gravest first.

    The files are read a second time. If one of them is standard input or a pipe, there are no
    ladders.

    Returns:
        The lines of each ladder.
    """
    order = sorted(
        (late for late in found.late if late.kind != "answer"),
        key=lambda late: (not late.harmed, not late.met, late.kind),
    )
    keys = list(dict.fromkeys(late.key for late in order))[:MOST_FLOWS]
    if not keys or not all(Path(name).is_file() for name, _ in found.files):
        return []
    tables = found.addresses
    parts: list[Packets] = []
    for number, (path, _) in enumerate(found.files):
        for _, located in packets_of(path, tables):
            chosen = located.packets.take(np.isin(located.packets.key, np.array(keys, np.uint64)))
            chosen.n += number << FILE
            if chosen.size:
                parts.append(chosen)
    if not parts:
        return []
    everything = joined(parts)
    if len(found.files) > 1:
        everything = everything.take(np.argsort(everything.t, kind="stable"))
    return [list(_ladder(everything.take(everything.key == np.uint64(key)), found, tables)) for key in keys]


def _ladder(rows: Packets, found: Findings, tables: headers.Tables) -> Iterator[str]:
    named: dict[Frame, list[str]] = {}
    for late in found.late:
        named.setdefault(late.frame, []).append(_words(late))
        for frame in late.against:
            named.setdefault(frame, []).append(f"compared with #{late.frame.number}")
    first = next((row for row in range(rows.size) if rows.flags[row] & 2 and not rows.flags[row] & 16), 0)
    client = int(rows.bits[first] & 1)
    six = bool(rows.bits[first] & SIX)
    left, right = (
        f"{tables.address(int(address[first]), six)}:{port[first]}"
        for address, port in ((rows.src, rows.sport), (rows.dst, rows.dport))
    )
    if rows.bits[first] & 1 != client:
        left, right = right, left
    frames = [_frame(int(number), found) for number in rows.n]
    marked = [row for row, frame in enumerate(frames) if frame in named]
    shown = sorted(
        {near for row in marked for near in range(row - _AROUND, row + _AROUND + 1) if 0 <= near < rows.size}
    )[:MOST_ROWS]
    yield f"{'':>20}{left:<{_WIDTH // 2}}{right:>{_WIDTH // 2}}"
    before = -1
    for row in shown:
        if row > before + 1 and before >= 0:
            yield f"{'':>20}… {row - before - 1:,} packets"
        before = row
        label = _label(rows, row)
        forward = int(rows.bits[row] & 1) == client
        bar = f"│{label:─^{_WIDTH - 3}}▶│" if forward else f"│◀{label:─^{_WIDTH - 3}}│"
        time = (int(rows.t[row]) - int(rows.t[shown[0]])) / 1e9
        words = "; ".join(named.get(frames[row], []))
        yield f"{time:>11.6f} #{frames[row].number:<7}{bar}{f'  << {words}' if words else ''}"


def _frame(number: int, found: Findings) -> Frame:
    return Frame(found.files[number >> FILE][0], (number & NUMBER) + 1)


def _label(rows: Packets, row: int) -> str:
    names = " ".join(name for bit, name in _FLAGS if rows.flags[row] & bit)
    size = f" len {int(rows.ln[row])}" if rows.ln[row] else ""
    return f" {names} seq {int(rows.seq[row])}{size} "


def _words(late: Late) -> str:
    when = f", {late.late_s:.6f} s after the close" if late.late_s is not None else ""
    return f"{late.kind}{when}: {late.rule}" + (
        f"; {'harm' if late.harmed else 'no harm'}: {late.why}" if late.met else ""
    )
