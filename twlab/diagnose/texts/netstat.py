"""Reads `netstat -an` of net-tools and busybox, and `netstat -s`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from twlab.diagnose.snapshot import UNKNOWN, Row, whole
from twlab.diagnose.texts.gathered import STATES, Gathered, parted
from twlab.linux import inet_diag

_ROW = re.compile(r"tcp6?\s+\d+\s+\d+\s+(?P<local>\S+)\s+(?P<remote>\S+)\s+(?P<state>[A-Z][A-Z_0-9]+)(?P<rest>.*)")
# Without -W net-tools cuts an address: with its port it has 23 columns (netstat.c, tcp_do_one).
_FIELD, _WIDE = 23, re.compile(r"[ _]-\w*W|--wide")
_TIMER = re.compile(r"timewait \((\d+)\.(\d\d)/")
_OWNERS = re.compile(
    r"^\s+(?:(?P<uid>\d+)\s+(?P<inode>\d+)\s+)?(?P<owner>\d+/.*?|-)\s*(?=$|\s(?:off|on|keepalive|timewait|unkn-\d+|probe)\b)"
)
_EXTENDED = re.compile(r"^\s+(\d+)\s+(\d+)\b")
# The sentences of net-tools' statistics.c. Some have had two spellings.
_SENTENCES = {
    r"active connections? openings": "TcpActiveOpens",
    r"passive connection openings": "TcpPassiveOpens",
    r"failed connection attempts": "TcpAttemptFails",
    r"connection resets received": "TcpEstabResets",
    r"connections established": "TcpCurrEstab",
    r"TCP sockets finished time wait in fast timer": "TW",
    r"time wait sockets recycled by time stamp": "TWRecycled",
    r"TCP sockets finished time wait in slow timer": "TWKilled",
    r"passive connections rejected because of time stamp": "PAWSPassive",
    r"active connections rejected because of time stamp": "PAWSActive",
    r"packets? rejected in established connections because of timestamp": "PAWSEstab",
    r"resets sent": "TcpOutRsts",
}
_ZERO = ("TW", "TWRecycled", "TWKilled", "TCPTimeWaitOverflow")
_COUNTED = re.compile(rf"\s*(\d+) ({'|'.join(_SENTENCES)})")
_NAMED = re.compile(r"\s+([A-Za-z]\w+): (\d+)$")


def parse(lines: Iterable[str], into: Gathered, heading: str = "") -> None:
    """Add the sockets of `netstat -an`.

    An IPv6 address that net-tools may have cut is not read.
    """
    rows = into.rows_under("netstat", heading)
    listed = [(line, _ROW.match(line)) for line in lines]
    whole_fields = bool(_WIDE.search(heading)) or any(
        max(len(found["local"]), len(found["remote"])) > _FIELD for _, found in listed if found
    )
    for line, found in listed:
        if not found:
            if line.startswith("Proto Recv-Q"):
                rows = into.rows_under("netstat", heading, begins=True)
            continue
        if not whole_fields and line.startswith("tcp6") and _FIELD in (len(found["local"]), len(found["remote"])):
            into.unread["netstat"] += 1
            into.hints["IPv6 sockets: netstat cuts long addresses"] = "netstat -W, or ss -tanoe"
            continue
        try:
            rows.append(_row(found, into))
        except (ValueError, KeyError):
            into.unread["netstat"] += 1


def _row(found: re.Match[str], into: Gathered) -> Row:
    rest = found["rest"]
    local, local_port = parted(found["local"])
    remote, remote_port = parted(found["remote"])
    state = STATES[found["state"]]
    timer = _TIMER.search(rest) if "timewait" in rest else None
    owner, inode = "", 0
    if rest and not rest.isspace():
        if (match := _OWNERS.match(rest)) and match["owner"] != "-":
            pid, _, name = match["owner"].partition("/")
            owner = f"{name.strip().partition(':')[0]}[{pid}]"
        if match := _EXTENDED.match(rest):
            inode = whole(match[2]) & 0xFFFFFFFF
    mini = timer is not None or state == inet_diag.TIME_WAIT
    remaining_ms = min(whole(timer[1]) * 1000 + int(timer[2]) * 10, 2**31 - 1) if timer else UNKNOWN
    return Row(
        state,
        local,
        local_port,
        remote,
        remote_port,
        remaining_ms,
        int(mini),
        into.inode_of(owner, inode),
    )


def statistics(lines: Iterable[str], into: Gathered, _heading: str = "") -> None:
    """Add the counters of `netstat -s`.

    TW counts entries into TIME_WAIT, although the sentence speaks of ends.
    """
    for line in lines:
        if line.startswith("TcpExt:"):  # net-tools leaves out counters that are 0
            into.counters |= {name: into.counters.get(name, 0) for name in _ZERO}
        if found := _COUNTED.match(line):
            name = next(name for sentence, name in _SENTENCES.items() if re.fullmatch(sentence, found[2]))
            into.counters[name] = whole(found[1])
        elif found := _NAMED.match(line):
            into.counters[found[1]] = whole(found[2])
