"""Mininet's nodes and links, made over netlink instead of by commands.

There is one implementation of an endpoint, a router or a NAT gateway, for three uses. The lab
builds them in-process and in bulk (`twlab.network.Network`). Mininet's command (`mn --custom
topologies/nat.py --topo nat`) builds them one by one. An interactive shell finds in them the
methods of Mininet's nodes. `twlab.network.roles` has the differences between roles. The only
importer of `mininet.node` and `mininet.link`.

A node changes nothing outside its network namespace: no file of the machine, no sysctl, no rule.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from ipaddress import IPv4Network, ip_interface
from types import ModuleType
from typing import Any, Literal

from twlab.errors import UsageError
from twlab.linux import inet_diag, rtnetlink, sysctl
from twlab.linux.partial_import import stand_ins
from twlab.linux.syscalls import inside_network_namespace

_version = ModuleType("distutils.version")
_version.StrictVersion = object  # type: ignore[attr-defined]  # Mininet compares versions of Open vSwitch with it
# Mininet looks for pexpect, with which its own tests drive programs.
with stand_ins({name: ModuleType(name) for name in ("distutils", "pexpect")} | {"distutils.version": _version}):
    import mininet.node
    from mininet.link import Intf, Link

Role = Literal["endpoint", "router", "gateway", "wire"]

# Index of a node's first interface; devices that the kernel puts into every namespace may have
# lower ones.
FIRST_INDEX = 100


class Interface(Intf):
    """One end of a link.

    Attributes:
        name: e.g. ``client-wire``: the node, and who is at the other end.
        mac: e.g. ``02:00:0a:00:01:01``: 02:00, then the IPv4 address.
        node: whose it is.
        index: the kernel's number for it, the same in every run.
        ip4, ip6: main addresses with prefix length, e.g. ``10.0.1.1/24`` and ``fd00:0:0:1::1/64``.
        all4, all6: all addresses, the main one first, without prefix length.
        peer: the interface at the other end.
    """

    peer: Interface

    def __init__(
        self, name: str, node: Node, link: Veth, port: int | None, subnet: IPv4Network, hosts: range, end: int
    ):
        self.name = name
        self.node = node
        self.link = link
        self.mac = _mac(subnet, hosts[0])
        self.params: dict[str, Any] = {}
        self.all4 = [str(subnet[host]) for host in hosts]
        self.all6 = [ip6_of(subnet, host) for host in hosts]
        self.ip4 = f"{self.all4[0]}/{subnet.prefixlen}"
        self.ip6 = f"{self.all6[0]}/64"
        self.ip, self.prefixLen = self.all4[0], str(subnet.prefixlen)  # what Mininet looks at
        # Mininet moves an interface into its node; the lab makes it there.
        node.addIntf(self, port=port, moveIntfFn=lambda _name, _node: None)
        # Never the same at both ends: the kernel takes a device with its peer's number for one that
        # is not a virtual link, and then lets it wait up to a second before it has a carrier
        # (net/core/link_watch.c, linkwatch_urgent_event).
        self.index = FIRST_INDEX + 2 * node.ports[self] + end

    def updateIP(self) -> str:  # noqa: N802
        """Return the address that Mininet's command line puts in place of the node's name.

        Mininet's own method runs ifconfig.
        """
        return self.ip

    def status(self) -> str:
        """Return the text that Mininet's `links` shows; Mininet's own runs ip."""
        with self.node.inside():
            return "OK" if rtnetlink.is_running(self.index) else "DOWN"

    def ifconfig(self, *args: str) -> str:
        """Carry out Mininet's `link NODE NODE up|down`; Mininet's own runs ifconfig."""
        said = self.node.cmd("ip link set dev", self.name, *args)
        if args == ("up",):
            self.node.restore(self)
        return said

    def requests(self) -> Iterator[rtnetlink.Message]:
        """Yield requests: this interface up, its addresses, the other end's as neighbours."""
        yield rtnetlink.up(self.index)
        for ip in self.all4:
            yield rtnetlink.address(self.index, ip, int(self.prefixLen))
        # Where nothing else decides, Linux connects from the IPv6 address that was added last.
        for ip in reversed(self.all6):
            yield rtnetlink.address(self.index, ip, 64)
        for ip in self.peer.all4 + self.peer.all6:
            yield rtnetlink.neighbour(self.index, ip, self.peer.mac)


