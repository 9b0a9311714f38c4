"""Roles of nodes: endpoint, router, wire, NAT gateway, proxy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twlab import lab_kernel
from twlab.errors import CapabilityError
from twlab.linux import nftables, rtnetlink
from twlab.network.nodes import Interface, Node, Role


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

    def restore(self, interface: Interface) -> None:
        """Do nothing: the kernel has no address on `interface`."""

    def owned6(self) -> list[str]:
        return []


class Pod(Endpoint):
    """An endpoint where an application and its sidecar share one network namespace.

    Args:
        redirect: connections to port 80 of other nodes go to the sidecar's port, `SIDECAR_PORT` on
            the loopback address, unless they bear its mark, `SIDECAR_MARK`. Service meshes do so.
        tproxy: connections from other nodes to port 80 go to the sidecar's port, `INBOUND_PORT`,
            untranslated. The sidecar may connect to the application from their source addresses,
            with its mark: the answers then stay in the pod.
    """

    SIDECAR_PORT, INBOUND_PORT = 15001, 15006  # as Istio has them
    SIDECAR_MARK, TABLE = 1337, 133

    def __init__(self, name: str, redirect: bool = False, tproxy: bool = False, **params: Any):
        self.redirect, self.tproxy = redirect, tproxy
        super().__init__(name, **params)

    def requests(self) -> Iterator[rtnetlink.Message]:
        yield from super().requests()
        if self.tproxy:
            for family in (4, 6):
                yield from rtnetlink.local_if_marked(self.SIDECAR_MARK, self.TABLE, family)

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
        if self.tproxy:
            self.write_sysctl("net.ipv4.tcp_fwmark_accept", 1)  # what the application answers has the SYN's mark
            with self.inside():
                nftables.apply(f"""
                    table inet inbound {{
                        chain inward {{
                            type filter hook prerouting priority mangle;
                            iifname != "lo" tcp dport 80 tproxy to :{self.INBOUND_PORT}
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
        flowtable: connections that are established pass by its rules, in nftables' flow table.
    """

    role: Role = "gateway"

    def __init__(
        self,
        name: str,
        outside: str,
        ports: str = "",
        random_fully: bool = False,
        flowtable: bool = False,
        **params: Any,
    ):
        self.outside, self.flowtable = outside, flowtable
        self._range = f":{ports}" if ports else ""  # `ports` is an attribute of Mininet's nodes
        self._random = " fully-random" if random_fully else ""
        super().__init__(name, **params)

    def configure(self) -> None:
        super().configure()
        with self.inside():
            nftables.apply(self.ruleset())
            if self.flowtable:
                self._offload()

    def ruleset(self) -> str:
        """Return the gateway's nftables rules."""
        out = self.interface_to(self.outside).name
        translations = "\n".join(
            f'oifname "{out}" meta nfproto {family} meta l4proto {{ tcp, udp }} {how}'
            for family, how in self._translations().items()
        )
        return f"""
            table inet gateway {{
                chain translate {{
                    type nat hook postrouting priority srcnat;
                    {translations}
                    oifname "{out}" masquerade
                }}
                chain inward {{
                    type filter hook forward priority filter;
                    iifname "{out}" ct state established,related accept
                    iifname "{out}" meta l4proto {{ icmp, ipv6-icmp }} accept
                    iifname "{out}" drop
                }}
            }}"""

    def _translations(self) -> dict[str, str]:
        """Return how TCP and UDP are translated, by family."""
        interface = self.interface_to(self.outside)
        if len(interface.all4) == 1:
            how = "masquerade" + (f" to {self._range}" if self._range else "") + self._random
            return {"ipv4": how, "ipv6": how}
        return {
            "ipv4": f"snat ip to {interface.all4[0]}-{interface.all4[-1]}{self._range}{self._random}",
            "ipv6": f"snat ip6 to [{interface.all6[0]}]-[{interface.all6[-1]}]{self._range}{self._random}",
        }

    def _offload(self) -> None:
        devices = ", ".join(f'"{interface.name}"' for interface in self.interfaces)
        try:
            nftables.apply(f"""
                table inet gateway {{
                    flowtable fast {{ hook ingress priority filter; devices = {{ {devices} }}; }}
                    chain shortcut {{
                        type filter hook forward priority filter - 10;
                        meta l4proto tcp flow add @fast
                    }}
                }}""")
        except CapabilityError as error:
            message = f"this kernel has no flow tables: {error.message}"
            raise CapabilityError(message, lab_kernel.remedy(), "no-flow-table") from error
