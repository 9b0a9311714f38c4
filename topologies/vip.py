"""One client, and one virtual address with several servers behind it.

The router `vip` decides which of them answers for it.

                                    ┌── s1
    client ──── wire ──── vip ──────┤
                                    └── s2

    client 10.0.1.1 ── 10.0.1.254 wire 10.1.1.254 ── 10.1.1.1 vip 10.2.N.254 ── 10.2.N.1 sN, all of them 10.9.0.1 too

The address of the node `vip` is the virtual one, 10.9.0.1 and fd00:0:9::1, which every server holds
beside its own. It points at s1 to begin with. ``point_at("s2")`` moves it at any time, as a load
balancer does.
"""

import sys

sys.path.append("")  # for the system's own mn, run from the folder that holds twlab

from twlab.network import Balancer, Endpoint, Topology, VirtualServer, WireNode, bounded


class Vip(Topology):
    def build(self, servers: int = 2, mtu: int = 1500) -> None:
        """Build the network.

        Args:
            servers: 2 to 64.
            mtu: of all links, in bytes (1280 to 65535).
        """
        bounded("mtu", mtu, 1280, 65535)
        bounded("servers", servers, 2, 64)
        virtual = ("10.9.0.1", "fd00:0:9::1")
        self.addHost("client", cls=Endpoint)
        self.addHost("wire", cls=WireNode)
        self.addHost("vip", cls=Balancer, virtual=virtual, first="s1")
        self.join("client", "wire", "10.0.1.0/24", mtu=mtu)
        self.join("vip", "wire", "10.1.1.0/24", mtu=mtu)
        for number in range(1, servers + 1):
            self.addHost(f"s{number}", cls=VirtualServer, virtual=virtual)
            self.join(f"s{number}", "vip", f"10.2.{number}.0/24", mtu=mtu)


topos = {"vip": Vip}
