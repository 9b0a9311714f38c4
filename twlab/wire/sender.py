"""Puts IP packets onto a link, so that they arrive as if they had crossed it.

The AF_PACKET sockets are kept: a packet takes microseconds.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from twlab import lab_kernel
from twlab.errors import EngineError, ScenarioError
from twlab.linux import rtnetlink

if TYPE_CHECKING:
    from twlab.network import Interface, Node

_DISCARD_PORT = 9
ETHERTYPE_IPV4, ETHERTYPE_IPV6 = b"\x08\x00", b"\x86\xdd"


class LinkSender:
    """Sends packets to one interface, from the other end of its link.

    Attributes:
        target: the interface at which packets arrive.
    """

    def __init__(self, target: Interface):
        self.target = target
        self._addresses = bytes.fromhex((target.mac + target.peer.mac).replace(":", ""))
        self._socket = target.peer.node.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self._socket.bind((target.peer.name, 0))  # protocol 0: it receives nothing

    def send(self, packet: bytes) -> None:
        """Put one IPv4 or IPv6 packet onto the link.

        Raises:
            OSError: the packet is longer than the link's MTU, or the link is down.
        """
        self._socket.send(self._addresses + (ETHERTYPE_IPV4 if packet[0] >> 4 == 4 else ETHERTYPE_IPV6) + packet)

    def close(self) -> None:
        self._socket.close()


class PacketSender:
    """Sends packets from one node, and to any interface of its network.

    Each link's socket is opened on first use.
    """

    def __init__(self, node: Node):
        self._node = node
        self._open: dict[tuple[str, str], LinkSender] = {}
        self._by_index = {interface.index: interface for interface in node.interfaces}
        self._known: dict[str, LinkSender] = {}
        self._routes: socket.socket | None = None

    def to(self, destination: str) -> LinkSender:
        """Return the link by which the node would send to `destination` now.

        The kernel is asked for every packet: routes may change at any time.

        Raises:
            ScenarioError: the node has no route there (``no-route``).
        """
        if self._routes is None:
            self._routes = self._node.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        interface = self._by_index.get(rtnetlink.way_out(self._routes, destination))
        if interface is None:
            raise ScenarioError(
                f"{self._node.name} has no route to {destination}", "name the interface: into=...", "no-route"
            )
        return self.at(interface.peer)

    def confirmed(self, destination: str) -> LinkSender:
        """Return the link as `to` does, after a second opinion wherever it has changed.

        Raises:
            ScenarioError: the node has no route there (``no-route``).
            EngineError: the kernel's two answers differ (``sent-not-seen``).
        """
        link = self.to(destination)
        if self._known.get(destination) is not link:
            if not self.leads(link, destination):
                what = (
                    f"a packet of {self._node.name} for {destination} would leave towards {link.target.node.name}, "
                    "but the kernel's route is another"
                )
                raise EngineError(what, lab_kernel.or_guest("run it again"), "sent-not-seen")
            self._known[destination] = link
        return link

    def leads(self, link: LinkSender, destination: str) -> bool:
        """Return whether the node's TCP and UDP would take `link` to `destination`.

        This is a second opinion beside `to`.
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
        """Return the link to `interface`, from its other end."""
        key = (interface.node.name, interface.name)
        if key not in self._open:
            self._open[key] = LinkSender(interface)
        return self._open[key]

    def close(self) -> None:
        for link in self._open.values():
            link.close()
        if self._routes:
            self._routes.close()
