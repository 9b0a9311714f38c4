"""One client, and two balancers by destination NAT for one virtual address.

                                  ┌── lb1 ──┐                ┌── s1
    client ──── wire ──── edge ───┤         ├──── inner ─────┤
                                  └── lb2 ──┘                └── s2

    client 10.0.1.1 ── 10.0.1.254 wire 10.1.1.254 ── 10.1.1.1 edge 10.3.N.254 ── 10.3.N.1 lbN
    lbN 10.4.N.1 ── 10.4.N.254 inner 10.2.N.254 ── 10.2.N.1 sN

The routers `edge` and `inner` lead all traffic through lb1 to begin with, in either direction.
``point_at("lb2")`` of both moves it at any time, as a router does when the number of balancers
changes. The address of `edge`, lb1 and lb2 is the virtual one, 10.9.0.1 and fd00:0:9::1.
"""

import sys

sys.path.append("")  # for the system's own mn, run from the folder that holds twlab

from twlab.network import VIRTUAL, Balancer, Crossroads, DnatBalancer, Endpoint, Topology, WireNode, bounded, one_of


class TwoBalancers(Topology):
    def build(self, servers: int = 2, choice: str = "rr", mtu: int = 1500) -> None:
        """Build the network.

        Args:
            servers: 1 to 64.
            choice: rr, random, or hash (of the client's address and port).
            mtu: of all links, in bytes (1280 to 65535).
        """
        bounded("mtu", mtu, 1280, 65535)
        numbers = range(1, bounded("servers", servers, 1, 64) + 1)
        self.addHost("client", cls=Endpoint)
        self.addHost("wire", cls=WireNode)
        self.addHost("edge", cls=Balancer, virtual=VIRTUAL, first="lb1")
        self.addHost("inner", cls=Crossroads, virtual=("10.0.1.1", "fd00:0:0:1::1"), first="lb1")
        self.join("client", "wire", "10.0.1.0/24", mtu=mtu)
        self.join("edge", "wire", "10.1.1.0/24", mtu=mtu)
        for n in (1, 2):
            self.addHost(
                f"lb{n}",
                cls=DnatBalancer,
                virtual=VIRTUAL,
                servers={f"s{m}": (f"10.2.{m}.1", f"fd00:0:2:{m}::1") for m in numbers},
                choice=one_of("choice", choice, ("rr", "random", "hash")),
            )
            self.join(f"lb{n}", "edge", f"10.3.{n}.0/24", mtu=mtu)
            self.join(f"lb{n}", "inner", f"10.4.{n}.0/24", mtu=mtu)
        for n in numbers:
            self.addHost(f"s{n}", cls=Endpoint)
            self.join(f"s{n}", "inner", f"10.2.{n}.0/24", mtu=mtu)


topos = {"two-balancers": TwoBalancers}
