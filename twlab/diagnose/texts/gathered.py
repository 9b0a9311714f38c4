"""Holds what the parsers found for one namespace, before a source is chosen."""

from __future__ import annotations

import socket
from collections import defaultdict
from dataclasses import dataclass, field
from functools import lru_cache

from twlab.diagnose.snapshot import BalancedServer, BalancerEntry, Row, packed, whole
from twlab.linux import inet_diag

# ss's names, in the kernel's order
_SS = "ESTAB SYN-SENT SYN-RECV FIN-WAIT-1 FIN-WAIT-2 TIME-WAIT UNCONN CLOSE-WAIT LAST-ACK LISTEN CLOSING"
STATES = {
    **{name: number for number, name in enumerate(inet_diag.STATES) if name},
    **{name: number for number, name in enumerate(_SS.split(), 1)},
    "CLOSED": inet_diag.STATES.index("CLOSE"),
}
_MADE_UP = 1 << 31  # inodes that stand for an owner whose socket has none in the text


@dataclass
class Listing:
    """The sockets of one run of a tool, and the heading that they stood under."""

    heading: str
    rows: list[Row] = field(default_factory=list)


@dataclass
class Gathered:
    """Rows by the kind of text that they came from, and everything else.

    Attributes:
        listings: kind of text to the runs in it.
        hints: what a tool left out, and the command that shows it.
        files: kind of text to the names of its files.
        unread: lines that looked like sockets and could not be read, by kind.
    """

    listings: dict[str, list[Listing]] = field(default_factory=lambda: defaultdict(list))
    hints: dict[str, str] = field(default_factory=dict)
    files: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    settings: dict[str, str] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    gauges: dict[str, int] = field(default_factory=dict)
    owners: dict[int, str] = field(default_factory=dict)
    haproxy: list[dict[str, str]] = field(default_factory=list)
    gateway: list[tuple[bytes, int, bytes, int, str, int]] = field(default_factory=list)
    balanced: list[BalancedServer] = field(default_factory=list)
    balancer_entries: list[BalancerEntry] = field(default_factory=list)
    unread: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def rows_under(self, kind: str, heading: str, begins: bool = False) -> list[Row]:
        """Return the list to which the sockets below `heading` are to be added.

        Args:
            begins: the tool's own line of titles was read: another run begins.
        """
        known = self.listings[kind]
        if not known or known[-1].heading != heading or (begins and known[-1].rows):
            known.append(Listing(heading))
        return known[-1].rows

    def inode_of(self, owner: str, inode: int) -> int:
        """Remember `owner`, and return the inode that stands for it."""
        if not owner:
            return inode
        inode = inode or _MADE_UP | (hash(owner) & 0x7FFFFFFF)
        self.owners[inode] = owner
        return inode


@lru_cache(1 << 17)
def port(text: str) -> int:
    """Read a port, which may be ``*`` or a service's name.

    Raises:
        ValueError: it is neither a port nor a known name.
    """
    if text in ("*", ""):
        return 0
    if text.isdecimal():
        number = whole(text)
    else:
        try:
            number = socket.getservbyname(text, "tcp")
        except (OSError, UnicodeError):
            raise ValueError(text) from None
    if number > 65535:
        raise ValueError(text)
    return number


def parted(text: str) -> tuple[bytes, int]:
    """Split an address from its port.

    ``10.0.0.1:80``, ``[fd00::1]:80``, ``:::80``, ``*:*``.

    Raises:
        ValueError: the text has another form.
    """
    address, sign, number = text.rpartition(":")
    if not sign:
        raise ValueError(text)
    return packed(address), port(number)
