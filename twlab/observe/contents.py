"""Compares the bytes of a late packet with those of the open connection.

Compared are the bytes that both sent under the same sequence numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from struct import unpack

import numpy as np

from twlab.observe import headers
from twlab.observe.frames import LARGEST, Frames, Interface
from twlab.observe.incarnations import Incarnations, Sorted
from twlab.observe.packets import AGAIN, FILE, NUMBER, STRAY, steps

_MOST = 16  # packets of the open connection to compare a late one with
_SLACK = 256


@dataclass(frozen=True, slots=True)
class Source:
    """A file, or a part of it in one byte order, whose frames can be read again.

    Attributes:
        first: number of its first frame in the file.
        order: byte order, as `struct` has it.
        before: bytes between a frame and the field with the number of its bytes that were kept.
    """

    path: str
    first: int
    order: str
    before: int


def compare(
    row: int, rows: Sorted, made: Incarnations, sources: dict[int, list[Source]], interfaces: list[Interface]
) -> str:
    """Compare a packet with those of the open connection in this batch.

    Returns:
        ``differ`` if one of them has other bytes in the same place; ``same`` if their bytes are
        equal; empty if there is nothing to compare.
    """
    inc, side, size = int(made.of[row]), int(rows.bits[row] & 1), int(rows.ln[row])
    at = np.arange(made.start[inc], made.stop[inc])
    ahead = (rows.seq[at] - rows.seq[row]).astype(np.uint32).view(np.int32).astype(np.int64)
    own = ((rows.bits[at] & 1) == side) & ((rows.bits[at] & (AGAIN | STRAY)) == 0) & (at != row)
    over = at[own & (ahead < size) & (ahead + rows.ln[at] > 0) & (rows.ln[at] > 0)]
    mine = _payload(row, rows, sources, interfaces) if len(over) and size else b""
    found = ""
    for other in over[:_MOST].tolist() if mine else []:
        theirs = _payload(other, rows, sources, interfaces)
        shift = int(steps(rows.seq[[other]], rows.seq[[row]])[0])
        one, two = mine[max(0, shift) :], theirs[max(0, -shift) :]
        length = min(len(one), len(two))
        if length and one[:length] != two[:length]:
            return "differ"
        found = "same" if length else found
    return found


def _payload(row: int, rows: Sorted, sources: dict[int, list[Source]], interfaces: list[Interface]) -> bytes:
    """Read the captured part of a packet's payload; empty if it cannot be read again."""
    number, offset = int(rows.n[row]), int(rows.off[row])
    parts = sources.get(number >> FILE, [])
    source = next((each for each in reversed(parts) if each.first <= number & NUMBER), None)
    if source is None:
        return b""
    try:
        with Path(source.path).open("rb") as file:
            file.seek(offset - source.before)
            kept = unpack(f"{source.order}I", file.read(4))[0]
            file.seek(offset)
            data = bytearray(file.read(min(kept, LARGEST)))
    except (OSError, ValueError, IndexError):
        return b""
    one = np.array([len(data)], np.int64)
    zero = np.zeros(1, np.int64)
    length = np.array([LARGEST], np.int64)
    link = interfaces[int(rows.iface[row])].link
    frames = Frames(data + bytearray(_SLACK), zero, one, length, zero, zero, zero, link, 0)
    packets, _, tcp, _ = headers.locate(frames, headers.Tables(), np.zeros(1, np.uint16))
    if not len(tcp) or len(data) < tcp[0] + 13:
        return b""
    begin = int(tcp[0]) + (data[int(tcp[0]) + 12] >> 4) * 4
    return bytes(data[begin : begin + int(packets.ln[0])])
