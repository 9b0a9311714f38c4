"""Counts a namespace's TCP sockets by one short read, however many there are.

Source: /proc/net/sockstat and sockstat6 (Linux net/ipv4/proc.c, net/ipv6/proc.c).
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twlab.linux.namespace import Namespace

_FOLDER = "/proc/thread-self/net"
_IN_USE = re.compile(rb"TCP6?: inuse (\d+)")
_MOST = 4096  # bytes of one of the files


class Sockstat:
    """The socket counts of `node`, read anew each time. Close it.

    Attributes:
        descriptors: its open files; a forked process that reads on has to keep them.
    """

    def __init__(self, node: Namespace):
        self.descriptors: list[int] = []
        with node.inside():
            for name in ("sockstat", "sockstat6"):
                try:
                    self.descriptors.append(os.open(f"{_FOLDER}/{name}", os.O_RDONLY | os.O_CLOEXEC))
                except FileNotFoundError:  # a kernel without IPv6
                    continue

    def time_wait(self) -> int:
        """Count the mini-sockets: in TIME_WAIT, and in an orphaned FIN_WAIT2."""
        return _mini(os.pread(self.descriptors[0], _MOST, 0))

    def counts(self) -> list[int]:
        """Count sockets, and mini-sockets as `time_wait` does.

        The first number is that of the sockets in all states but TIME_WAIT, IPv4 and IPv6, with
        those that listen.
        """
        texts = [os.pread(file, _MOST, 0) for file in self.descriptors]
        return [sum(int(count) for text in texts for count in _IN_USE.findall(text)), _mini(texts[0])]

    def close(self) -> None:
        """Close the files."""
        for file in self.descriptors:
            os.close(file)
        self.descriptors.clear()


def _mini(sockstat: bytes) -> int:
    _, _, rest = sockstat.partition(b" tw ")
    return int(rest.split(maxsplit=1)[0])
