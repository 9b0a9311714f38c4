"""Puts IP packets onto a link, so that they arrive as if they had crossed it. A kept AF_PACKET
socket: microseconds a packet.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from twlab.errors import ScenarioError

if TYPE_CHECKING:
    from twlab.network import Interface, Node

_DISCARD_PORT = 9
ETHERTYPE_IPV4, ETHERTYPE_IPV6 = b"\x08\x00", b"\x86\xdd"


class Outlet:
    """Sends towards one interface from the other end of its link.

    Attributes:
        target: the interface at which packets arrive.
    """

    def __init__(self, target: Interface):
        self.target = target
        self._addresses = bytes.fromhex((target.mac + target.peer.mac).replace(":", ""))
        self._socket = target.peer.node.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self._socket.bind((target.peer.name, 0))  # protocol 0: it receives nothing

    def send(self, packet: bytes) -> None:
        """Put one IPv4 or IPv6 packet onto the link. Raises OSError, e.g. when it is longer than
        the link's MTU.
        """
        self._socket.send(self._addresses + (ETHERTYPE_IPV4 if packet[0] >> 4 == 4 else ETHERTYPE_IPV6) + packet)

    def close(self) -> None:
        self._socket.close()


class Outlets:
    """All ways out of one node, and to any other interface of its network, each opened on first
    use.
    """

    def __init__(self, node: Node):
        self._node = node
        self._open: dict[tuple[str, str], Outlet] = {}
        self._by_address = {
            address: interface for interface in node.interfaces for address in interface.all4 + interface.all6
        }
        self._probes: dict[int, socket.socket] = {}

    def to(self, destination: str) -> Outlet:
        """The way on which the node itself would send to the address `destination`, as its routes
        are now.

        Raises:
            ScenarioError: it has no route there (``no-route``).
        """
        family = socket.AF_INET6 if ":" in destination else socket.AF_INET
        if family not in self._probes:
            self._probes[family] = self._node.socket(family, socket.SOCK_DGRAM)
        try:
            # Connecting a datagram socket sends nothing: the kernel looks up the route and notes
            # its source address.
            self._probes[family].connect((destination, _DISCARD_PORT))
            return self.at(self._by_address[self._probes[family].getsockname()[0]].peer)
        except (OSError, KeyError):
            raise ScenarioError(
                f"{self._node.name} has no route to {destination}", "name the interface: into=...", "no-route"
            ) from None

    def at(self, interface: Interface) -> Outlet:
        """The way to `interface`, from the other end of its link."""
        key = (interface.node.name, interface.name)
        if key not in self._open:
            self._open[key] = Outlet(interface)
        return self._open[key]

    def close(self) -> None:
        for outlet in self._open.values():
            outlet.close()
        for probe in self._probes.values():
            probe.close()
