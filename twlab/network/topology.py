"""Topologies as their authors write them: nodes, links with addresses, routes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network
from typing import Any

from mininet.topo import Topo

from twlab.errors import UsageError
from twlab.network.balancers import VirtualAddress
from twlab.network.nodes import Node, Veth, ip6_of
from twlab.network.roles import Endpoint, UserStack
from twlab.numerals import is_whole

_LONGEST_NAME = 15  # of an interface, IFNAMSIZ - 1
_MOST_ADDRESSES = 253  # at one end of a link: host 254 is the other end


class Topology(Topo):
    """A Mininet `Topo` with fixed addresses on its links, and routes on its nodes.

    Subclasses write `build`:

    class Pair(Topology): def build(self, mtu: int = 1500) -> None: self.addHost("client",
    cls=Endpoint) self.addHost("wire", cls=WireNode) self.addHost("server", cls=Endpoint)
    self.join("client", "wire", "10.0.1.0/24", mtu=mtu) self.join("server", "wire", "10.2.1.0/24",
    mtu=mtu)

    Options of the topology are `build`'s arguments; they arrive as numbers or text.
    """

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        for name, node in self.g.node.items():
            if not issubclass(node.get("cls") or object, Node):
                raise broken_topology(
                    f"node {name} of the topology is not one of the lab's", "add nodes with cls=Endpoint, WireNode, ..."
                )
        for name in self.g.nodes():
            self.g.node[name]["routes"] = list(self._routes(name))

    def join(self, one: str, other: str, subnet: str, *, addresses: int = 1, mtu: int = 1500) -> None:
        """Link `one`, host 1 of `subnet`, with `other`, host 254.

        IPv6 follows: 10.2.1.0/24 goes with fd00:0:2:1::/64.

        Args:
            one, other: node names.
            subnet: an IPv4 network of 256 addresses inside 10.0.0.0/8 that no other link has.
            addresses: number of addresses of `one`: hosts 1, 2, ...
            mtu: in bytes.

        Raises:
            UsageError: one of the two nodes is missing, they are linked already, the subnet is not
                of that kind or has another link, it has too few addresses, or the two names
                together are too long for an interface (``broken-topology-file``).
        """
        name = f"{one}-{other}"
        if unknown := [node for node in (one, other) if node not in self.g.node]:
            raise broken_topology(
                f"{name} links {unknown[0]}, which the topology does not have",
                f'first: self.addHost("{unknown[0]}", cls=Endpoint)',
            )
        if other in self.g.edge.get(one, {}):
            raise broken_topology(f"{one} and {other} are linked twice", "leave out one of the two links")
        if not _is_subnet(subnet):
            raise broken_topology(
                f"{subnet} is not a network of 256 addresses inside 10.0.0.0/8",
                f'for example: self.join("{one}", "{other}", "10.0.1.0/24")',
            )
        if subnet in (link["subnet"] for _, _, link in self.iterLinks(withInfo=True)):
            raise broken_topology(f"two links have the subnet {subnet}", "give each link another subnet")
        if not 1 <= addresses <= _MOST_ADDRESSES:
            raise broken_topology(
                f"{one} cannot have {addresses} addresses in {subnet}", f"it can have from 1 to {_MOST_ADDRESSES}"
            )
        if len(name) > _LONGEST_NAME:
            raise broken_topology(
                f"the interface {name} would have a name of more than {_LONGEST_NAME} characters",
                "give the nodes shorter names",
            )
        self.addLink(one, other, cls=Veth, subnet=subnet, hosts1=range(1, 1 + addresses), mtu=mtu)

    def _routes(self, start: str) -> Iterator[tuple[str, int, str]]:
        """Yield (destination, prefix length, next node) for `start`.

        That is a default route if `start` is a host with one link, else a route to each network
        that it is not in.
        """
        ways = list(self.g.edge.get(start, {}))
        if len(ways) == 1 and not self._node(start)["cls"].forwards:
            yield from (("0.0.0.0", 0, ways[0]), ("::", 0, ways[0]))
            return
        known = set(self._subnets(start))
        for name, first in self._first_hops(start).items():
            for subnet in self._subnets(name):
                if subnet not in known:
                    known.add(subnet)
                    network = IPv4Network(subnet)
                    yield from (
                        (str(network.network_address), network.prefixlen, first),
                        (ip6_of(network, 0), 64, first),
                    )
            if issubclass(self._node(name)["cls"], VirtualAddress):
                ip4, ip6 = self._node(name)["virtual"]
                yield from ((ip4, 32, first), (ip6, 128, first))

    def _first_hops(self, start: str) -> dict[str, str]:
        """Map each node that `start` reaches to the neighbour that leads there.

        The nearest comes first.
        """
        firsts = {way: way for way in self.g.edge.get(start, {})}
        waiting = deque(firsts)
        while waiting:
            name = waiting.popleft()
            if self._node(name)["cls"].forwards:
                for beyond in self.g.edge[name]:
                    if beyond != start and beyond not in firsts:
                        firsts[beyond] = firsts[name]
                        waiting.append(beyond)
        return firsts

    def _node(self, name: str) -> dict[str, Any]:
        return self.g.node[name]

    def _subnets(self, name: str) -> list[str]:
        return [link["subnet"] for links in self.g.edge.get(name, {}).values() for link in links.values()]


def describe(topology: Topo) -> dict[str, Any]:
    """Describe a topology for a drawing.

    ``nodes`` maps name to role; ``links`` are pairs of names.
    """
    nodes = {name: topology.nodeInfo(name)["cls"].role for name in topology.nodes()}
    return {"nodes": nodes, "links": [list(link) for link in topology.links()]}


def bounded(name: str, value: object, low: int, high: int) -> int:
    """Return `value` if it is a whole number from `low` to `high`.

    `name` is the topology's option.

    Raises:
        UsageError: it is not (``bad-topology-option``).
    """
    if not isinstance(value, int) or not low <= value <= high:
        raise UsageError(
            f"{name}={value} is not possible in a topology",
            f"{name} is a whole number from {low} to {high}",
            "bad-topology-option",
        )
    return value


def numbered(single: str, short: str, count: int) -> list[str]:
    """Return node names: ``["client"]`` for one, ``["c1", "c2", ...]`` for more."""
    return [single] if count == 1 else [f"{short}{number}" for number in range(1, count + 1)]


def port_range(name: str, value: object) -> str:
    """Return `value` as text if it is a range of ports like ``40000-40127``.

    One port, or an empty text, passes too. `name` is the topology's option.

    Raises:
        UsageError: it is not (``bad-topology-option``).
    """
    low, _, high = str(value).partition("-")
    if value != "" and not (is_whole(low) and is_whole(high or low) and 1 <= int(low) <= int(high or low) <= 65535):
        remedy = f"{name} is a range of ports, e.g. {name}=40000-40127"
        raise UsageError(f"{name}={value} is not possible in a topology", remedy, "bad-topology-option")
    return str(value)


def one_of(name: str, value: object, choices: Sequence[str]) -> str:
    """Return `value` if it is one of `choices`; `name` is the topology's option.

    Raises:
        UsageError: it is not (``bad-topology-option``).
    """
    if value not in choices:
        remedy = f"{name} is one of: {', '.join(choices)}"
        raise UsageError(f"{name}={value} is not possible in a topology", remedy, "bad-topology-option")
    return str(value)


def whole_numbers(name: str, value: object, high: int) -> tuple[int, ...]:
    """Return the numbers of a text like ``1-0-3``, each from 0 to `high`.

    An empty text has no numbers.

    A comma would begin the topology's next option.

    Raises:
        UsageError: it is not such a text (``bad-topology-option``).
    """
    parts = str(value).split("-") if value != "" else []
    if not all(is_whole(part) and int(part) <= high for part in parts):
        remedy = f"{name} is a number from 0 to {high} for each, e.g. {name}=1-0"
        raise UsageError(f"{name}={value} is not possible in a topology", remedy, "bad-topology-option")
    return tuple(map(int, parts))


def endpoint_of(name: str, value: object) -> dict[str, Any]:
    """Return the options of `addHost` for an endpoint with the TCP stack `value`.

    That is ``linux``, the kernel's, ``lwip`` or ``gvisor``. `name` is the topology's option.

    Raises:
        UsageError: there is no such stack (``bad-topology-option``).
    """
    if value == "linux":
        return {"cls": Endpoint}
    if value in ("lwip", "gvisor"):
        return {"cls": UserStack, "stack": value}
    remedy = f"{name} is a TCP stack: linux, lwip or gvisor"
    raise UsageError(f"{name}={value} is not possible in a topology", remedy, "bad-topology-option")


def broken_topology(message: str, remedy: str) -> UsageError:
    """Make the error for a topology that cannot be built (``broken-topology-file``)."""
    return UsageError(message, remedy, "broken-topology-file")


def _is_subnet(text: str) -> bool:
    try:
        network = IPv4Network(text)
    except ValueError:
        return False
    return network.prefixlen == 24 and network.network_address.packed[0] == 10
