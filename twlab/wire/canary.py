"""Canaries: segments that prove that the lab sees segments.

A result that rests on silence ("no answer", "nothing refused") needs proof that an answer would
have been seen. Each observer sees one canary when it is opened and another before it is closed.
A canary reaches no application and no TCP. Its source port is 0, which no socket can have, and
the observer takes it off its way. Captures leave canaries out of their files.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from struct import pack
from typing import TYPE_CHECKING

from twlab import lab_kernel
from twlab.errors import EngineError
from twlab.linux import rtnetlink
from twlab.loop import monotonic_s
from twlab.segment import with_checksums

if TYPE_CHECKING:
    from twlab.network import Interface, Node

CROSSING = 2  # canaries that `crosses` sends

_MARK = b"\x00\x00twcanary"  # source port 0, then after the destination port: sequence and acknowledgement number
_PORTS4, _PORTS6 = 20, 40  # where the TCP header begins: canaries have no IP options
_PATIENCE_S = 2.0  # the kernel may leave a packet to a worker when the machine is busy
_NAP_S = 0.0005


def make(source: str, destination: str, port: int = 0) -> bytes:
    """Make a canary: an IP packet that no TCP accepts.

    Args:
        source, destination: addresses, both IPv4 or both IPv6.
        port: the destination port.
    """
    tcp = _MARK[:2] + pack("!H", port) + _MARK[2:] + pack("!BBHHH", 5 << 4, 0, 0, 0, 0)
    if ":" in source:
        addresses = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, destination)
        packet = pack("!IHBB", 6 << 28, len(tcp), socket.IPPROTO_TCP, 64) + addresses + tcp
    else:
        addresses = socket.inet_aton(source) + socket.inet_aton(destination)
        packet = pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0x4000, 64, socket.IPPROTO_TCP, 0) + addresses + tcp
    return with_checksums(packet)


def is_canary(packet: bytes) -> bool:
    """Return whether an IP packet is a canary."""
    at = _PORTS6 if packet[0] >> 4 == 6 else _PORTS4
    return packet[at : at + 2] == _MARK[:2] and packet[at + 4 : at + 12] == _MARK[2:]


def await_sight(seen: Callable[[], bool]) -> bool:
    """Wait up to two seconds until `seen()` is true; return whether it was."""
    until_s = monotonic_s() + _PATIENCE_S
    while not seen():
        if monotonic_s() >= until_s:
            return False
        select.select([], [], [], _NAP_S)
    return True


def crosses(node: Node, send: Callable[[Interface, bytes], object], seen: Callable[[], bool]) -> bool:
    """Send canaries across a node; return whether they are seen, or cannot cross.

    They arrive at the node's first interface and leave by its second: `CROSSING` of them, one over
    IPv4 and one over IPv6.

    Args:
        send: puts a packet onto the link of an interface.
        seen: whether all of them have been seen.
    """
    if len(node.interfaces) < 2:
        return True
    one, other = node.interfaces[:2]
    try:
        for source, destination in ((one.peer.all4[0], other.peer.all4[0]), (one.peer.all6[0], other.peer.all6[0])):
            send(one, make(source, destination))
    except OSError:
        return not _are_running(node, one, other)
    return seen() or not _are_running(node, one, other) or await_sight(seen)


def _are_running(node: Node, *interfaces: Interface) -> bool:
    with node.inside():
        return all(rtnetlink.is_running(interface.index) for interface in interfaces)


def blind(what: str) -> EngineError:
    """Return the error of a lab that does not see what it should (``blind-lab``).

    Args:
        what: names the observer, and what it missed.
    """
    return EngineError(what, lab_kernel.or_guest("run it again; if it stays, see twlab doctor"), "blind-lab")
