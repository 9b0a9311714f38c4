"""Building and tearing down a network: the lab's way, stock Mininet, and `ip -batch`, in turn, in
one run.

    .venv/bin/python benchmarks/topology.py [ROUNDS]

The network is ``campus,clients=4,servers=3``: 12 hosts (8 clients, a proxy, 3 servers), 2 NAT
gateways, 2 wires, 15 links. What each is asked for:

    lab         IPv4 and IPv6, static neighbours, forwarding, NAT for both, checksums filled in
    ip -batch   the same without checksums: one `ip -batch` for links, one a namespace, `nft -f`
    Mininet     IPv4 only, stock nodes and links, its NAT node's rules without its edit of a file

Each is torn down the way it is meant to be, and its time runs until the last interface is gone: the
kernel frees a namespace after the call that gives it up has returned. To see when, every namespace
has a link to the benchmark's own, put there while no clock runs. Imports are not counted. Runs in a
sandbox of its own; needs iproute2, nftables, mininet and iptables.
"""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from mininet.log import setLogLevel
from mininet.net import Mininet
from mininet.topo import Topo
from sandbox import SANDBOX

from twlab.linux import rtnetlink
from twlab.loop import monotonic_s
from twlab.network import Gateway, Network, Node, load_topology
from twlab.network.nodes import Veth

TOPOLOGY = "campus,clients=4,servers=3"
Seconds = tuple[float, float]  # to build, to tear down


def lab() -> Seconds:
    """The lab's way."""
    network: Network

    def build() -> None:
        nonlocal network
        network = Network(load_topology(TOPOLOGY)).__enter__()

    build_s = timed(build)
    return build_s, timed_until_gone([node.namespace for node in network], network.close)


def ip_batch(plan: list[Node], folder: Path) -> Seconds:
    """`ip -batch`, with scripts written beforehand."""
    namespaces_and_links, nodes = write_scripts(plan, folder)

    def build() -> None:
        run("ip", "-batch", namespaces_and_links)
        for name, (batch, sysctls, rules) in nodes.items():
            if sysctls:
                run("ip", "netns", "exec", name, "sysctl", "-qw", *sysctls)
            run("ip", "-n", name, "-batch", batch)
            if rules:
                run("ip", "netns", "exec", name, "nft", "-f", rules)

    gone = folder / "gone"
    gone.write_text("".join(f"netns del {name}\n" for name in nodes))
    build_s = timed(build)
    namespaces = [os.open(f"/run/netns/{name}", os.O_RDONLY) for name in nodes]
    return build_s, timed_until_gone(namespaces, lambda: run("ip", "-batch", gone), close=True)


def write_scripts(plan: list[Node], folder: Path) -> tuple[Path, dict[str, tuple[Path, list[str], Path | None]]]:
    """The batch for namespaces and links; and for each node its batch, its sysctls and its nftables
    rules.
    """
    lines = [f"netns add {node.name}" for node in plan]
    for one, other in ((link.intf1, link.intf2) for link in links(plan)):
        peer = f"peer name {other.name} address {other.mac} netns {other.node.name}"
        lines.append(f"link add {one.name} address {one.mac} netns {one.node.name} type veth {peer}")
    script = folder / "links"
    script.write_text("\n".join(lines) + "\n")
    nodes: dict[str, tuple[Path, list[str], Path | None]] = {}
    for node in plan:
        lines = ["link set lo up"]
        for i in node.interfaces:
            lines += [f"link set {i.name} up", f"addr add {i.ip4} dev {i.name}", f"addr add {i.ip6} dev {i.name} nodad"]
            lines += [
                f"neigh replace {ip} lladdr {i.peer.mac} dev {i.name} nud permanent"
                for ip in (i.peer.all4[0], i.peer.all6[0])
            ]
        for destination, prefix, next_node in node.routes:
            peer = node.interface_to(next_node).peer
            lines.append(f"route add {destination}/{prefix} via {peer.all6[0] if ':' in destination else peer.all4[0]}")
        batch, rules = folder / node.name, None
        batch.write_text("\n".join(lines) + "\n")
        if isinstance(node, Gateway):
            rules = folder / f"{node.name}.nft"
            rules.write_text(node.ruleset())
        nodes[node.name] = (
            batch,
            ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"] if node.forwards else [],
            rules,
        )
    return script, nodes


def links(plan: list[Node]) -> list[Veth]:
    """Every link of the network, once."""
    return [interface.link for node in plan for interface in node.interfaces if interface is interface.link.intf1]


