"""Packs parts of a page that would make it too large. Pure.

Packed markup is gzip in base64; the page's script puts it in its place.
"""

from __future__ import annotations

import gzip
from base64 import b64encode


def pack(markup: str) -> str:
    """Return the text for an attribute ``data-packed``, equal for equal markup."""
    return b64encode(gzip.compress(markup.encode(), 9, mtime=0)).decode()


class Room:
    """The bytes that a page still takes.

    Attributes:
        plain: for ladders that stand in it unpacked.
        packed: for packed markup: what folds open to, and ladders that do not fit unpacked.
        narrow: for ladders once more, packed, as a narrow screen shows them.
    """

    def __init__(self, plain: int = 1_200_000, packed: int = 1_550_000, narrow: int = 1_000_000):
        self.plain = plain
        self.packed = packed
        self.narrow = narrow

    def fold(self, packed: str) -> bool:
        """Take the room for what a fold opens to; return whether there was enough."""
        fits = len(packed) <= self.packed
        self.packed -= len(packed) if fits else 0
        return fits

    def once_more(self, markup: str) -> str:
        """Return `markup` packed, for a narrow screen; "": there is no room."""
        small = pack(markup)
        if len(small) > self.narrow:
            return ""
        self.narrow -= len(small)
        return small

    def place(self, markup: str, folds: int = 0) -> tuple[str, str] | None:
        """Return `markup` and "", or "" and the same packed; None: there is no room.

        Args:
            folds: how many of its bytes have been counted.
        """
        if len(markup) - folds <= self.plain:
            self.plain -= len(markup) - folds
            return markup, ""
        small = pack(markup)
        if len(small) - folds > self.packed:
            return None
        self.packed -= max(0, len(small) - folds)
        return "", small
