"""One client, one server, and the wire between them.

    client ───────────────────── wire ───────────────────── server
    10.0.1.1          10.0.1.254      10.2.1.254          10.2.1.1

IPv6 alike: 10.2.1.254 goes with fd00:0:2:1::254. MAC addresses show the IPv4 address:
02:00:0a:02:01:fe.
"""

import sys

sys.path.append("")  # for the system's own mn, run from the folder that holds twlab

from twlab.network import Topology, WireNode, bounded, endpoint_of


class Pair(Topology):
    def build(self, mtu: int = 1500, client: str = "linux", server: str = "linux") -> None:
        """Build the network.

        Args:
            mtu: of all links, in bytes (1280 to 65535).
            client, server: their TCP stacks: linux, the kernel's, or lwip or gvisor, which a lab starts.
        """
        bounded("mtu", mtu, 1280, 65535)
        self.addHost("client", **endpoint_of("client", client))
        self.addHost("wire", cls=WireNode)
        self.addHost("server", **endpoint_of("server", server))
        self.join("client", "wire", "10.0.1.0/24", mtu=mtu)
        self.join("server", "wire", "10.2.1.0/24", mtu=mtu)


topos = {"pair": Pair}