class Bare(Topo):
    """The same nodes and links for Mininet's own classes."""

    def build(self, plan: list[Node]) -> None:
        for node in plan:
            self.addHost(node.name, ip=None)
        for one, other in ((link.intf1, link.intf2) for link in links(plan)):
            names = {"intfName1": one.name, "intfName2": other.name, "addr1": one.mac, "addr2": other.mac}
            self.addLink(one.node.name, other.node.name, **names, params1={"ip": one.ip4}, params2={"ip": other.ip4})


def mininet(plan: list[Node]) -> Seconds:
    """Stock Mininet, configured as its own examples do."""
    network: Mininet

    def build() -> None:
        nonlocal network
        network = Mininet(topo=Bare(plan), controller=None)
        network.start()
        for node in plan:
            stock = network[node.name]
            for destination, prefix, next_node in node.routes:
                if ":" not in destination:
                    stock.cmd(f"ip route add {destination}/{prefix} via {node.interface_to(next_node).peer.all4[0]}")
            if node.forwards:
                stock.cmd("sysctl net.ipv4.ip_forward=1")
            if isinstance(node, Gateway):
                out = node.interface_to(node.outside).name
                stock.cmd(f"iptables -t nat -A POSTROUTING -o {out} -j MASQUERADE")
                stock.cmd(f"iptables -A FORWARD -i {out} -m state --state ESTABLISHED,RELATED -j ACCEPT")
                stock.cmd(f"iptables -A FORWARD -i {out} -j DROP")

    build_s = timed(build)
    namespaces = [os.open(f"/proc/{host.pid}/ns/net", os.O_RDONLY) for host in network.hosts]
    return build_s, timed_until_gone(namespaces, network.stop, close=True)


def timed(action: Callable[[], object]) -> float:
    """Seconds that `action()` takes."""
    began_s = monotonic_s()
    action()
    return monotonic_s() - began_s


def timed_until_gone(namespaces: list[int], tear_down: Callable[[], object], *, close: bool = False) -> float:
    """Seconds from `tear_down()` until no interface is left in `namespaces`; `close` says that
    these descriptors are ours.
    """
    here = os.open("/proc/self/ns/net", os.O_RDONLY)
    tell_tales = [
        rtnetlink.veth(
            rtnetlink.End(f"tell{number}", 0, "02:01:00:00:00:01", here),
            rtnetlink.End(f"tale{number}", 0, "02:01:00:00:00:02", there),
            1500,
        )
        for number, there in enumerate(namespaces)
    ]
    rtnetlink.carry_out(tell_tales)
    os.close(here)
    if close:
        for namespace in namespaces:
            os.close(namespace)

    def until_gone() -> None:
        tear_down()
        while any(name.startswith("tell") for _, name in socket.if_nameindex()):
            os.sched_yield()

    return timed(until_gone)


def run(*command: object) -> None:
    subprocess.run([str(word) for word in command], check=True)


def main(rounds: int) -> None:
    setLogLevel("error")
    folder = Path("/run/benchmark")
    folder.mkdir()
    with Network(load_topology(TOPOLOGY)) as network:
        plan = list(network)
    contenders: dict[str, Callable[[], Seconds]] = {
        "lab": lab,
        "ip -batch": lambda: ip_batch(plan, folder),
        "Mininet": lambda: mininet(plan),
    }
    measured: dict[str, list[Seconds]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            measured[name].append(contender())
    print(f"{TOPOLOGY}, median of {rounds} rounds")
    print(f"{'':10} {'build':>9} {'tear down':>10} {'both':>9} {'lab is faster by':>17}")
    ours = statistics.median(map(sum, measured["lab"]))
    for name, times in measured.items():
        build_s, down_s = (statistics.median(column) for column in zip(*times, strict=True))
        both_s = statistics.median(map(sum, times))
        print(f"{name:10} {build_s:7.3f} s {down_s:8.3f} s {both_s:7.3f} s {both_s / ours:15.1f} x")


if __name__ == "__main__":
    if "--inside" in sys.argv:
        subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
        main(int(sys.argv[-1]))
    else:
        if missing := [
            program
            for program in ("ip", "nft", "iptables", "mnexec", "ifconfig", "unshare")
            if not shutil.which(program)
        ]:
            sys.exit(f"this benchmark needs {', '.join(missing)}")
        sys.exit(
            subprocess.run(
                [*SANDBOX, sys.executable, __file__, "--inside", *(sys.argv[1:] or ["5"])], check=False
            ).returncode
        )
