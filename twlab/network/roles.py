"""Roles of nodes: endpoint, router, wire, NAT gateway, proxy, balancer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twlab.linux import nftables, rtnetlink
from twlab.network.nodes import Node, Role


class Endpoint(Node):
    """A node where applications run; it forwards nothing."""


class UserStack(Endpoint):
    """An endpoint whose TCP stack is a program.

    The kernel has no address on its interface. The node is silent until a lab starts that program,
    see `twlab.stacks`. Mininet's own command starts none.

    Args:
        stack: which one, e.g. ``lwip``.
    """

    def __init__(self, name: str, stack: str, **params: Any):
        self.stack = stack
        super().__init__(name, **params)

    def requests(self) -> Iterator[rtnetlink.Message]:
        yield rtnetlink.up(rtnetlink.LOOPBACK)
        for interface in self.interfaces:
            yield rtnetlink.up(interface.index)

    def owned6(self) -> list[str]:
        return []


class Pod(Endpoint):
    """An endpoint where an application and its sidecar share one network namespace.

    Args:
        redirect: connections to port 80 of other nodes go to the sidecar's port, `SIDECAR_PORT` on
            the loopback address, unless they bear its mark, `SIDECAR_MARK`. Service meshes do so.
    """

    SIDECAR_PORT = 15001  # as Istio has it
    SIDECAR_MARK = 1337

    def __init__(self, name: str, redirect: bool = False, **params: Any):
        self.redirect = redirect
        super().__init__(name, **params)

    def configure(self) -> None:
        super().configure()
        if self.redirect:
            with self.inside():
                nftables.apply(f"""
                    table inet sidecar {{
                        chain outward {{
                            type nat hook output priority -100;
                            meta mark != {self.SIDECAR_MARK} tcp dport 80 redirect to :{self.SIDECAR_PORT}
                        }}
                    }}""")


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


class Balancer(Router):
    """A router with a virtual address in front of several servers.

    Each of them can answer for the address; `point_at` chooses.

    Args:
        virtual: (IPv4, IPv6), the virtual address.
        first: name of the server that it points at to begin with.
    """

    def __init__(self, name: str, virtual: tuple[str, str], first: str, **params: Any):
        self.virtual, self.first = virtual, first
        super().__init__(name, **params)

    @property
    def ip4(self) -> str:
        """The virtual address."""
        return self.virtual[0]

    @property
    def ip6(self) -> str:
        """The virtual address."""
        return self.virtual[1]

    def configure(self) -> None:
        super().configure()
        self.point_at(self.first)

    def point_at(self, server: str) -> None:
        """Send packets for the virtual address to `server` from now on.

        Raises UsageError if there is no link to it.
        """
        interface = self.interface_to(server)
        ip4, ip6 = self.virtual
        with self.inside():
            rtnetlink.carry_out(
                [
                    rtnetlink.route(interface.index, ip4, 32, interface.peer.all4[0]),
                    rtnetlink.route(interface.index, ip6, 128, interface.peer.all6[0]),
                ]
            )


class VirtualServer(Endpoint):
    """A server behind a virtual address, which it has beside its main one.

    Args:
        virtual: (IPv4, IPv6), the virtual address.
    """

    def __init__(self, name: str, virtual: tuple[str, str], **params: Any):
        self.virtual = virtual
        super().__init__(name, **params)

    def requests(self) -> Iterator[rtnetlink.Message]:
        yield from super().requests()
        for ip, prefix in zip(self.virtual, (32, 128), strict=True):
            yield rtnetlink.address(rtnetlink.LOOPBACK, ip, prefix)

    def owned6(self) -> list[str]:
        return [*super().owned6(), self.virtual[1]]
