"""Reads the output of ss, iproute2 4.x to 7.x, with any of its columns.

FIN-WAIT-2 with a timer called timewait is a mini-socket that has not reached TIME_WAIT. (iproute2
misc/ss.c)
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from twlab.diagnose.snapshot import UNKNOWN, Row, whole
from twlab.diagnose.texts.gathered import STATES, Gathered, parted
from twlab.linux import inet_diag

_ROW = re.compile(
    r"(?:(?P<netid>[a-z_]\w*)\s+)?(?:(?P<state>[A-Z][A-Z0-9-]+)\s+)?(?P<rq>\d+)\s+\d+\s+(?P<local>\S+)\s+(?P<remote>\S+)(?P<rest>.*)"
)
_TITLES = re.compile(r"(?:Netid|State|Recv-Q)\s")
_TIMER = re.compile(r"timer:\((\w+),([^,)]*)")
_USERS = re.compile(r'\("([^"]*)",(?:pid=)?(\d+)')
_INODE = re.compile(r"\bino:(\d+)")
_SOCKOPT = re.compile(r"inet-sockopt: \(([^)]*)\)")
_AMOUNT = re.compile(r"(?:(\d+)day)?(?:(\d+)hour)?(?:(\d+)min)?(?:(\d+)sec)?(?:(\d+)\.)?(?:(\d+)ms)?")
_STATE_ASKED = re.compile(r"\bstate\s+([a-z0-9-]+)")
_ESTABLISHED = STATES["ESTAB"]


def parse(lines: Iterable[str], into: Gathered, heading: str = "") -> None:
    """Add the sockets of `lines`.

    Args:
        heading: the command, which may say the state that ss then leaves out.
    """
    asked = _STATE_ASKED.search(heading.replace("_", " "))
    default = STATES.get(asked[1].upper()) if asked else None
    rows = into.rows_under("ss", heading)
    fresh = False  # whether the last row may be continued
    for line in lines:
        if line[:1].isspace() and fresh and not _looks_like_row(line):
            rows[-1] = _continued(rows[-1], line)
            continue
        found = _ROW.match(line.strip())
        if not found:
            if _TITLES.match(line):
                rows, fresh = into.rows_under("ss", heading, begins=True), False
            continue
        fresh = False
        if found["netid"] not in (None, "tcp", "mptcp"):
            continue
        try:
            rows.append(_row(found, default, into))
            fresh = True
        except ValueError:
            into.unread["ss"] += 1


def _looks_like_row(line: str) -> bool:
    found = _ROW.match(line.strip())
    return bool(found and ":" in found["local"] and ":" in found["remote"])


def _row(found: re.Match[str], default: int | None, into: Gathered) -> Row:
    rest = found["rest"]
    state = STATES.get(found["state"] or "", default)
    timer = _TIMER.search(rest) if "timer:" in rest else None
    mini = bool(timer and timer[1] == "timewait")
    if state is None and mini:
        state = inet_diag.TIME_WAIT
    if state is None:
        raise ValueError("state")
    local, local_port = parted(found["local"])
    remote, remote_port = parted(found["remote"])
    owner, inode = "", 0
    if len(rest) > 1:
        if "users:(" in rest:
            owner = ", ".join(dict.fromkeys(f"{name}[{pid}]" for name, pid in _USERS.findall(rest)))
        inode = whole(match[1]) & 0xFFFFFFFF if (match := _INODE.search(rest)) else 0
    row = Row(
        state,
        local,
        local_port,
        remote,
        remote_port,
        _milliseconds(timer[2]) if timer and mini else UNKNOWN,
        int(mini or state == inet_diag.TIME_WAIT),
        into.inode_of(owner, inode),
    )
    return _continued(row, rest) if "cwnd:" in rest or "inet-sockopt" in rest else row


def _continued(row: Row, text: str) -> Row:
    """Add to `row` what its continuation line says."""
    if match := _SOCKOPT.search(text):
        row = row._replace(no_port=int("bind_addr_no_port" in match[1] or "bind_address_no_port" in match[1]))
    if row.state == _ESTABLISHED and ("cwnd:" in text or "rto:" in text):
        row = row._replace(timestamps=int(" ts " in f" {text.strip()} "))
    return row


@lru_cache(1 << 14)
def _milliseconds(text: str) -> int:
    """Read ``59sec``, ``940ms``, ``1min2sec``, ``9.123ms``, and nothing, which is 0.

    The last but one is nine seconds and 123 ms (ss.c, print_ms_timer).
    """
    found = _AMOUNT.fullmatch(text)
    if not found:
        return UNKNOWN
    days, hours, minutes, seconds, more, ms = (min(whole(part or "0"), 10**6) for part in found.groups())
    return min((((days * 24 + hours) * 60 + minutes) * 60 + seconds + more) * 1000 + ms, 2**31 - 1)
