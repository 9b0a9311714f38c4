"""Local ports: Linux's range, how a connection gets one, how many are found."""

from __future__ import annotations

from enum import StrEnum

from twlab.errors import UsageError
from twlab.numerals import is_whole

LINUX_PORTS = (32768, 60999)  # ip_local_port_range as Linux has it
LINUX_PORT_COUNT = LINUX_PORTS[1] - LINUX_PORTS[0] + 1  # 28,232
LINUX_RANGE = f"{LINUX_PORTS[0]}-{LINUX_PORTS[1]}"  # as options take it
WIDEST_PORTS = (1024, 65535)  # ip_local_port_range at its widest, without the privileged ports
# Sustained, and not sustained, from one address to one address and port of an origin, with those
# ports and Linux's own 60 s: the first row of docs/findings/ceiling.md, measured by `twlab ceiling
# --time-wait 60`. Every page takes the figures from here.
LINUX_SUSTAINS_PER_S = (452.6, 457.2)


class PortChoice(StrEnum):
    """How the local port of a connection is chosen.

    The choice decides which call fails, and with which error, when no port is left.

    CONNECT    connect() alone; the kernel chooses, for this destination: EADDRNOTAVAIL from connect
    BIND       bind(address, 0), then connect(); the kernel chooses before it knows the destination:
               EADDRINUSE from bind
    NO_PORT    the same with IP_BIND_ADDRESS_NO_PORT (Linux 4.2): bind settles the address, connect
               the port, as in CONNECT
    EXPLICIT   bind(address, port), the application's choice: the next one of a range each time,
               round and round
    RANGE      connect() with IP_LOCAL_PORT_RANGE (Linux 6.3); the kernel chooses, from the part of
               the node's range that the socket names
    """

    CONNECT = "connect"
    BIND = "bind"
    NO_PORT = "bind-no-port"
    EXPLICIT = "explicit"
    RANGE = "range"


def port_range(text: str) -> tuple[int, int]:
    """Read what an option says as ``LOW-HIGH``.

    Raises:
        UsageError: it is no range of ports (``bad-setting``).
    """
    low, _, high = text.partition("-")
    if not (is_whole(low) and is_whole(high) and 1 <= int(low) <= int(high) <= 65535):
        raise UsageError(f"--ports {text} is no range of ports", "e.g. --ports 1024-65535", "bad-setting")
    return int(low), int(high)


def usable(ports: int, choice: PortChoice) -> int:
    """Return how many of a range's `ports` the kernel is sure to find.

    Of an odd number one less, unless the socket has a range or the application names the port.
    Linux's search goes one parity after the other over an even number of ports, and leaves the
    first or the last of an odd number out (net/ipv4/inet_hashtables.c, __inet_hash_connect;
    net/ipv4/inet_connection_sock.c, inet_csk_find_open_port). Which one depends on where it begins,
    so of 5 ports 4 or all 5 are found before the first failure (Linux 6.12).
    """
    return ports if ports == 1 or choice in (PortChoice.RANGE, PortChoice.EXPLICIT) else ports - ports % 2
