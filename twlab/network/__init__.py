"""Topologies, and the networks made of them: in-process, over netlink, nothing on the machine
touched.

A topology is a Mininet `Topo` (files in `topologies/`, or your own); a `Network` is a topology
built, in namespaces without names that the kernel frees with the last file descriptor to them,
however the process ends.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections import deque
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from mininet.topo import Topo

from twlab import paths, user_file
from twlab.errors import CapabilityError, UsageError, did_you_mean
from twlab.linux import rtnetlink
from twlab.linux.syscalls import new_network_namespace
from twlab.network.nodes import Interface, Node, Veth, ip6_of
from twlab.network.roles import Balancer, Endpoint, Gateway, Proxy, Router, VirtualServer, WireNode
from twlab.numerals import is_whole

__all__ = [
    "Balancer", "Endpoint", "Gateway", "Interface", "Network", "Node", "Proxy", "Router", "Topology", "VirtualServer", "WireNode",
    "bounded", "describe", "load_topology", "numbered", "port_range", "topology_names",
]  # fmt: skip

_FOLDER = paths.TOPOLOGIES
_LONGEST_NAME = 15  # of an interface, IFNAMSIZ - 1
_MOST_ADDRESSES = 253  # at one end of a link: host 254 is the other end


class Topology(Topo):
    """A Mininet `Topo` whose links have fixed addresses and whose nodes know their routes.
    Subclasses write `build`:

        class Pair(Topology):
            def build(self, mtu: int = 1500) -> None:
                self.addHost("client", cls=Endpoint)
                self.addHost("wire", cls=WireNode)
                self.addHost("server", cls=Endpoint)
                self.join("client", "wire", "10.0.1.0/24", mtu=mtu)
                self.join("server", "wire", "10.2.1.0/24", mtu=mtu)

    Options of the topology are `build`'s arguments; they arrive as numbers or text.
    """

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        for name, node in self.g.node.items():
            if not issubclass(node.get("cls") or object, Node):
                raise _broken(
                    f"node {name} of the topology is none of the lab's", "add nodes with cls=Endpoint, WireNode, ..."
                )
        for name in self.g.nodes():
            self.g.node[name]["routes"] = list(self._routes(name))

    def join(self, one: str, other: str, subnet: str, *, addresses: int = 1, mtu: int = 1500) -> None:
        """Link `one`, host 1 of `subnet`, with `other`, host 254. IPv6 alike: 10.2.1.0/24 goes with
        fd00:0:2:1::/64.

        Args:
            one, other: node names.
            subnet: an IPv4 network of 256 addresses, inside 10.0.0.0/8, of its own.
            addresses: how many addresses `one` has: hosts 1, 2, ...
            mtu: in bytes.

        Raises:
            UsageError: one of the two is not there, they are linked already, the subnet is none of
                that kind or in use, there is no room for so many addresses, or the two names
                together are too long for an interface's (``broken-topology-file``).
        """
        name = f"{one}-{other}"
        if unknown := [node for node in (one, other) if node not in self.g.node]:
            raise _broken(
                f"{name} links {unknown[0]}, which the topology does not have",
                f'first: self.addHost("{unknown[0]}", cls=Endpoint)',
            )
        if other in self.g.edge.get(one, {}):
            raise _broken(f"{one} and {other} are linked twice", "one link between two nodes is all there can be")
        if not _is_subnet(subnet):
            raise _broken(
                f"{subnet} is no network of 256 addresses inside 10.0.0.0/8",
                f'for example: self.join("{one}", "{other}", "10.0.1.0/24")',
            )
        if subnet in (link["subnet"] for _, _, link in self.iterLinks(withInfo=True)):
            raise _broken(f"two links have the subnet {subnet}", "give each link a subnet of its own")
        if not 1 <= addresses <= _MOST_ADDRESSES:
            raise _broken(
                f"{one} cannot have {addresses} addresses in {subnet}", f"it can have from 1 to {_MOST_ADDRESSES}"
            )
        if len(name) > _LONGEST_NAME:
            raise _broken(
                f"the interface {name} would have a name of more than {_LONGEST_NAME} characters",
                "give the nodes shorter names",
            )
        self.addLink(one, other, cls=Veth, subnet=subnet, hosts1=range(1, 1 + addresses), mtu=mtu)

    def _routes(self, start: str) -> Iterator[tuple[str, int, str]]:
        """(destination, prefix length, next node) for `start`: a default route where there is one
        way out, else one to each network it is not in.
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
            if issubclass(self._node(name)["cls"], Balancer):
                ip4, ip6 = self._node(name)["virtual"]
                yield from ((ip4, 32, first), (ip6, 128, first))

    def _first_hops(self, start: str) -> dict[str, str]:
        """Each node that `start` reaches, nearest first, and which neighbour of `start` leads
        there.
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


class Network:
    """A topology, built. A context manager: it builds on entering, and on leaving lets go of
    everything.

    Args:
        topology: made of the nodes of `twlab.network.nodes` and links of `Topology.join`.

    Attributes:
        nodes: name to node, in the topology's order. `network["client"]` is one of them; iterating
            gives the nodes.

    Raises:
        CapabilityError: this user may not make network namespaces here, or the kernel lacks veth or
            nftables.
    """

    def __init__(self, topology: Topo):
        self.topology = topology
        self.nodes: dict[str, Node] = {}

    def __enter__(self) -> Network:
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    def close(self) -> None:
        """Let go of every namespace; the kernel removes what was in them, a moment later. May be
        called again.
        """
        for node in self:
            node.close()

    def _build(self) -> None:
        graph = self.topology.g
        for name in graph.nodes():
            options = dict(graph.node[name])
            make = options.pop("cls")
            namespace = _namespace()
            try:
                self.nodes[name] = make(name, namespace=namespace, **options)
            except BaseException:
                os.close(namespace)
                raise
        links = []
        for one, other, options in self.topology.iterLinks(withInfo=True):
            options = {key: value for key, value in options.items() if key not in ("node1", "node2", "cls")}
            links.append(Veth(self.nodes[one], self.nodes[other], now=False, **options))
        rtnetlink.carry_out(link.request() for link in links)
        for node in self:
            node.configure()
        for node in self:
            node.wait_ready()


def load_topology(text: str) -> Topology:
    """A topology by its name, or the path of a file that holds one, with options as Mininet writes
    them: ``nat,clients=2``, ``my/net.py,mtu=9000``.

    A file of several topologies is asked for one as ``my/net.py:second``.

    Raises:
        UsageError: no topology of that name (``no-such-topology``), a file that cannot be loaded or
            holds none (``broken-topology-file``), or an option that it does not take
            (``bad-topology-option``).
    """
    place, *options = text.split(",")
    name, _, wanted = place.partition(":")
    if name.endswith(".py"):
        path = Path(name)
    elif name in topology_names():
        path, wanted = _FOLDER / f"{name}.py", name
    else:
        message = f"there is no topology called {name!r}{did_you_mean(name, topology_names())}"
        remedy = f"the topologies are: {', '.join(topology_names())}; or give the path of a .py file"
        raise UsageError(message, remedy, "no-such-topology")
    known = _load_file(path)
    if wanted and wanted not in known:
        near = did_you_mean(wanted, known)
        raise UsageError(
            f"{path} holds no topology called {wanted!r}{near}", f"it holds: {', '.join(known)}", "no-such-topology"
        )
    return _make(known[wanted or next(iter(known))], place, options)


def describe(topology: Topo) -> dict[str, Any]:
    """Describe a topology for a drawing: ``nodes``, name to role, and ``links``, pairs of names."""
    nodes = {name: topology.nodeInfo(name)["cls"].role for name in topology.nodes()}
    return {"nodes": nodes, "links": [list(link) for link in topology.links()]}


def topology_names() -> list[str]:
    """The topologies that come with twlab."""
    return sorted(path.stem for path in _FOLDER.glob("[!_]*.py"))


def bounded(name: str, value: object, low: int, high: int) -> int:
    """`value` of the topology option `name`, which must be a whole number from `low` to `high`.

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
    """Node names: ``["client"]`` where there is one, ``["c1", "c2", ...]`` where there are more."""
    return [single] if count == 1 else [f"{short}{number}" for number in range(1, count + 1)]


