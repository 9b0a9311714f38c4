"""Parts of a page that are packed, because pages grow large: markup as gzip in base64, which the page's script puts in its place. Pure."""

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
        packed: bytes of ladders after those, packed.
    """

    def __init__(self, plain: int = 1_700_000, packed: int = 1_500_000):
        self.plain = plain
        self.packed = packed

    def place(self, markup: str) -> tuple[str, str] | None:
        """`markup` as it is and "", or "" and the same packed; None where there is no room for it either way."""
        if len(markup) <= self.plain:
            self.plain -= len(markup)
            return markup, ""
        small = pack(markup)
        if len(small) > self.packed:
            return None
        self.packed -= len(small)
        return "", small
