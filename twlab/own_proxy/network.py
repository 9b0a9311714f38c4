"""The network around a user's proxy, with the addresses that its file names.

    client ── proxy ── wire ── server

The links have addresses that hardly a configuration names (10.254.x). What it names is added: its
listeners and sources at the proxy, its origins at the server, or at the proxy where they are
loopback addresses or the proxy's own.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator
from ipaddress import IPv4Network

from twlab.linux import rtnetlink
from twlab.network import Endpoint, Network, Node, Proxy, Topology, WireNode
from twlab.network.nodes import ip6_of

SOURCES = 4  # addresses that the proxy has towards origins, the main one first
_TOWARDS_ORIGINS = "10.254.2.0/24"


class AroundProxy(Topology):
    """A client, a proxy, and one server behind a wire."""

    def build(self) -> None:
        """Build the network."""
        self.addHost("client", cls=Endpoint)
        self.addHost("proxy", cls=Proxy)
        self.addHost("wire", cls=WireNode)
        self.addHost("server", cls=Endpoint)
        self.join("proxy", "wire", _TOWARDS_ORIGINS, addresses=SOURCES)
        self.join("client", "proxy", "10.254.1.0/24")
        self.join("server", "wire", "10.254.3.0/24")


def sources_of(family: int) -> list[str]:
    """Return the proxy's addresses towards origins, of a family."""
    subnet = IPv4Network(_TOWARDS_ORIGINS)
    return [ip6_of(subnet, number) if family == 6 else str(subnet[number]) for number in range(1, SOURCES + 1)]


def family_of(address: str) -> int:
    """Return 6 or 4; of what is no address: 4."""
    return 6 if ":" in address else 4


def loopback(address: str) -> bool:
    """Return whether `address` is 127.0.0.0/8 or ::1."""
    return ipaddress.ip_address(address).is_loopback


def home_of(network: Network, address: str, own: Collection[str]) -> Node:
    """Return the node that has an origin's `address`, where the proxy has `own`."""
    return network["proxy" if loopback(address) or address in own else "server"]


def add_addresses(network: Network, own: Collection[str], origins: Collection[str]) -> None:
    """Give the proxy its `own` addresses, the server those of `origins`; add routes."""
    proxy, wire, server = network["proxy"], network["wire"], network["server"]
    for address in sorted(own):
        if not loopback(address):
            _carry_out(proxy, [rtnetlink.address(rtnetlink.LOOPBACK, address, _whole(address))])
            _carry_out(wire, _route(wire, "proxy", address))
    for address in sorted(set(origins) - set(own)):
        if not loopback(address):
            _carry_out(server, [rtnetlink.address(rtnetlink.LOOPBACK, address, _whole(address))])
            _carry_out(proxy, _route(proxy, "wire", address))
            _carry_out(wire, _route(wire, "server", address))


def add_client(network: Network, address: str) -> None:
    """Give the client an `address` beside its own, with a route."""
    client, proxy = network["client"], network["proxy"]
    _carry_out(client, [rtnetlink.address(rtnetlink.LOOPBACK, address, _whole(address))])
    _carry_out(proxy, _route(proxy, "client", address))


def _carry_out(node: Node, messages: list[rtnetlink.Message] | Iterator[rtnetlink.Message]) -> None:
    with node.inside():
        rtnetlink.carry_out(messages)


def _route(node: Node, towards: str, address: str) -> Iterator[rtnetlink.Message]:
    peer = node.interface_to(towards).peer
    via = peer.all6[0] if ":" in address else peer.all4[0]
    yield rtnetlink.route(node.interface_to(towards).index, address, _whole(address), via)


def _whole(address: str) -> int:
    return 128 if ":" in address else 32
