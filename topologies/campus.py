"""The whole picture: clients behind two NAT gateways, a proxy between two wires, and the origin servers that it asks.

    c1 ─┐
    ... ├─ nat1 ─┐                                       ┌─ server or s1
    cn ─┘        │                                       │     10.2.1.1
                 ├── wire ──────── proxy ─────── wire2 ──┤
    cn+1 ─┐      │                                       │
    ...   ├─ nat2 ┘                                      └─ s2
    c2n ─┘                                                     10.2.2.1

    c1        10.0.1.1   - nat1   10.0.1.254       c3  10.0.3.1 - nat2  10.0.3.254    (with clients=2 behind each gateway)
    nat1      10.1.1.1   - wire   10.1.1.254       nat2  10.1.2.1 - wire  10.1.2.254
    proxy     10.3.1.1   - wire   10.3.1.254       proxy 10.3.2.1 - wire2 10.3.2.254
    server    10.2.1.1   - wire2  10.2.1.254

The proxy's main address is 10.3.2.1, on the side of the origins; its clients reach it at either.
"""

import sys

sys.path.append("")  # for the system's own mn, run from the folder that holds twlab

from twlab.network import Endpoint, Gateway, Proxy, Topology, WireNode, bounded, numbered


class Campus(Topology):
    def build(self, clients: int = 1, servers: int = 1, sources: int = 1, mtu: int = 1500) -> None:
        """clients: behind each gateway, 1 to 32. servers: 1 to 64. sources: addresses that the proxy connects from, 1 to 200.
        mtu: of all links, in bytes (1280 to 65535)."""
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
