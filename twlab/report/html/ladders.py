"""The ladder of one arm for a page, or the reason why it is missing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from twlab.errors import LabError
from twlab.report.html.packing import pack
from twlab.report.ladder import ladder
from twlab.report.ladder import svg as ladder_svg

PLAIN_BYTES = 150_000  # of one ladder
FOLD_BYTES = 32_000  # of what one fold opens to, packed: some 1,500 segments
MOST_BYTES = 24 << 20  # of a capture that is read for a page: about 100,000 packets, three seconds


@dataclass(frozen=True)
class Piece:
    """A part of a ladder: an ``<svg>``, and what it opens to.

    Attributes:
        packed: what it opens to; "" if it is no fold; None: more than a page holds.
        handle: where across it the reader opens it, e.g. ``48.5%``.
    """

    svg: Markup
    packed: str | None = ""
    handle: str = ""


def draw(folder: Path, arm: str, capture: Path) -> tuple[list[Piece], list[Piece], str]:
    """Return the pieces of a ladder, to be stacked, and those for a narrow screen.

    There are none where it cannot be drawn, and the reason is not empty. They lack their style,
    which a page needs only once: `ladder_svg.STYLE`.
    """
    too_long = f"Too long for this page: twlab show {folder} --arm {arm}"
    if capture.exists() and capture.stat().st_size > MOST_BYTES:
        return [], [], too_long
    try:
        read = ladder.read(folder, arm)
    except LabError as error:
        return [], [], str(error)
    wide = _pieces(read, ladder_svg.WIDE)
    if sum(len(piece.svg) for piece in wide) > PLAIN_BYTES:
        return [], [], too_long
    return wide, _pieces(read, ladder_svg.NARROW), ""


def _pieces(read: ladder.Ladder, layout: ladder_svg.Layout) -> list[Piece]:
    handle = f"{ladder_svg.mark_percent(read, layout):.1f}%"
    return [Piece(Markup(svg), _packed(inner), handle) for svg, inner in ladder_svg.pieces(read, layout)]


def _packed(inner: str) -> str | None:
    packed = pack(inner) if inner else ""
    return packed if len(packed) <= FOLD_BYTES else None
