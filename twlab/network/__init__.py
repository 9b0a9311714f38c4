"""The public interface for authors of topologies, and the networks made of them.

A topology file imports from here, and from nowhere else in twlab: `Topology`, the roles of nodes
(`Endpoint`, `Pod`, `UserStack`, `WireNode`, `Router`, `Gateway`, `Proxy`, `Balancer`,
`IpvsBalancer`, `DnatBalancer`, `Crossroads`, `VirtualServer`), and the checks of options
(`bounded`, `numbered`, `one_of`, `port_range`, `whole_numbers`, `endpoint_of`). These names stay.
`topologies/pair.py` is the shortest example.

- `topology`: `Topology`, a Mininet `Topo` with addresses and routes.
- `files`: finds and loads topologies by name or path.
- `nodes`, `roles`, `balancers`: what nodes are.
- `build`: `Network`, a topology that is built. It lives in namespaces without names, which the
  kernel frees with the last file descriptor to them, however the process ends.
"""

from twlab.network.balancers import VIRTUAL, Balancer, Crossroads, DnatBalancer, IpvsBalancer, VirtualServer
from twlab.network.build import Network
from twlab.network.files import load_topology, topology_names
from twlab.network.nodes import Interface, Node
from twlab.network.roles import Endpoint, Gateway, Pod, Proxy, Router, UserStack, WireNode
from twlab.network.topology import (
    Topology,
    bounded,
    describe,
    endpoint_of,
    numbered,
    one_of,
    port_range,
    whole_numbers,
)

__all__ = [
    "VIRTUAL", "Balancer", "Crossroads", "DnatBalancer", "Endpoint", "Gateway", "Interface", "IpvsBalancer", "Network",
    "Node", "Pod", "Proxy", "Router", "Topology", "UserStack", "VirtualServer", "WireNode", "bounded", "describe",
    "endpoint_of", "load_topology", "numbered", "one_of", "port_range", "topology_names", "whole_numbers",
]  # fmt: skip
