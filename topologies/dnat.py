"""One client, and a virtual address that DNAT spreads over several servers.

                                         ┌── s1
    client ──── wire ──── balancer ──────┤
                                         └── s2

    client 10.0.1.1 ── 10.0.1.254 wire 10.1.1.254 ── 10.1.1.1 balancer 10.2.N.254 ── 10.2.N.1 sN

The address of the node `balancer` is the virtual one, 10.9.0.1 and fd00:0:9::1, which no machine
holds; port 80 of it is translated. In Python, ``weigh("s1", 0)``, ``remove("s1")`` and
``add("s1")`` of the node `balancer` change the pool.
"""

import sys

sys.path.append("")  # for the system's own mn, run from the folder that holds twlab

from twlab.network import VIRTUAL, DnatBalancer, Endpoint, Topology, WireNode, bounded, one_of, whole_numbers


class Dnat(Topology):
    def build(self, servers: int = 2, choice: str = "rr", weights: str = "", mtu: int = 1500) -> None:
        """Build the network.

        Args:
            servers: 1 to 64.
            choice: rr, random, or hash (of the client's address and port).
            weights: of the servers in their order, 0 to 100, e.g. 1-0; 1 by default.
            mtu: of all links, in bytes (1280 to 65535).
        """
        bounded("mtu", mtu, 1280, 65535)
        numbers = range(1, bounded("servers", servers, 1, 64) + 1)
        self.addHost("client", cls=Endpoint)
        self.addHost("wire", cls=WireNode)
        self.addHost(
            "balancer",
            cls=DnatBalancer,
            virtual=VIRTUAL,
            servers={f"s{n}": (f"10.2.{n}.1", f"fd00:0:2:{n}::1") for n in numbers},
            weights=whole_numbers("weights", weights, 100),
            choice=one_of("choice", choice, ("rr", "random", "hash")),
        )
        self.join("client", "wire", "10.0.1.0/24", mtu=mtu)
        self.join("balancer", "wire", "10.1.1.0/24", mtu=mtu)
        for n in numbers:
            self.addHost(f"s{n}", cls=Endpoint)
            self.join(f"s{n}", "balancer", f"10.2.{n}.0/24", mtu=mtu)


topos = {"dnat": Dnat}
