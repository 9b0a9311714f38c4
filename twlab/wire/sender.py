"""Puts IP packets onto a link, so that they arrive as if they had crossed it. A kept AF_PACKET
socket: microseconds a packet.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from twlab.errors import ScenarioError
from twlab.linux import rtnetlink

if TYPE_CHECKING:
    from twlab.network import Interface, Node

_DISCARD_PORT = 9
ETHERTYPE_IPV4, ETHERTYPE_IPV6 = b"\x08\x00", b"\x86\xdd"


class LinkSender:
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


class PacketSender:
    """All ways out of one node, and to any other interface of its network, each opened on first
    use.
    """

    def __init__(self, node: Node):
        self._node = node
        self._open: dict[tuple[str, str], LinkSender] = {}
        self._by_index = {interface.index: interface for interface in node.interfaces}
        self._routes: socket.socket | None = None

    def to(self, destination: str) -> LinkSender:
        """The way on which the node would send to the address `destination` by its routes of now.

        The routes are asked for every packet: a node may change them at any time.

        Raises:
            ScenarioError: it has no route there (``no-route``).
        """
        if self._routes is None:
            self._routes = self._node.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        interface = self._by_index.get(rtnetlink.way_out(self._routes, destination))
        if interface is None:
            raise ScenarioError(
                f"{self._node.name} has no route to {destination}", "name the interface: into=...", "no-route"
            )
        return self.at(interface.peer)

    def leads(self, link: LinkSender, destination: str) -> bool:
        """Whether the node's own TCP and UDP would take the way `link` to the address
        `destination`: a second opinion beside `to`.
        """
        probe = self._node.socket(socket.AF_INET6 if ":" in destination else socket.AF_INET, socket.SOCK_DGRAM)
        with probe:  # a fresh one each time: a socket that was connected before keeps the source address of then
            probe.connect(
                (destination, _DISCARD_PORT)
            )  # sends nothing: the kernel chooses a route, and its source address
            source = probe.getsockname()[0]
        near = link.target.peer
        return source in near.all4 + near.all6

    def at(self, interface: Interface) -> LinkSender:
        """The way to `interface`, from the other end of its link."""
        key = (interface.node.name, interface.name)
        if key not in self._open:
            self._open[key] = LinkSender(interface)
        return self._open[key]

    def close(self) -> None:
        for link in self._open.values():
            link.close()
        if self._routes:
            self._routes.close()
