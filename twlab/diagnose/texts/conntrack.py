"""Reads `conntrack -L` and `-S`, and the kernel's files of the same."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from twlab.diagnose.snapshot import packed, whole
from twlab.diagnose.texts.gathered import Gathered

_ENTRY = re.compile(
    r"(?:ipv[46]\s+\d+\s+)?tcp\s+6\s+(?:(\d+)\s+)?(?:([A-Z_]+)\s+)?src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+) "
    r"(?:packets=\d+ bytes=\d+ )?(?:\[\w+\] )?src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+)"
)
_CPU = re.compile(r"\b([a-z_]+)=(\d+)")


def entries(lines: Iterable[str], into: Gathered, _heading: str = "") -> None:
    """Add the entries whose source is translated: they hold an outside port."""
    for line in lines:
        found = _ENTRY.match(line)
        if not found:
            continue
        left, state, source, _, sport, _, replier, outside, reply_port, outside_port = found.groups()
        if (outside, outside_port) == (source, sport):
            continue
        try:
            ports = whole(outside_port), whole(reply_port)
            if max(ports) < 65536:
                into.gateway.append(
                    (packed(outside), ports[0], packed(replier), ports[1], state or "OFFLOAD", whole(left or "0"))
                )
        except ValueError:
            into.unread["conntrack"] += 1


def statistics(lines: Iterable[str], into: Gathered, _heading: str = "") -> None:
    """Add `conntrack -S`, summed over processors, e.g. ``ConntrackInsertFailed``."""
    total: Counter[str] = Counter()
    for line in lines:
        if line.startswith("cpu="):
            total.update({name: whole(value) for name, value in _CPU.findall(line) if name != "cpu"})
    into.counters |= {"Conntrack" + name.title().replace("_", ""): value for name, value in total.items()}


def processors(lines: Iterable[str], into: Gathered, _heading: str = "") -> None:
    """Add /proc/net/stat/nf_conntrack: names, then a line for each processor."""
    names: list[str] = []
    total: Counter[str] = Counter()
    for line in lines:
        words = line.split()
        if words[:1] == ["entries"]:
            names = words
        elif all(re.fullmatch(r"[0-9a-f]{8}", word, re.ASCII) for word in words):
            total.update({name: int(word, 16) for name, word in zip(names, words, strict=False)})
    kept = ("insert_failed", "drop", "early_drop", "invalid")
    into.counters |= {"Conntrack" + name.title().replace("_", ""): total[name] for name in kept if name in total}
