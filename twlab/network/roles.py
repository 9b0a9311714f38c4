"""Roles of nodes: endpoint, router, wire, NAT gateway, proxy."""

from __future__ import annotations

from typing import Any

from twlab.linux import nftables
from twlab.network.nodes import Node, Role


class Endpoint(Node):
    """A node where applications run; it forwards nothing."""


class Router(Node):
    """A node that forwards IPv4 and IPv6."""

    role: Role = "router"
    forwards = True


class WireNode(Router):
    """The wire: the router that every segment of interest crosses."""

    role: Role = "wire"


class Proxy(Endpoint):
    """An endpoint between two networks: connections end here, and others begin.

    It forwards pings only, so that a ``pingall`` reaches every node.
    """

    forwards = True

    def configure(self) -> None:
        super().configure()
        with self.inside():
            nftables.apply("""
                table inet proxy {
                    chain forward {
                        type filter hook forward priority filter;
                        meta l4proto != { icmp, ipv6-icmp } drop
                    }
                }""")


class Gateway(Router):
    """A NAT gateway: packets that leave towards `outside` carry its address there.

    IPv4 and IPv6 alike. From outside it lets in answers and pings only. Outside nodes have routes
    to the networks behind, as hosts on the Internet have a default route: a packet that they send
    there reaches the gateway, which drops it.

    Args:
        outside: name of the node on the outside.
        ports: source ports to translate to, e.g. ``40000-40127``; empty: the kernel keeps the
            client's port where it can.
        random_fully: choose source ports at random (nftables ``fully-random``).
    """

    role: Role = "gateway"

    def __init__(self, name: str, outside: str, ports: str = "", random_fully: bool = False, **params: Any):
        self.outside = outside
        self._masquerade = "masquerade" + (f" to :{ports}" if ports else "") + (" fully-random" if random_fully else "")
        super().__init__(name, **params)

    def configure(self) -> None:
        super().configure()
        with self.inside():
            nftables.apply(self.ruleset())

    def ruleset(self) -> str:
        """Return the gateway's nftables rules."""
        out = self.interface_to(self.outside).name
        return f"""
            table inet gateway {{
                chain translate {{
                    type nat hook postrouting priority srcnat;
                    oifname "{out}" meta l4proto {{ tcp, udp }} {self._masquerade}
                    oifname "{out}" masquerade
                }}
                chain inward {{
                    type filter hook forward priority filter;
                    iifname "{out}" ct state established,related accept
                    iifname "{out}" meta l4proto {{ icmp, ipv6-icmp }} accept
                    iifname "{out}" drop
                }}
            }}"""
