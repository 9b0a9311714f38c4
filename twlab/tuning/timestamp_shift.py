"""Timestamp clocks of machines that have not booted together, for nodes that share one kernel, and
so one clock.

Where the kernel has net.ipv4.tcp_timestamp_offset (the lab kernel), each node shifts its own.
Elsewhere the gateway in front of them does: it adds the shift to every TSval that comes from a
node, and takes it off every TSecr that goes back, so that neither end can tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import pack
from typing import TYPE_CHECKING

from twlab.linux import nfqueue
from twlab.loop import Loop
from twlab.segment import parse, with_checksums

if TYPE_CHECKING:
    from netfilterqueue import Packet

    from twlab.network import Node

SYSCTL = "net.ipv4.tcp_timestamp_offset"
_CIRCLE = 2**32


class GatewayClocks:
    """The clocks of the nodes behind `gateway`, shifted in the segments that it forwards, from
    being made until `close`.

    Args:
        ahead_ms: address behind the gateway to how far its clock runs ahead.

    Attributes:
        mechanism: how segments reach it.

    Raises:
        CapabilityError: the kernel has no netfilter queue for us.
    """

    def __init__(self, gateway: Node, loop: Loop, ahead_ms: Mapping[str, int]):
        self._ahead_ms = ahead_ms
        self._loop = loop
        self.mechanism = nfqueue.install(gateway)
        self._tap = nfqueue.Tap(gateway, self._on_packet)
        loop.watch(self._tap, readable=self._tap.serve)

    def close(self) -> None:
        """Let every segment pass as it is."""
        self._loop.forget(self._tap)
        self._tap.close()

    def _on_packet(self, packet: Packet) -> None:
        raw = packet.get_payload()
        if (shifted := shift(raw, self._ahead_ms)) != raw:
            packet.set_payload(shifted)
        packet.accept()


def shift(raw: bytes, ahead_ms: Mapping[str, int]) -> bytes:
    """The IP packet, its TSval later by what its source is ahead, its TSecr earlier by what its
    destination is. Pure.

    A TSecr of a segment without ACK means nothing and stays (RFC 7323 section 3.2).
    """
    segment = parse(raw, 0.0)
    if segment is None or segment.timestamp is None:
        return raw
    tsval, tsecr = segment.timestamp
    shifted = (tsval + ahead_ms.get(segment.source, 0)) % _CIRCLE
    echoed = (tsecr - ahead_ms.get(segment.destination, 0)) % _CIRCLE if "A" in segment.flags else tsecr
    if (shifted, echoed) == segment.timestamp:
        return raw
    at = _timestamp_at(raw, segment.header)
    return with_checksums(raw[:at] + pack("!II", shifted, echoed) + raw[at + 8 :])


def _timestamp_at(raw: bytes, header: int) -> int:
    """Where the timestamp option's values begin in a packet that has one."""
    at = header + 20
    while raw[at] != 8:
        at += 1 if raw[at] == 1 else raw[at + 1]
    return at + 2
