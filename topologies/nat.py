"""Clients behind one NAT gateway, and a server outside: the wire is outside, too, and sees the gateway's address.

    client or                     nat ────────── wire ────────── server or
    c1 ────────────────────────── │                 ├─────────── s1
       10.0.1.1        10.0.1.254 │                 │ 10.2.1.254   10.2.1.1
    c2 ────────────────────────── │                 └─────────── s2
       10.0.2.1        10.0.2.254 │                   10.2.2.254   10.2.2.1
                           10.1.1.1 .. 10.1.1.254
"""

import sys

sys.path.append("")  # for the system's own mn, run from the folder that holds twlab

from twlab.network import Endpoint, Gateway, Topology, WireNode, bounded, numbered, port_range


class Nat(Topology):
    def build(self, clients: int = 1, servers: int = 1, ports: str = "", random_fully: int = 0, mtu: int = 1500) -> None:
        """clients: 1 to 64. servers: 1 to 64. ports: that the gateway translates to, e.g. 40000-40127. random_fully: 1 has it choose them at random.
        mtu: of all links, in bytes (1280 to 65535)."""
        bounded("mtu", mtu, 1280, 65535)
        client_names = numbered("client", "c", bounded("clients", clients, 1, 64))
        server_names = numbered("server", "s", bounded("servers", servers, 1, 64))
        for name in client_names:
            self.addHost(name, cls=Endpoint)
        random = bool(bounded("random_fully", random_fully, 0, 1))
        self.addHost("nat", cls=Gateway, outside="wire", ports=port_range("ports", ports), random_fully=random)
        self.addHost("wire", cls=WireNode)
        self.join("nat", "wire", "10.1.1.0/24", mtu=mtu)
        for number, name in enumerate(client_names, 1):
            self.join(name, "nat", f"10.0.{number}.0/24", mtu=mtu)
        for number, name in enumerate(server_names, 1):
            self.addHost(name, cls=Endpoint)
            self.join(name, "wire", f"10.2.{number}.0/24", mtu=mtu)


topos = {"nat": Nat}
