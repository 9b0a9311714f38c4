"""Parts of a page that are packed, because pages grow large: markup as gzip in base64, which the
page's script puts in its place. Pure.
"""

from __future__ import annotations

import gzip
from base64 import b64encode


def pack(markup: str) -> str:
    """The text for an attribute ``data-packed``. The same for the same markup."""
    return b64encode(gzip.compress(markup.encode(), 9, mtime=0)).decode()


class Room:
    """How much a page still takes.

    Attributes:
        plain: bytes of ladders that stand in it as they are.
        packed: bytes of what is packed: what folds open to, and ladders for which there was no room
            as they are.
    """

    def __init__(self, plain: int = 1_200_000, packed: int = 1_550_000):
        self.plain = plain
        self.packed = packed

    def fold(self, packed: str) -> bool:
        """Whether there is room for what a fold opens to; it is taken then."""
        fits = len(packed) <= self.packed
        self.packed -= len(packed) if fits else 0
        return fits

    def place(self, markup: str, folds: int = 0) -> tuple[str, str] | None:
        """`markup` as it is and "", or "" and the same packed; None where there is no room either
        way. Of its bytes `folds` have been counted.
        """
        if len(markup) - folds <= self.plain:
            self.plain -= len(markup) - folds
            return markup, ""
        small = pack(markup)
        if len(small) - folds > self.packed:
            return None
        self.packed -= max(0, len(small) - folds)
        return "", small
