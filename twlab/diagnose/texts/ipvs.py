"""Reads `ipvsadm -Ln` and `-Lnc`, /proc/net/ip_vs and ip_vs_conn.

The tool prints numbers in decimal, the kernel's files in hexadecimal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from twlab.diagnose.snapshot import BalancedServer, BalancerEntry, packed, whole
from twlab.diagnose.texts.gathered import Gathered, parted

_SERVICE = re.compile(r"TCP\s+(\[?[\w.:]+\]?):(\w+) +[a-z]\w*(.*)")
_SERVER = re.compile(r"\s+->\s+(\[?[\w.:]+\]?):(\w+)\s+([A-Z]\w+)\s+(\d+)\s+(\d+)\s+(\d+)\s*$")
_OF_KERNEL = re.compile(
    r"TCP (\S+) ([0-9A-F]{4}) (\S+) ([0-9A-F]{4}) (\S+) ([0-9A-F]{4}) ([A-Z_0-9]+)\s+(\d+)", re.ASCII
)
_OF_TOOL = re.compile(r"TCP +(\d+):(\d\d) +([A-Z_0-9]+) +(\S+:\d+) +(\S+:\d+) +(\S+:\d+)", re.ASCII)
_HEXADECIMAL = re.compile(r"[0-9A-F]{8}", re.ASCII)


def services(lines: Iterable[str], into: Gathered, _heading: str = "") -> None:
    """Add the servers of each virtual service, with their weights."""
    service: tuple[bytes, int] | None = None
    of_kernel = False
    for line in lines:
        if not line[:1].isspace():  # of another service, which need not be one of TCP
            service = None
        try:
            if found := _SERVICE.match(line):
                of_kernel = bool(_HEXADECIMAL.fullmatch(found[1])) or (":" in found[1] and len(found[1]) == 41)
                service = _place(found[1], found[2], of_kernel)
            elif service and (found := _SERVER.match(line)):
                numbers = (whole(found[number]) for number in (4, 5, 6))
                server = _place(found[1], found[2], of_kernel)
                into.balanced.append(BalancedServer(service, server, found[3], *numbers))
        except ValueError:
            into.unread["ipvs"] += 1


def connections(lines: Iterable[str], into: Gathered, _heading: str = "") -> None:
    """Add the entries: a client's port, and the server that it leads to."""
    for line in lines:
        try:
            if found := _OF_KERNEL.match(line):
                client, service, server = (_place(found[at], found[at + 1], True) for at in (1, 3, 5))
                into.balancer_entries.append(BalancerEntry(client, service, server, found[7], whole(found[8])))
            elif found := _OF_TOOL.match(line):
                client, service, server = map(parted, found.groups()[3:])
                left_s = 60 * whole(found[1]) + whole(found[2])
                into.balancer_entries.append(BalancerEntry(client, service, server, found[3], left_s))
        except ValueError:
            into.unread["ipvs"] += 1


def _place(address: str, port: str, of_kernel: bool) -> tuple[bytes, int]:
    """Read an address and a port.

    Raises:
        ValueError: they are none.
    """
    if _HEXADECIMAL.fullmatch(address):
        address = ".".join(str(byte) for byte in bytes.fromhex(address))
    number = int(port, 16) if of_kernel else int(port)
    if not 0 <= number < 65536:
        raise ValueError(port)
    return packed(address), number