class Veth(Link):
    """A link whose ends are made in the namespaces of their nodes.

    Args:
        node1, node2: the nodes.
        subnet: the IPv4 network of the link, e.g. ``10.0.1.0/24``; `ip6_of` gives the IPv6 one.
        hosts1, hosts2: host numbers in it, the main one first, for either end.
        mtu: of both ends, in bytes.
        now: make it at once, as Mininet expects; False: the caller makes many at once.
    """

    def __init__(
        self,
        node1: Node,
        node2: Node,
        *,
        subnet: str,
        hosts1: range = range(1, 2),
        hosts2: range = range(254, 255),
        mtu: int = 1500,
        port1: int | None = None,
        port2: int | None = None,
        now: bool = True,
        **_mininet: object,
    ):
        network = IPv4Network(subnet)
        self.node1, self.node2, self.mtu = node1, node2, mtu
        self.intf1 = Interface(f"{node1.name}-{node2.name}", node1, self, port1, network, hosts1, 0)
        self.intf2 = Interface(f"{node2.name}-{node1.name}", node2, self, port2, network, hosts2, 1)
        self.intf1.peer, self.intf2.peer = self.intf2, self.intf1
        if now:
            rtnetlink.carry_out([self.request()])

    def request(self) -> rtnetlink.Message:
        """Build the request that makes this link."""
        one, other = (rtnetlink.End(i.name, i.index, i.mac, i.node.namespace) for i in (self.intf1, self.intf2))
        return rtnetlink.veth(one, other, self.mtu)


