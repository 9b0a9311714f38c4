"""Load balancers by route, IPVS or DNAT, and the servers behind them."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from typing import Any

from twlab import lab_kernel
from twlab.errors import CapabilityError, UsageError
from twlab.linux import ipvs, nftables, rtnetlink
from twlab.network.nodes import Role
from twlab.network.roles import Endpoint, Router

VIRTUAL = ("10.9.0.1", "fd00:0:9::1")  # the address that clients connect to, IPv4 and IPv6
PORT = 80  # of the balanced service
_TRACKING = """
    table inet balancer { chain track { type filter hook prerouting priority filter; ct state established accept; }; }
"""
# The devices by which a server takes packets out of tunnels, each with the module that makes it.
_TUNNELS = {"tunl0": "ipip", "ip6tnl0": "ip6_tunnel"}


class Crossroads(Router):
    """A router where the way to one address can be moved.

    Args:
        virtual: (IPv4, IPv6), that address.
        first: name of the neighbour that it leads to, to begin with.
    """

    def __init__(self, name: str, virtual: tuple[str, str], first: str, **params: Any):
        self.virtual, self.first = virtual, first
        super().__init__(name, **params)

    def configure(self) -> None:
        super().configure()
        self.point_at(self.first)

    def point_at(self, neighbour: str) -> None:
        """Send packets for the address to `neighbour` from now on.

        Raises UsageError if there is no link to it.
        """
        interface = self.interface_to(neighbour)
        ip4, ip6 = self.virtual
        with self.inside():
            rtnetlink.carry_out(
                [
                    rtnetlink.route(interface.index, ip4, 32, interface.peer.all4[0]),
                    rtnetlink.route(interface.index, ip6, 128, interface.peer.all6[0]),
                ]
            )


class VirtualAddress(Router):
    """A router that other nodes know by a virtual address.

    Args:
        virtual: (IPv4, IPv6), the virtual address, which is the node's main one.
    """

    virtual: tuple[str, str]

    @property
    def ip4(self) -> str:
        """The virtual address."""
        return self.virtual[0]

    @property
    def ip6(self) -> str:
        """The virtual address."""
        return self.virtual[1]


class Balancer(VirtualAddress, Crossroads):
    """A router with a virtual address in front of several servers.

    Each of them can answer for the address; `point_at` chooses.
    """


class ServerPool(VirtualAddress):
    """A router that spreads connections to a virtual address over servers.

    They connect to port 80 of the address. Servers can be weighted, removed and added at any time.

    Args:
        virtual: (IPv4, IPv6), the virtual address.
        servers: name to (IPv4, IPv6) of each server.
        weights: of the servers, in their order; further ones have weight 1.

    Attributes:
        weights: name of each server that is not removed, to its weight.
    """

    role: Role = "gateway"

    def __init__(
        self,
        name: str,
        virtual: tuple[str, str],
        servers: Mapping[str, tuple[str, str]],
        weights: tuple[int, ...] = (),
        **params: Any,
    ):
        self.virtual, self.servers = virtual, dict(servers)
        padded = (*weights, *(1 for _ in servers))
        self.weights = dict(zip(servers, padded, strict=False))
        super().__init__(name, **params)

    def weigh(self, server: str, weight: int) -> None:
        """Give `server` another weight; with 0 it gets no new connections."""
        self._known(server, here=True)
        self.weights[server] = weight
        self._update(server)

    def remove(self, server: str) -> None:
        """Remove `server` from the service."""
        self._known(server, here=True)
        del self.weights[server]
        self._update(server)

    def add(self, server: str, weight: int = 1) -> None:
        """Bring a server that was removed back."""
        self._known(server, here=False)
        self.weights[server] = weight
        self._update(server, new=True)

    def _update(self, server: str, new: bool = False) -> None:
        """Have the kernel do what `weights` says of `server`."""
        raise NotImplementedError

    def _known(self, server: str, here: bool) -> None:
        if (server in self.weights) is not here or server not in self.servers:
            remedy = f"it has: {', '.join(self.weights)}; of: {', '.join(self.servers)}"
            raise UsageError(f"{self.name} cannot do that to a server {server!r}", remedy, "no-such-server")


class IpvsBalancer(ServerPool):
    """A balancer by IPVS, as in kube-proxy's older mode, or under keepalived.

    It holds the virtual address itself. Connection tracking runs beside it, as on every node of a
    Kubernetes cluster; whether it uses that is a sysctl (the setting `ipvs_conntrack`).

    Args:
        scheduler: ``rr``, ``wrr``, ``lc``, ``sh`` or ``mh``.
        forwarding: ``masquerade``: servers answer through the balancer; ``direct``, ``tunnel``:
            they hold the virtual address, too, and answer clients themselves.
        persistent_s: how long a client stays with its server.
    """

    def __init__(
        self, name: str, scheduler: str = "rr", forwarding: str = "masquerade", persistent_s: int = 0, **params: Any
    ):
        self.scheduler, self.forwarding, self.persistent_s = scheduler, forwarding, persistent_s
        super().__init__(name, **params)

    def configure(self) -> None:
        super().configure()
        with self.inside():
            nftables.apply(_TRACKING)
            for service in self._services():
                ipvs.add_service(service, self.scheduler, self.persistent_s)
        for server in reversed(self.weights):  # the kernel puts each new one first, and the first serves first
            self._update(server, new=True)

    def requests(self) -> Iterator[rtnetlink.Message]:
        yield from super().requests()
        yield from _held(self.virtual)

    def owned6(self) -> list[str]:
        return [*super().owned6(), self.virtual[1]]

    def _services(self) -> list[ipvs.Service]:
        return [ipvs.Service(address, PORT) for address in self.virtual]

    def _update(self, server: str, new: bool = False) -> None:
        with self.inside():
            for service, address in zip(self._services(), self.servers[server], strict=True):
                if server in self.weights:
                    ipvs.set_server(service, address, self.weights[server], self.forwarding, new=new)
                else:
                    ipvs.remove_server(service, address)


class DnatBalancer(ServerPool):
    """A balancer by destination NAT, as in kube-proxy's other modes and many clouds.

    No machine holds the virtual address. A packet for it that is not translated is dropped. The
    balancer's own connections are translated, too, as those of a Kubernetes node are.

    Args:
        choice: ``rr``, ``random``, or ``hash``: of the client's address and port.
    """

    def __init__(self, name: str, choice: str = "rr", **params: Any):
        self.choice = choice
        super().__init__(name, **params)

    def configure(self) -> None:
        super().configure()
        ip4, ip6 = self.virtual
        own, inner = self.interfaces[0], self.interfaces[-1]
        with self.inside():
            # Translated or not, a connection of its own needs a route to begin with.
            rtnetlink.carry_out(
                rtnetlink.route(inner.index, ip, prefix, via)
                for ip, prefix, via in ((ip4, 32, inner.peer.all4[0]), (ip6, 128, inner.peer.all6[0]))
            )
            nftables.apply(f"""
                table inet balancer {{
                    chain choose {{ }}
                    chain pings {{
                        ip daddr {ip4} meta l4proto icmp dnat ip to {own.all4[0]}
                        ip6 daddr {ip6} meta l4proto ipv6-icmp dnat ip6 to {own.all6[0]}
                    }}
                    chain translate {{
                        type nat hook prerouting priority dstnat;
                        jump pings
                        jump choose
                    }}
                    chain own {{
                        type nat hook output priority -100;
                        jump pings
                        jump choose
                    }}
                    chain untranslated {{
                        type filter hook prerouting priority dstnat + 10;
                        ip daddr {ip4} drop
                        ip6 daddr {ip6} drop
                    }}
                }}""")
        self._update("")

    def _update(self, server: str, new: bool = False) -> None:
        with self.inside():
            nftables.apply("flush chain inet balancer choose\n" + self._rules())

    def _rules(self) -> str:
        """Return the rules that choose a server; each has a slot for each unit of its weight."""
        slots = [server for server, weight in self.weights.items() for _ in range(weight)]
        rules = []
        for family, at, address in (("ip", 0, self.virtual[0]), ("ip6", 1, self.virtual[1])):
            number = {
                "rr": "numgen inc",
                "random": "numgen random",
                "hash": f"jhash {family} saddr . tcp sport",
            }[self.choice] + f" mod {len(slots)}"
            number += " seed 0x7" if self.choice == "hash" else ""  # without it every balancer has a key of its own
            chosen = ", ".join(f"{slot} : {self.servers[server][at]}" for slot, server in enumerate(slots))
            to = f"{number} map {{ {chosen} }}" if len(slots) > 1 else "".join(self.servers[s][at] for s in slots)
            if slots:
                rule = f"{family} daddr {address} tcp dport {PORT} dnat {family} to {to}"
                rules.append(f"add rule inet balancer choose {rule}")
        return "\n".join(rules)


class VirtualServer(Endpoint):
    """A server behind a virtual address, which it has beside its main one.

    Args:
        virtual: (IPv4, IPv6), the virtual address.
        tunnel: it takes packets that come in tunnels, too: IPv4 in IPv4, IPv6 in IPv6.
    """

    def __init__(self, name: str, virtual: tuple[str, str], tunnel: bool = False, **params: Any):
        self.virtual, self.tunnel = virtual, tunnel
        super().__init__(name, **params)

    def requests(self) -> Iterator[rtnetlink.Message]:
        yield from super().requests()
        yield from _held(self.virtual)
        if self.tunnel:
            yield from map(rtnetlink.up, _tunnels())

    def owned6(self) -> list[str]:
        return [*super().owned6(), self.virtual[1]]


def _held(virtual: tuple[str, str]) -> Iterator[rtnetlink.Message]:
    """Yield the requests by which a node holds a virtual address."""
    for ip, prefix in zip(virtual, (32, 128), strict=True):
        yield rtnetlink.address(rtnetlink.LOOPBACK, ip, prefix)


def _tunnels() -> Iterator[int]:
    """Yield the indices of this namespace's tunnel devices.

    Raises:
        CapabilityError: the kernel has made none (``no-tunnel``).
    """
    for device, module in _TUNNELS.items():
        try:
            yield socket.if_nametoindex(device)
        except OSError as error:
            remedy = lab_kernel.or_guest(f"load the kernel's tunnels: modprobe {module}")
            raise CapabilityError(f"a server behind a tunnel needs {device}", remedy, "no-tunnel") from error
