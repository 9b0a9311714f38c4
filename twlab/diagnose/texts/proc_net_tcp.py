"""Reads /proc/net/tcp and /proc/net/tcp6.

Linux net/ipv4/tcp_ipv4.c, get_tcp4_sock and get_timewait4_sock.

Addresses are words in the machine's byte order, which is taken to be little-endian; timers count
hundredths of a second.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from twlab.diagnose.snapshot import MAPPED, UNKNOWN, Row, whole
from twlab.diagnose.texts.gathered import Gathered
from twlab.linux import inet_diag

_TICK_MS = 10  # USER_HZ is 100 everywhere that counts
_TIME_WAIT_TIMER = "03"
_ROW = re.compile(
    r"\s*\d+: ([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4}) ([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4}) "
    r"([0-9A-F]{2}) [0-9A-F]+:[0-9A-F]+ "
    r"([0-9A-F]{2}):([0-9A-F]+)\s+[0-9A-F]+\s+\d+\s+-?\d+\s+(\d+)"
)


def parse(lines: Iterable[str], into: Gathered, heading: str = "") -> None:
    """Add the sockets of `lines`."""
    into.rows_under("proc", heading).extend(rows(lines))


def rows(lines: Iterable[str]) -> list[Row]:
    """Return the sockets of `lines`; a line of another form is skipped."""
    found = []
    for line in lines:
        match = _ROW.match(line)
        if not match:
            continue
        local, local_port, remote, remote_port, state, timer, when, inode = match.groups()
        mini = timer == _TIME_WAIT_TIMER
        number = int(state, 16)
        if not 0 < number < len(inet_diag.STATES):
            continue
        found.append(
            Row(
                number,
                _address(local),
                int(local_port, 16),
                _address(remote),
                int(remote_port, 16),
                min(int(when[:16], 16) * _TICK_MS, 2**31 - 1) if mini else UNKNOWN,
                int(mini),
                whole(inode) & 0xFFFFFFFF,
            )
        )
    return found


@lru_cache(1 << 16)
def _address(text: str) -> bytes:
    words = b"".join(bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, len(text), 8))
    return MAPPED + words if len(words) == 4 else words
