"""An application and its sidecar proxy in one pod, and a server outside.

    pod ───────────────────── wire ───────────────────── server
    10.0.1.1       10.0.1.254      10.2.1.254         10.2.1.1

Application and sidecar are programs of one node, ``pod``: they share its addresses, ports and
TIME_WAIT. With ``redirect=1`` the application's connections to port 80 go to the sidecar's port
15001 on the loopback address; those with the sidecar's mark, 1337, go out. With ``tproxy=1``
connections from outside to port 80 go to the sidecar's port 15006, untranslated.
"""

import sys

sys.path.append("")  # for the system's own mn, run from the folder that holds twlab

from twlab.network import Endpoint, Pod, Topology, WireNode, bounded


class Sidecar(Topology):
    def build(self, redirect: int = 0, tproxy: int = 0, sources: int = 1, callers: int = 1, mtu: int = 1500) -> None:
        """Build the network.

        Args:
            redirect: 1 has the pod's connections to port 80 redirected to the sidecar.
            tproxy: 1 has connections to the pod's port 80 handed to the sidecar.
            sources: addresses of the pod, 1 to 200.
            callers: addresses of the server, 1 to 200.
            mtu: of all links, in bytes (1280 to 65535).
        """
        bounded("mtu", mtu, 1280, 65535)
        bounded("sources", sources, 1, 200)
        bounded("callers", callers, 1, 200)
        self.addHost(
            "pod",
            cls=Pod,
            redirect=bool(bounded("redirect", redirect, 0, 1)),
            tproxy=bool(bounded("tproxy", tproxy, 0, 1)),
        )
        self.addHost("wire", cls=WireNode)
        self.addHost("server", cls=Endpoint)
        self.join("pod", "wire", "10.0.1.0/24", addresses=sources, mtu=mtu)
        self.join("server", "wire", "10.2.1.0/24", addresses=callers, mtu=mtu)


topos = {"sidecar": Sidecar}
