"""Makes one snapshot from many texts.

ss, netstat and /proc/net/tcp list the same sockets. Only the most detailed of them is used: if they
were added up, every connection would count twice.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from twlab.diagnose.snapshot import Namespace, Row, Snapshot, Sockets, whole
from twlab.diagnose.texts import (
    conntrack,
    counters,
    haproxy_stat,
    ipvs,
    netstat,
    proc_net_tcp,
    recognize,
    settings,
    ss,
)
from twlab.diagnose.texts.gathered import Gathered
from twlab.linux import inet_diag

_Parser = Callable[[Iterable[str], Gathered, str], None]
_PARSERS: dict[str, _Parser] = {
    "ss": ss.parse,
    "netstat": netstat.parse,
    "proc": proc_net_tcp.parse,
    "netstat-s": netstat.statistics,
    "nstat": counters.nstat,
    "pairs": counters.pairs,
    "sockstat": counters.sockstat,
    "sysctl": settings.parse,
    "conntrack": conntrack.entries,
    "conntrack-s": conntrack.statistics,
    "conntrack-stat": conntrack.processors,
    "ipvs": ipvs.services,
    "ipvs-conn": ipvs.connections,
    "haproxy": haproxy_stat.parse,
}
_SOURCES = {"ss": "ss", "netstat": "netstat", "proc": "/proc/net/tcp"}
_NETNS = re.compile(
    r"ip[ _]netns[ _]exec[ _](\S+?)[ _](?:ss|netstat|nstat|sysctl|conntrack|cat|ip|iptables)(?![a-z])"
    r"|nsenter \S* ?-t ?(\d+)"
    r"|\bss (?:.* )?(?:-[A-Za-z]*N ?|--net[= ])(\S+)"
)
_MAIN = "this machine"
_LONGEST_NAME = 60  # letters of a heading, which may be a long command line


@dataclass(frozen=True)
class Text:
    """One text: the name of its file, which often is the command, and its lines."""

    name: str
    lines: Iterable[str]


def snapshot(texts: Iterable[Text], title: str) -> Snapshot:
    """Make a snapshot of `texts`, by namespace."""
    places: dict[str, Gathered] = defaultdict(Gathered)
    unread: dict[str, int] = defaultdict(int)
    for text in texts:
        for kind, heading, lines in recognize.sections(text.lines, text.name):
            if not kind:
                unread[text.name] += sum(not line.isspace() for line in lines)
                continue
            into = places[_namespace(heading) or _namespace(text.name) or _MAIN]
            _PARSERS[kind](lines, into, heading)
            if heading not in into.files[kind]:
                into.files[kind].append(heading)
    made = [_assemble(name, gathered) for name, gathered in places.items()]
    for name, gathered in places.items():
        for kind, count in gathered.unread.items():
            unread[f"{kind}, {name}"] += count
    host = next((settings for place in made if (settings := place.settings.get("kernel.hostname"))), "")
    return Snapshot(
        f"{host}, from {title}" if host else title,
        made,
        unread={name: count for name, count in unread.items() if count},
    )


def _namespace(heading: str) -> str:
    found = _NETNS.search(heading)
    return f"netns {found[1] or found[2] or found[3]}" if found else ""


def _assemble(name: str, gathered: Gathered) -> Namespace:
    kind, rows = _best({kind: _of_last_runs(kind, gathered) for kind in gathered.listings})
    counted = [kind for kind in ("nstat", "pairs", "netstat-s") if gathered.files[kind]]
    made = Namespace(
        name,
        Sockets.of(_without_doubles(rows)),
        f"{_SOURCES[kind]} ({_names(gathered.files[kind])})" if kind else "",
        gathered.settings,
        f"sysctl ({_names(gathered.files['sysctl'])})" if gathered.settings else "",
        gathered.counters,
        f"counters ({_names(gathered.files[counted[0]])})" if counted else "",
        owners=gathered.owners,
        gauges=gathered.gauges,
        haproxy=gathered.haproxy,
        gateway=list({entry[:4]: entry for entry in gathered.gateway}.values()),
        balanced=list(dict.fromkeys(gathered.balanced)),
        balancer_entries=list({entry[:3]: entry for entry in gathered.balancer_entries}.values()),
        missing=list(gathered.hints.items()),
    )
    for gauge, sysctl in (("conntrack", "nf_conntrack_count"), ("conntrack_max", "nf_conntrack_max")):
        text = made.settings.get(f"net.netfilter.{sysctl}", "")
        if text.isdecimal():
            made.gauges[gauge] = whole(text)
    return made


def _of_last_runs(kind: str, gathered: Gathered) -> list[Row]:
    """Return the sockets of the last run under each heading.

    Runs one after the other, as in a log, are of different times. A list of listeners alone belongs
    to the others.
    """
    runs: dict[str, list[list[Row]]] = defaultdict(list)
    rows: list[Row] = []
    for listing in gathered.listings[kind]:
        if kind != "proc" and any(row.state != inet_diag.LISTEN for row in listing.rows):
            runs[listing.heading].append(listing.rows)
        else:
            rows += listing.rows
    for heading, found in runs.items():
        rows += found[-1]
        if len(found) > 1:
            gathered.hints[f"the first {len(found) - 1:,} of {len(found):,} runs of {kind} in {heading}"] = (
                "a file for each run"
            )
    return rows


def _names(files: list[str]) -> str:
    short = [name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 4]} ..." for name in files[:2]]
    return ", ".join(short) + (f" and {len(files) - 2} more" if len(files) > 2 else "")


def _best(rows: dict[str, list[Row]]) -> tuple[str, list[Row]]:
    """Choose the most detailed kind of text.

    Only among those that list at least half as many sockets as the longest.
    """
    longest = max((len(listed) for listed in rows.values()), default=0)
    if not longest:
        return "", []

    def worth(kind: str) -> tuple[bool, int]:
        timed = any(row.state == inet_diag.TIME_WAIT and row.remaining_ms >= 0 for row in rows[kind])
        return timed, list(_SOURCES)[::-1].index(kind)

    kind = max((kind for kind in rows if 2 * len(rows[kind]) >= longest), key=worth)
    return kind, rows[kind]


def _without_doubles(rows: list[Row]) -> list[Row]:
    """Keep each four-tuple once, its best line.

    Two files of one kind may overlap, and so may one dump of a busy machine.
    """
    seen: dict[tuple[bytes, int, bytes, int, bool], Row] = {}
    for row in rows:
        key = (row.local, row.local_port, row.remote, row.remote_port, row.state == inet_diag.LISTEN)
        known = seen.get(key)
        if known is None or row.remaining_ms > known.remaining_ms or (row.inode and not known.inode):
            seen[key] = row
    return list(seen.values())
