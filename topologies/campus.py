"""Clients behind two NAT gateways, a proxy between two wires, and origin servers.

    c1 ──┬── nat1 ──┐                                       ┌── s1
    c2 ──┘          │                                       │
                    ├── wire ──────── proxy ──────── wire2 ─┤
    c3 ──┬── nat2 ──┘                                       │
    c4 ──┘                                                  └── s2

    cN 10.0.N.1 ── 10.0.N.254 nat1 10.1.1.1 ── 10.1.1.254 wire
    cN 10.0.N.1 ── 10.0.N.254 nat2 10.1.2.1 ── 10.1.2.254 wire
    wire 10.3.1.254 ── 10.3.1.1 proxy 10.3.2.1 ── 10.3.2.254 wire2 10.2.N.254 ── 10.2.N.1 sN

The first half of the clients is behind nat1, the second behind nat2. One server is called
``server``. The proxy's main address is 10.3.2.1, on the side of the origins; its clients reach it
at either. It forwards pings and nothing else.
"""

import sys

sys.path.append("")  # for the system's own mn, run from the folder that holds twlab

from twlab.network import Endpoint, Gateway, Proxy, Topology, WireNode, bounded, numbered


class Campus(Topology):
    def build(self, clients: int = 1, servers: int = 1, sources: int = 1, mtu: int = 1500) -> None:
        """Build the network.

        Args:
            clients: behind each gateway, 1 to 32.
            servers: 1 to 64.
            sources: addresses that the proxy connects from, 1 to 200.
            mtu: of all links, in bytes (1280 to 65535).
        """
        bounded("mtu", mtu, 1280, 65535)
        bounded("sources", sources, 1, 200)
        client_names = numbered("client", "c", 2 * bounded("clients", clients, 1, 32))
        server_names = numbered("server", "s", bounded("servers", servers, 1, 64))
        for name in client_names:
            self.addHost(name, cls=Endpoint)
        for gateway in ("nat1", "nat2"):
            self.addHost(gateway, cls=Gateway, outside="wire")
        self.addHost("wire", cls=WireNode)
        self.addHost("proxy", cls=Proxy)
        self.addHost("wire2", cls=WireNode)
        self.join("nat1", "wire", "10.1.1.0/24", mtu=mtu)
        self.join("nat2", "wire", "10.1.2.0/24", mtu=mtu)
        self.join("proxy", "wire2", "10.3.2.0/24", addresses=sources, mtu=mtu)
        self.join("proxy", "wire", "10.3.1.0/24", mtu=mtu)
        for number, name in enumerate(client_names, 1):
            self.join(name, "nat1" if number <= clients else "nat2", f"10.0.{number}.0/24", mtu=mtu)
        for number, name in enumerate(server_names, 1):
            self.addHost(name, cls=Endpoint)
            self.join(name, "wire2", f"10.2.{number}.0/24", mtu=mtu)


topos = {"campus": Campus}
