"""One client, and a virtual address that IPVS spreads over several servers.

                                         ┌── s1
    client ──── wire ──── balancer ──────┤
                                         └── s2

    client 10.0.1.1 ── 10.0.1.254 wire 10.1.1.254 ── 10.1.1.1 balancer 10.2.N.254 ── 10.2.N.1 sN

IPVS is IP Virtual Server, a part of Linux. The address of the node `balancer` is the virtual one,
10.9.0.1 and fd00:0:9::1; port 80 of it is balanced. With ``forwarding=direct`` and
``forwarding=tunnel`` every server holds that address, too, and has a second link by which it
answers clients, sN 10.4.N.1 ── 10.4.N.254 wire. In Python, ``weigh("s1", 0)``, ``remove("s1")`` and
``add("s1")`` of the node `balancer` change the pool.
"""

import sys

sys.path.append("")  # for the system's own mn, run from the folder that holds twlab

from twlab.network import (
    VIRTUAL,
    Endpoint,
    IpvsBalancer,
    Topology,
    VirtualServer,
    WireNode,
    bounded,
    one_of,
    whole_numbers,
)


class Ipvs(Topology):
    def build(
        self,
        servers: int = 2,
        scheduler: str = "rr",
        weights: str = "",
        forwarding: str = "masquerade",
        persistent_s: int = 0,
        mtu: int = 1500,
    ) -> None:
        """Build the network.

        Args:
            servers: 1 to 64.
            scheduler: rr, wrr, lc, sh or mh.
            weights: of the servers in their order, e.g. 1-0; 1 by default.
            forwarding: masquerade, direct, or tunnel (IPv4 in IPv4, IPv6 in IPv6).
            persistent_s: seconds that a client stays with its server, 0 to 86400; 0: it does not.
            mtu: of all links, in bytes (1280 to 65535).
        """
        bounded("mtu", mtu, 1280, 65535)
        past = one_of("forwarding", forwarding, ("masquerade", "direct", "tunnel")) != "masquerade"
        names = [f"s{number}" for number in range(1, bounded("servers", servers, 1, 64) + 1)]
        self.addHost("client", cls=Endpoint)
        self.addHost("wire", cls=WireNode)
        self.addHost(
            "balancer",
            cls=IpvsBalancer,
            virtual=VIRTUAL,
            servers={f"s{n}": (f"10.2.{n}.1", f"fd00:0:2:{n}::1") for n in range(1, servers + 1)},
            weights=whole_numbers("weights", weights, 65535),
            scheduler=one_of("scheduler", scheduler, ("rr", "wrr", "lc", "sh", "mh")),
            forwarding=forwarding,
            persistent_s=bounded("persistent_s", persistent_s, 0, 86_400),
        )
        self.join("client", "wire", "10.0.1.0/24", mtu=mtu)
        self.join("balancer", "wire", "10.1.1.0/24", mtu=mtu)
        for number, name in enumerate(names, 1):
            if past:
                self.addHost(name, cls=VirtualServer, virtual=VIRTUAL, tunnel=forwarding == "tunnel")
            else:
                self.addHost(name, cls=Endpoint)
            self.join(name, "balancer", f"10.2.{number}.0/24", mtu=mtu)
            if past:
                self.join(name, "wire", f"10.4.{number}.0/24", mtu=mtu)


topos = {"ipvs": Ipvs}
