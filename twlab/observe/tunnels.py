"""Finds TCP behind rare headers, one packet at a time.

IPv6 extensions, GRE, VXLAN, Geneve, MPLS, PPPoE, fragments.
"""

from __future__ import annotations

from struct import error, unpack_from
from typing import NamedTuple

from twlab.observe.link import MPLS, PPPOE

_TCP, _UDP, _IP_IN_IP, _IP6_IN_IP, _GRE, _FRAGMENT, _AUTHENTICATION = 6, 17, 4, 41, 47, 44, 51
_EXTENSIONS = (0, 43, 60, 135)
_VXLAN = (4789, 8472)
_GENEVE, TEREDO = 6081, 3544
_IP4, _IP6, _BRIDGED = 0x0800, 0x86DD, 0x6558
_VLAN = (0x8100, 0x88A8, 0x9100)
_DEEPEST = 8
_NET_BITS = 0xFFFF_FFFF_FFFF


class Inner(NamedTuple):
    """Where TCP was found in a packet.

    Attributes:
        version: of the innermost IP header.
        ip: where that header begins.
        tcp: where the TCP header begins; -1 in a fragment that has none.
        net: the virtual network, with the tunnels' numbers.
        fragment: the datagram that it is a part of (addresses and identification); empty if it is
            whole.
        end: of a fragment: bytes of the datagram behind its IP headers up to the fragment's end.
    """

    version: int
    ip: int
    tcp: int
    net: int
    fragment: bytes = b""
    end: int = 0


def look(data: bytearray, at: int, end: int, kind: int, net: int) -> Inner | None:
    """Find TCP in the packet whose network header begins at `at`.

    Args:
        end: where the packet's captured bytes end.
        kind: as `twlab.observe.link.ip_headers` has it.
        net: the virtual network so far.

    Returns:
        Where TCP is; None if the packet has no TCP.
    """
    try:
        return _network(data, at, end, kind, net, 0)
    except (error, IndexError):
        return None


def _network(data: bytearray, at: int, end: int, kind: int, net: int, depth: int) -> Inner | None:
    if depth > _DEEPEST or at + 20 > end:
        return None
    if kind == MPLS:
        while not data[at + 2] & 1 and at + 8 <= end:
            at += 4
        return _network(data, at + 4, end, data[at + 4] >> 4, net, depth + 1)
    if kind == PPPOE:
        inner = {0x21: 4, 0x57: 6}.get(unpack_from("!H", data, at + 6)[0], 0)
        return _network(data, at + 8, end, inner, net, depth + 1)
    if kind != data[at] >> 4:
        return None
    if kind == 4:
        size, length, identity, part = (data[at] & 15) * 4, *unpack_from("!HHH", data, at + 2)
        if size < 20:
            return None
        behind = (length or end - at) - size
        if part & 0x3FFF:
            name = bytes(data[at + 12 : at + 20]) + identity.to_bytes(2, "big")
            return _fragment(4, at, at + size, part & 0x1FFF, data[at + 9], net, name, behind)
        return _transport(data, at, at + size, end, 4, data[at + 9], net, depth)
    return _six(data, at, end, net, depth) if kind == 6 else None


def _six(data: bytearray, at: int, end: int, net: int, depth: int) -> Inner | None:
    protocol, here = data[at + 6], at + 40
    whole = at + 40 + unpack_from("!H", data, at + 4)[0]
    for _ in range(_DEEPEST):
        if here + 8 > end:
            return None
        if protocol == _FRAGMENT:
            part = unpack_from("!H", data, here + 2)[0]
            if part & 0xFFF9:
                name = bytes(data[at + 8 : at + 40]) + bytes(data[here + 4 : here + 8])
                return _fragment(6, at, here + 8, part >> 3, data[here], net, name, whole - here - 8)
            protocol, here = data[here], here + 8
        elif protocol in _EXTENSIONS:
            protocol, here = data[here], here + data[here + 1] * 8 + 8
        elif protocol == _AUTHENTICATION:
            protocol, here = data[here], here + data[here + 1] * 4 + 8
        else:
            break
    return _transport(data, at, here, end, 6, protocol, net, depth)


def _fragment(
    version: int, ip: int, here: int, part: int, protocol: int, net: int, name: bytes, size: int
) -> Inner | None:
    if protocol != _TCP:
        return None
    return Inner(version, ip, -1 if part else here, net, name, part * 8 + max(0, size))


def _transport(
    data: bytearray, ip: int, at: int, end: int, version: int, protocol: int, net: int, depth: int
) -> Inner | None:
    if protocol == _TCP:
        return Inner(version, ip, at, net)
    if protocol in (_IP_IN_IP, _IP6_IN_IP):
        return _network(data, at, end, 4 if protocol == _IP_IN_IP else 6, net, depth + 1)
    if protocol == _GRE:
        return _gre(data, at, end, net, depth)
    if protocol == _UDP and at + 8 <= end:
        ports = unpack_from("!HH", data, at)
        if ports[1] in _VXLAN:
            number = int.from_bytes(data[at + 12 : at + 15], "big")
            return _ethernet(data, at + 16, end, _within(net, number), depth + 1)
        if ports[1] == _GENEVE:
            size, kind = 8 + (data[at + 8] & 0x3F) * 4, unpack_from("!H", data, at + 10)[0]
            net = _within(net, int.from_bytes(data[at + 12 : at + 15], "big"))
            return _typed(data, at + 8 + size, end, kind, net, depth + 1)
        if TEREDO in ports and data[at + 8] >> 4 == 6:
            return _network(data, at + 8, end, 6, net, depth + 1)
    return None


def _gre(data: bytearray, at: int, end: int, net: int, depth: int) -> Inner | None:
    bits, kind = unpack_from("!HH", data, at)
    if bits & 7 or bits & 0x4000:  # PPTP's version 1, or source routing
        return None
    here = at + 4 + 4 * bool(bits & 0x8000)
    if bits & 0x2000:
        net, here = _within(net, unpack_from("!I", data, here)[0]), here + 4
    return _typed(data, here + 4 * bool(bits & 0x1000), end, kind, net, depth + 1)


def _ethernet(data: bytearray, at: int, end: int, net: int, depth: int) -> Inner | None:
    kind, here = unpack_from("!H", data, at + 12)[0], at + 14
    while kind in _VLAN and here + 4 <= end:
        tag, kind = unpack_from("!HH", data, here)
        net, here = _within(net, tag & 0xFFF), here + 4
    return _typed(data, here, end, kind, net, depth)


def _typed(data: bytearray, at: int, end: int, kind: int, net: int, depth: int) -> Inner | None:
    if kind == _BRIDGED:
        return _ethernet(data, at, end, net, depth + 1)
    kind = {_IP4: 4, _IP6: 6, MPLS: MPLS}.get(kind, 0)
    return _network(data, at, end, kind, net, depth + 1) if kind else None


def _within(net: int, number: int) -> int:
    """Return the virtual network `number` inside of `net`."""
    return (net * 0x1000003 ^ number + 1) & _NET_BITS
