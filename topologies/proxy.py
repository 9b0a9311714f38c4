"""Clients, a proxy, and its origin servers; the wire is before the origins.

    c1 ──┐                          ┌── s1
    c2 ──┼── proxy ──────── wire ───┤
    c3 ──┘                          └── s2

    cN 10.0.N.1 ── 10.0.N.254 proxy 10.3.2.1 ── 10.3.2.254 wire 10.2.N.254 ── 10.2.N.1 sN

One client is called ``client``, one server ``server``. The proxy's main address is 10.3.2.1, on the
side of the origins; with ``sources=4`` it has 10.3.2.1 to 10.3.2.4 there. It forwards pings and
nothing else.
"""

import sys

sys.path.append("")  # for the system's own mn, run from the folder that holds twlab

from twlab.network import Endpoint, Proxy, Topology, WireNode, bounded, numbered


class ProxyAndOrigins(Topology):
    def build(self, clients: int = 1, servers: int = 1, sources: int = 1, mtu: int = 1500) -> None:
        """Build the network.

        Args:
            clients: 1 to 64.
            servers: 1 to 64.
            sources: addresses that the proxy connects from, 1 to 200.
            mtu: of all links, in bytes (1280 to 65535).
        """
        bounded("mtu", mtu, 1280, 65535)
        bounded("sources", sources, 1, 200)
        client_names = numbered("client", "c", bounded("clients", clients, 1, 64))
        server_names = numbered("server", "s", bounded("servers", servers, 1, 64))
        for name in client_names:
            self.addHost(name, cls=Endpoint)
        self.addHost("proxy", cls=Proxy)
        self.addHost("wire", cls=WireNode)
        self.join("proxy", "wire", "10.3.2.0/24", addresses=sources, mtu=mtu)
        for number, name in enumerate(client_names, 1):
            self.join(name, "proxy", f"10.0.{number}.0/24", mtu=mtu)
        for number, name in enumerate(server_names, 1):
            self.addHost(name, cls=Endpoint)
            self.join(name, "wire", f"10.2.{number}.0/24", mtu=mtu)


topos = {"proxy": ProxyAndOrigins}
