"""Clients behind one NAT gateway, and servers outside.

The wire is outside, too, where every client has the gateway's address.

    c1 ──┐                        ┌── s1
    c2 ──┼── nat ──────── wire ───┤
    c3 ──┘                        └── s2

    cN 10.0.N.1 ── 10.0.N.254 nat 10.1.1.1 ── 10.1.1.254 wire 10.2.N.254 ── 10.2.N.1 sN

One client is called ``client``, one server ``server``.
"""

import sys

sys.path.append("")  # for the system's own mn, run from the folder that holds twlab

from twlab.network import Endpoint, Gateway, Topology, WireNode, bounded, endpoint_of, numbered, port_range


class Nat(Topology):
    def build(
        self,
        clients: int = 1,
        servers: int = 1,
        ports: str = "",
        addresses: int = 1,
        random_fully: int = 0,
        flowtable: int = 0,
        server: str = "linux",
        mtu: int = 1500,
    ) -> None:
        """Build the network.

        Args:
            clients: 1 to 64.
            servers: 1 to 64.
            ports: the ports that the gateway translates to, e.g. 40000-40127.
            addresses: that the gateway translates to, 1 to 200.
            random_fully: 1 has the gateway choose ports at random.
            flowtable: 1 lets established connections pass by the gateway's rules, in a flow table.
            server: the servers' TCP stack: linux, the kernel's, or lwip or gvisor, which a lab
                starts.
            mtu: of all links, in bytes (1280 to 65535).
        """
        bounded("mtu", mtu, 1280, 65535)
        client_names = numbered("client", "c", bounded("clients", clients, 1, 64))
        server_names = numbered("server", "s", bounded("servers", servers, 1, 64))
        for name in client_names:
            self.addHost(name, cls=Endpoint)
        self.addHost(
            "nat",
            cls=Gateway,
            outside="wire",
            ports=port_range("ports", ports),
            random_fully=bool(bounded("random_fully", random_fully, 0, 1)),
            flowtable=bool(bounded("flowtable", flowtable, 0, 1)),
        )
        self.addHost("wire", cls=WireNode)
        self.join("nat", "wire", "10.1.1.0/24", addresses=bounded("addresses", addresses, 1, 200), mtu=mtu)
        for number, name in enumerate(client_names, 1):
            self.join(name, "nat", f"10.0.{number}.0/24", mtu=mtu)
        for number, name in enumerate(server_names, 1):
            self.addHost(name, **endpoint_of("server", server))
            self.join(name, "wire", f"10.2.{number}.0/24", mtu=mtu)


topos = {"nat": Nat}