def port_range(name: str, value: object) -> str:
    """`value` of the topology option `name`, which must be a range of ports like ``40000-40127``,
    one port, or empty.

    Raises:
        UsageError: it is not (``bad-topology-option``).
    """
    low, _, high = str(value).partition("-")
    if value != "" and not (is_whole(low) and is_whole(high or low) and 1 <= int(low) <= int(high or low) <= 65535):
        remedy = f"{name} is a range of ports, e.g. {name}=40000-40127"
        raise UsageError(f"{name}={value} is not possible in a topology", remedy, "bad-topology-option")
    return str(value)


def _load_file(path: Path) -> dict[str, type[Topo]]:
    if not path.is_file():
        raise UsageError(
            f"there is no file {path}",
            f"the topologies that come with twlab are: {', '.join(topology_names())}",
            "no-such-topology",
        )
    search = list(sys.path)  # the file may add to it, for the sake of mn
    try:
        module = user_file.load(path, f"topology_{path.stem}", "broken-topology-file")
    finally:
        sys.path[:] = search
    known = getattr(module, "topos", None)
    if not isinstance(known, dict) or not known:
        raise _broken(f"{path} holds no topology", "end the file with: topos = {'mine': Mine}")
    return known


def _make(kind: type[Topo], place: str, options: list[str]) -> Topology:
    takes = {
        name: p.default for name, p in inspect.signature(kind.build).parameters.items() if p.default is not p.empty
    }
    given = {}
    for option in options:
        name, sign, value = option.partition("=")
        if not sign or name not in takes:
            remedy = "its options and their defaults are: " + (
                ", ".join(f"{name}={default}" for name, default in takes.items()) or "none"
            )
            raise UsageError(f"{place} does not take the option {option!r}", remedy, "bad-topology-option")
        given[name] = int(value) if is_whole(value) else value
    try:
        made = kind(**given)
    except UsageError:
        raise
    except (Exception, SystemExit) as error:  # whatever a user's build may raise
        raise _broken(
            f"{place} cannot be built: {type(error).__name__}: {error}", "run the file with python3 to see where"
        ) from error
    if fault := _fault(made):
        raise _broken(f"the lab cannot build {place}: {fault}", "see topologies/pair.py for how one is made")
    return made


def _fault(topology: Topo) -> str:
    """What keeps the lab from building it; empty when nothing does."""
    if not isinstance(topology, Topology):
        return "it is not made from twlab.network.Topology"
    if not topology.g.node:
        return "it has no nodes"
    for name, options in topology.g.node.items():
        if not topology.g.edge.get(name):
            return f"its node {name} has no link"
        try:
            inspect.signature(options["cls"]).bind(
                name, **{key: value for key, value in options.items() if key != "cls"}
            )
        except TypeError as error:
            return f"its node {name}, a {options['cls'].__name__}, has {error}"
    return ""


def _broken(message: str, remedy: str) -> UsageError:
    return UsageError(message, remedy, "broken-topology-file")


def _is_subnet(text: str) -> bool:
    try:
        network = IPv4Network(text)
    except ValueError:
        return False
    return network.prefixlen == 24 and network.network_address.packed[0] == 10


def _namespace() -> int:
    try:
        return new_network_namespace()
    except OSError as error:
        fault = f"cannot make a network namespace: {error.strerror}"
        raise CapabilityError(fault, "run inside the lab's sandbox, or as root", "no-network-rights") from error
