"""The ladder of one arm for a page, or why there is none."""

from __future__ import annotations

import gzip
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from twlab.errors import LabError
from twlab.report import ladder, ladder_svg

PLAIN_BYTES, FOLD_BYTES = 150_000, 150_000  # of one ladder, and of what one fold opens to, packed


@dataclass(frozen=True)
class Piece:
    """A part of a ladder: an ``<svg>``; `packed` is what it opens to (gzip, base64), "" where it is no fold; None: more than a page holds."""

    svg: Markup
    packed: str | None = ""

    @property
    def size(self) -> int:
        return len(self.svg) + len(self.packed or "")


def draw(folder: Path, arm: str) -> tuple[list[Piece], str]:
    """The pieces of a ladder, to be stacked; or none, and why.

    They lack their style, which a page needs only once: `ladder_svg.STYLE`.
    """
    try:
        read = ladder.read(folder, arm)
    except LabError as error:
        return [], str(error)
    pieces = [Piece(Markup(svg), _packed(inner)) for svg, inner in ladder_svg.pieces(read)]
    if sum(len(piece.svg) for piece in pieces) > PLAIN_BYTES:
        return [], f"Too long for this page: twlab show {folder} --arm {arm}"
    return pieces, ""


def _packed(inner: str) -> str | None:
    packed = b64encode(gzip.compress(inner.encode(), 9, mtime=0)).decode() if inner else ""
    return packed if len(packed) <= FOLD_BYTES else None
