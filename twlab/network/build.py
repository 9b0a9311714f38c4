"""Builds a topology in-process, over netlink; it changes nothing on the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

from twlab import lab_kernel
from twlab.errors import CapabilityError
from twlab.linux import rtnetlink, sysctl
from twlab.linux.syscalls import new_network_namespace
from twlab.network.nodes import Node, Veth
from twlab.network.topology import Topology

_NO_TUNNELS = "net.core.fb_tunnels_only_for_init_net"


class Network:
    """A topology that is built: a context manager.

    It builds on entering, and closes every namespace on leaving. `network["client"]` is a node;
    iterating gives the nodes.

    Args:
        topology: made of the nodes of `twlab.network.nodes` and links of `Topology.join`.

    Attributes:
        nodes: name to node, in the topology's order.

    Raises:
        CapabilityError: this user may not make network namespaces here (``no-network-rights``), or
            the kernel lacks veth or nftables.
    """

    def __init__(self, topology: Topology):
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
        """Close every namespace; the kernel removes its content a moment later.

        May be called again.
        """
        for node in self:
            node.close()

    def _build(self) -> None:
        graph = self.topology.g
        for name in graph.nodes():
            options = dict(graph.node[name])
            make = options.pop("cls")
            _set_tunnel_devices(options.get("tunnel", False))
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


def _set_tunnel_devices(wanted: bool) -> None:
    """Say whether the next namespaces of a lab kernel begin with its tunnel devices.

    Those are sit0, tunl0 and ip6tnl0, each with some eight sysctls to be set. On other machines,
    and in a confined guest, all namespaces have what they have.
    """
    value = "0" if wanted else "1"
    if lab_kernel.is_this() and sysctl.read(_NO_TUNNELS) != value:
        with suppress(OSError):  # a confined guest's may not be written
            sysctl.write(_NO_TUNNELS, value)


def _namespace() -> int:
    try:
        return new_network_namespace()
    except OSError as error:
        fault = f"cannot make a network namespace: {error.strerror}"
        raise CapabilityError(fault, "run inside the lab's sandbox, or as root", "no-network-rights") from error
