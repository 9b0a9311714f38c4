"""Shifts TCP timestamp clocks of nodes, which share one kernel's clock.

Machines that have not booted together differ in that clock. Where the kernel has
net.ipv4.tcp_timestamp_offset (the lab kernel), each node sets it. Elsewhere the gateway in front of
the nodes shifts: it adds to every TSval that a node sends, and subtracts from every TSecr that goes
back. Both ends then see consistent timestamps.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from struct import pack
from typing import TYPE_CHECKING

from twlab import lab_kernel
from twlab.errors import CapabilityError, ScenarioError, UsageError
from twlab.linux import nfqueue, sysctl
from twlab.loop import Loop
from twlab.segment import parse, with_checksums

if TYPE_CHECKING:
    from netfilterqueue import Packet

    from twlab.network import Network, Node

SYSCTL = "net.ipv4.tcp_timestamp_offset"
_CIRCLE = 2**32
_FARTHEST_MS = 2**31 - 1  # a clock that is farther ahead is behind


def apply(network: Network, loop: Loop, ahead_ms: Mapping[str, int], closing: ExitStack) -> str:
    """Shift the timestamp clocks of nodes, for connections from now on.

    Args:
        ahead_ms: node to how far its clock runs ahead.
        closing: ends the shifting at gateways.

    Returns:
        The mechanism, in words.

    Raises:
        UsageError: a shift of half the circle of timestamps or more (``bad-setting``).
        ScenarioError: the kernel has no sysctl for it, and the topology no gateway
            (``no-gateway``).
        CapabilityError: the kernel has no usable netfilter queue, or a gateway has a flow table,
            in which packets pass by its rules (``no-clocks-past-flow-table``).
    """
    if (farthest := max(map(abs, ahead_ms.values()), default=0)) > _FARTHEST_MS:
        message = f"a timestamp clock cannot run {farthest / 1000:.0f} s ahead: half of its circle is 2147483 s"
        raise UsageError(message, "choose a shorter time", "bad-setting")
    if sysctl.exists(SYSCTL):
        for name, shift_ms in ahead_ms.items():
            network[name].write_sysctl(SYSCTL, shift_ms)
        return f"sysctl {SYSCTL}"
    gateways = [node for node in network.nodes.values() if node.role == "gateway"]
    if not gateways:
        message = "clocks are shifted by a gateway here, and this topology has none"
        raise ScenarioError(message, lab_kernel.remedy(), "no-gateway")
    if past := [node.name for node in gateways if getattr(node, "flowtable", False)]:
        message = f"clocks are shifted by the gateway {past[0]} here, and its flow table lets packets pass by that"
        raise CapabilityError(message, lab_kernel.remedy(), "no-clocks-past-flow-table")
    by_address = {
        address: shift_ms
        for name, shift_ms in ahead_ms.items()
        for family in (4, 6)
        for address in network[name].addresses(family)
    }
    shifts = [TimestampShift(gateway, loop, by_address) for gateway in gateways]
    for one in shifts:
        closing.callback(one.close)
    names = " and ".join(node.name for node in gateways)
    return f"shifted by {names} in what they forward ({shifts[-1].mechanism})"


class TimestampShift:
    """Shift of the clocks behind `gateway`, until `close`.

    It applies to the segments that the gateway forwards.

    Args:
        ahead_ms: address behind the gateway to how far its clock runs ahead.

    Attributes:
        mechanism: how segments reach it.

    Raises:
        CapabilityError: the kernel has no usable netfilter queue.
    """

    def __init__(self, gateway: Node, loop: Loop, ahead_ms: Mapping[str, int]):
        self._ahead_ms = ahead_ms
        self._loop = loop
        self.mechanism = nfqueue.install(gateway)
        self._tap = nfqueue.Tap(gateway, self._on_packet)
        loop.watch(self._tap, readable=self._tap.serve)

    def close(self) -> None:
        """Forward every segment unchanged from now on."""
        self._loop.forget(self._tap)
        self._tap.close()

    def _on_packet(self, packet: Packet) -> None:
        raw = packet.get_payload()
        if (shifted := shift(raw, self._ahead_ms)) != raw:
            packet.set_payload(shifted)
        packet.accept()


def shift(raw: bytes, ahead_ms: Mapping[str, int]) -> bytes:
    """Shift the timestamps of the IP packet `raw`.

    TSval grows by what the source is ahead, TSecr shrinks by what the destination is ahead. In a
    segment without ACK, TSecr has no meaning and stays (RFC 7323 section 3.2).
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
    """Return the offset of the timestamp option's values in a packet that has one."""
    at = header + 20
    while raw[at] != 8:
        at += 1 if raw[at] == 1 else raw[at + 1]
    return at + 2