class Node(mininet.node.Node):
    """A network namespace with interfaces.

    Args:
        name: e.g. ``client``.
        namespace: a file descriptor of a network namespace that the node shall be; it then owns it,
            and starts a shell only when a command is run in it. None: Mininet's way, a shell in a
            new namespace.
        routes: (destination, prefix length, name of the next node) to the networks that it is not
            itself in; filled in by `Topology`.

    Attributes:
        role: ``endpoint``, ``router``, ``gateway`` or ``wire``.
        namespace: file descriptor of its network namespace.
        tunnel: whether it has the kernel's tunnel devices, to take packets out of tunnels.
        written: sysctls that it was given by `write_sysctl`, with their values, in order.
        tuned: whether the baseline has been applied to it, see `twlab.tuning.first_values`.
    """

    role: Role = "endpoint"
    forwards = False
    tunnel = False
    configured = False  # by Mininet
    shell: Any  # a subprocess.Popen, or None; Mininet's
    isSetup = True  # noqa: N815  Mininet would look for the programs that its own nodes run

    def __init__(
        self, name: str, namespace: int | None = None, routes: list[tuple[str, int, str]] | None = None, **params: Any
    ):
        self.namespace = -1 if namespace is None else namespace
        self.routes = routes or []
        super().__init__(name, **{**params, "inNamespace": namespace is None})
        if namespace is None:
            self.namespace = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.written: list[tuple[str, str]] = []
        self.tuned = False
        # No link-local addresses. Before there are interfaces, which take it over.
        self.write_sysctl("net.ipv6.conf.default.addr_gen_mode", 1)

    @property
    def interfaces(self) -> list[Interface]:
        """The node's interfaces, in the order in which the topology links them."""
        return self.intfList()

    @property
    def ip4(self) -> str:
        """The main IPv4 address: the first interface's."""
        return self.interfaces[0].all4[0]

    @property
    def ip6(self) -> str:
        """The main IPv6 address."""
        return self.interfaces[0].all6[0]

    def address(self, family: int = 4) -> str:
        """The main address, IPv4 (4) or IPv6 (6)."""
        return self.ip6 if family == 6 else self.ip4

    def addresses(self, family: int = 4) -> list[str]:
        """List the addresses of the main interface, the main one first.

        The node may connect from each of them.
        """
        return self.interfaces[0].all6 if family == 6 else self.interfaces[0].all4

    def interface_to(self, other: str) -> Interface:
        """Return the interface that is linked to the node `other`.

        Raises:
            UsageError: there is no such link (``no-such-link``).
        """
        for interface in self.interfaces:
            if interface.peer.node.name == other:
                return interface
        linked = ", ".join(interface.peer.node.name for interface in self.interfaces)
        raise UsageError(f"{self.name} has no link to {other!r}", f"it has links to: {linked}", "no-such-link")

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Switch this thread into the node's network namespace for the block.

        May be nested, also with other nodes.
        """
        with inside_network_namespace(self.namespace):
            yield

    @cached_property
    def diag(self) -> socket.socket:
        """A netlink socket to the node's table of TCP sockets.

        It stays open: the tables of all nodes are read at every step. See `twlab.linux.inet_diag`.
        """
        with self.inside():
            return inet_diag.open_socket()

    def close_diag(self) -> None:
        """Close that socket, if it is open; `diag` then opens another."""
        if opened := self.__dict__.pop("diag", None):
            opened.close()

    def socket(self, family: int = socket.AF_INET, type: int = socket.SOCK_STREAM, proto: int = 0) -> socket.socket:
        """Open a socket that belongs to this node, wherever it is used from.

        It is blocking, as `socket.socket` makes it.
        """
        with self.inside():
            return socket.socket(family, type, proto)

    def read_sysctl(self, name: str) -> str:
        """Read a sysctl of this node, for example ``net.ipv4.tcp_timestamps``.

        Blanks in it are single. Raises FileNotFoundError if the kernel lacks it.
        """
        with self.inside():
            value = sysctl.read(name)
        if value is None:
            raise FileNotFoundError(errno.ENOENT, "this kernel has no such sysctl", name)
        return value

    def write_sysctl(self, name: str, value: object) -> None:
        """Write a sysctl of this node.

        Raises OSError; FileNotFoundError if the kernel lacks it.
        """
        with self.inside():
            sysctl.write(name, f"{value}")
        self.written.append((name, f"{value}"))

    def configure(self) -> None:
        """Apply addresses, neighbours, routes, checksums.

        The links are there already.
        """
        # Not earlier: an interface that comes to a router joins the group of all routers, and sends
        # a report.
        self.write_sysctl("net.ipv4.ip_forward", int(self.forwards))
        self.write_sysctl("net.ipv6.conf.all.forwarding", int(self.forwards))
        with self.inside():
            rtnetlink.carry_out(self.requests())
            rtnetlink.fill_in_checksums(interface.name for interface in self.interfaces)

    def requests(self) -> Iterator[rtnetlink.Message]:
        """Yield the requests of `configure` to the kernel."""
        yield rtnetlink.up(rtnetlink.LOOPBACK)
        for interface in self.interfaces:
            yield from interface.requests()
        yield from (self._route(*each) for each in self.routes)

    def restore(self, interface: Interface) -> None:
        """Configure `interface` again, and the routes through it, after it was down."""
        routes = [self._route(*each) for each in self.routes if self.interface_to(each[2]) is interface]
        with self.inside():
            rtnetlink.carry_out([*interface.requests(), *routes])

    def _route(self, destination: str, prefix: int, next_node: str) -> rtnetlink.Message:
        interface = self.interface_to(next_node)
        via = interface.peer.all6[0] if ":" in destination else interface.peer.all4[0]
        return rtnetlink.route(interface.index, destination, prefix, via)

    def wait_ready(self) -> None:
        """Return when all interfaces have a carrier and all addresses are in use.

        The other ends must be configured, too.
        """
        with self.inside():
            rtnetlink.wait_ready([i.index for i in self.interfaces], self.owned6())

    def owned6(self) -> list[str]:
        """List every IPv6 address of the node."""
        return [ip for interface in self.interfaces for ip in interface.all6]

    def close(self) -> None:
        """End the shell, if there is one, and close the namespace.

        The kernel removes its content.
        """
        if self.shell:
            super().terminate()
        self.close_diag()
        if self.namespace >= 0:
            os.close(self.namespace)
            self.namespace = -1

    # What Mininet calls.

    def config(self, **_mininet: object) -> dict[str, object]:
        """Configure the node once its links are there; the name is Mininet's.

        A link whose ends are both configured has its carrier then: what is sent before that, a
        first ping for one, is lost.
        """
        self.configure()
        self.configured = True
        for own in self.interfaces:
            for end in (own, own.peer) if own.peer.node.configured else ():
                with end.node.inside():
                    rtnetlink.wait_ready([end.index], [])
        return {}

    def terminate(self) -> None:
        """Close the node; the name is Mininet's."""
        self.close()

    def startShell(self, mnopts: str | None = None) -> None:  # noqa: N802
        """Start the shell, unless the node has been given its namespace.

        Then the first command starts it.
        """
        if self.namespace < 0:
            super().startShell(mnopts)

    def cmd(self, *args: Any, **kwargs: Any) -> str:
        """Run a command in the node's shell and return what it prints.

        For people at a prompt; experiments start no processes.
        """
        self._need_shell()
        return super().cmd(*args, **kwargs)

    def sendCmd(self, *args: Any, **kwargs: Any) -> None:  # noqa: N802
        """Send a command to the node's shell; Mininet's command line uses it."""
        self._need_shell()
        super().sendCmd(*args, **kwargs)

    def popen(self, *args: Any, **kwargs: Any) -> Any:
        """Start a process in the node, as `subprocess.Popen`."""
        self._need_shell()
        return super().popen(*args, **kwargs)

    def give_up_shell(self) -> None:
        """Close the pipes of a shell that has ended; the next command starts another."""
        self.stdin.close()
        os.close(self.slave)
        self.shell, self.waiting = None, False

    def _need_shell(self) -> None:
        if not self.shell:
            with self.inside():
                super().startShell()


def ip6_of(subnet: IPv4Network, host: int) -> str:
    """Return the IPv6 address that goes with an IPv4 one.

    Host 254 of 10.2.1.0/24 is fd00:0:2:1::254, written alike.
    """
    _, zone, number, _ = subnet.network_address.packed
    return str(ip_interface(f"fd00:0:{zone}:{number}::{host}/64").ip)


def _mac(subnet: IPv4Network, host: int) -> str:
    return ":".join(f"{byte:02x}" for byte in (2, 0, *subnet[host].packed))
