"""Reads nstat, /proc/net/netstat and snmp, and sockstat.

Names are nstat's, with TcpExt left off.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from twlab.diagnose.snapshot import whole
from twlab.diagnose.texts.gathered import Gathered

_NSTAT = re.compile(r"([A-Z][A-Za-z0-9]+)\s+(\d+)\s+[\d.]+\s*$")
_PAIR = re.compile(r"([A-Za-z0-9]+):((?: -?[A-Za-z0-9]+)+)\s*$")


def nstat(lines: Iterable[str], into: Gathered, _heading: str = "") -> None:
    """Add `nstat -az` (with -s or without)."""
    for line in lines:
        if found := _NSTAT.match(line):
            into.counters[found[1].removeprefix("TcpExt")] = whole(found[2])


def pairs(lines: Iterable[str], into: Gathered, _heading: str = "") -> None:
    """Add /proc/net/netstat or snmp: a line of names above a line of values."""
    names: list[str] = []
    for line in lines:
        found = _PAIR.match(line)
        if not found:
            continue
        items = found[2].split()
        if not items[0].lstrip("-").isdecimal():
            names = items
            continue
        group = found[1].removeprefix("TcpExt")
        into.counters |= {
            group + name: whole(value)
            for name, value in zip(names, items, strict=False)
            if value.lstrip("-").isdecimal()
        }
        names = []


def sockstat(lines: Iterable[str], into: Gathered, _heading: str = "") -> None:
    """Add ``tw`` and ``orphan`` of /proc/net/sockstat."""
    for line in lines:
        words = line.split()
        if words[:1] == ["TCP:"]:
            into.gauges |= {
                name: whole(value) for name, value in zip(words[1::2], words[2::2], strict=False) if value.isdecimal()
            }
