"""Topologies: what each is made of, who reaches whom, what a gateway makes of it; and the same
files under Mininet's own command.
"""

import os
import select
import shutil
import socket
import struct
import subprocess
import sys
import time
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, InSandbox
from reach import FAMILIES, ON_THE_HOST, PATIENCE_S, REACHES, connections

from twlab.engines.guest.engine import Guest
from twlab.errors import UsageError
from twlab.network import Network, load_topology, topology_names
from twlab.network.nodes import Node


@pytest.mark.host
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("text", ON_THE_HOST)
def test_endpoints_reach_whom_they_should_and_nobody_else(in_sandbox: InSandbox, text: str, family: int) -> None:
    """TCP gets through wires, out of gateways and to a proxy's own address; not into gateways from
    outside, and not past a proxy.
    """
    assert in_sandbox(connections, text, family) == {
        name: sorted(names.split()) for name, names in REACHES[text].items()
    }


@pytest.mark.guest
def test_the_lab_kernel_builds_the_same_networks(tmp_path: Path) -> None:
    """In the lab kernel everybody reaches whom he reaches on the host, over IPv4 and IPv6."""
    told: list[dict[str, Any]] = []
    Guest(agent="reach").run({}, tmp_path, told.append, real_limit_s=120)
    for event in told[:-1]:
        assert event["reached"] == {name: sorted(names.split()) for name, names in REACHES[event["topology"]].items()}
    assert len(told) == 2 * len(REACHES) + 1


def unanswered_pings(text: str, family: int) -> list[str]:
    """Pairs of nodes, routers and gateways among them, of which the first pings the second's main
    address and hears nothing.
    """
    with Network(load_topology(text)) as network:
        silent = {
            f"{one.name} -> {other.name}": _ping(one, other, family)
            for one in network
            for other in network
            if one is not other
        }
        deadline_s = time.monotonic() + PATIENCE_S
        while silent and time.monotonic() < deadline_s:
            for channel in select.select(list(silent.values()), [], [], 0.1)[0]:
                packet = channel.recv(2048)
                if packet[20 if family == 4 else 0] == {4: 0, 6: 129}[family]:  # echo reply
                    silent = {pair: other for pair, other in silent.items() if other is not channel}
        return sorted(silent)


def _ping(node: Node, other: Node, family: int) -> socket.socket:
    protocol = socket.IPPROTO_ICMP if family == 4 else socket.getprotobyname("ipv6-icmp")
    channel = node.socket(FAMILIES[family], socket.SOCK_RAW, protocol)
    kind, number = (8, 1) if family == 4 else (128, 1)
    channel.connect((other.address(family), 0))
    channel.send(struct.pack("!BBHHH", kind, 0, 0xFFFF - (kind << 8) - 2 * number, number, number))
    return channel


@pytest.mark.host
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(
    "text", ["pair", "proxy,clients=2,servers=2", "nat,clients=2", "campus", "vip", "dnat", "two-balancers"]
)
def test_every_node_answers_the_ping_of_every_other(in_sandbox: InSandbox, text: str, family: int) -> None:
    """Pings alone pass gateways inward and proxies, so that a ping of all pairs shows whether the
    network is whole.
    """
    assert in_sandbox(unanswered_pings, text, family) == []


def seen_by_the_server(text: str, client: str, server: str, family: int) -> list[object]:
    """The address and port that the server's application sees, and the client's own port."""
    with Network(load_topology(text)) as network, network[server].socket(FAMILIES[family]) as listener:
        listener.bind((network[server].address(family), 80))
        listener.listen()
        ends = []  # all open at once, so that no port comes twice
        for _ in range(8):
            caller = network[client].socket(FAMILIES[family])
            caller.connect((network[server].address(family), 80))
            ends.append((caller, listener.accept()[0]))
        return [[*far.getpeername()[:2], caller.getsockname()[1]] for caller, far in ends]


@pytest.mark.host
@pytest.mark.parametrize(
    ("text", "client", "server", "addresses"),
    [
        ("pair", "client", "server", ("10.0.1.1", "fd00:0:0:1::1")),
        ("nat", "client", "server", ("10.1.1.1", "fd00:0:1:1::1")),
        ("nat,clients=2,servers=2", "c2", "s2", ("10.1.1.1", "fd00:0:1:1::1")),
        ("campus", "c1", "proxy", ("10.1.1.1", "fd00:0:1:1::1")),
        ("campus", "c2", "proxy", ("10.1.2.1", "fd00:0:1:2::1")),
        ("proxy,sources=4", "proxy", "server", ("10.3.2.1", "fd00:0:3:2::1")),
    ],
)
def test_a_gateway_gives_its_own_address(
    in_sandbox: InSandbox, text: str, client: str, server: str, addresses: tuple[str, str]
) -> None:
    """What comes through a gateway has the gateway's outer address, IPv4 and IPv6 alike, and here
    the client's port.
    """
    for family, address in zip((4, 6), addresses, strict=True):
        for seen, port, own_port in in_sandbox(seen_by_the_server, text, client, server, family):
            assert seen == str(ip_address(address))
            assert port == own_port


@pytest.mark.host
def test_a_gateway_keeps_to_the_ports_it_is_given(in_sandbox: InSandbox) -> None:
    """With ports=, connections leave from those only; with random_fully=1, no longer from the port
    that the client chose.
    """
    ports = {port for _, port, _ in in_sandbox(seen_by_the_server, "nat,ports=40000-40015", "client", "server", 4)}
    assert ports <= set(range(40000, 40016))
    assert len(ports) == 8
    random = in_sandbox(seen_by_the_server, "nat,random_fully=1", "client", "server", 6)
    assert any(port != own_port for _, port, own_port in random)


def moved_virtual_address(family: int) -> list[str]:
    with Network(load_topology("vip,servers=3")) as network:
        address, listeners = network["vip"].address(family), {}
        for name in ("s1", "s2", "s3"):
            listeners[network[name].socket(FAMILIES[family])] = name
        for listener in listeners:
            listener.bind((address, 80))
            listener.listen()
        answered = []
        for name in (None, "s2", "s3", "s1"):
            if name:
                network["vip"].point_at(name)
            with network["client"].socket(FAMILIES[family]) as caller:
                caller.settimeout(PATIENCE_S)
                caller.connect((address, 80))
                (listener,) = select.select(list(listeners), [], [], PATIENCE_S)[0]
                listener.accept()[0].close()
                answered.append(listeners[listener])
        return answered


@pytest.mark.host
@pytest.mark.parametrize("family", [4, 6])
def test_a_virtual_address_is_answered_by_the_server_that_the_balancer_points_at(
    in_sandbox: InSandbox, family: int
) -> None:
    """It begins with s1, and moves at once."""
    assert in_sandbox(moved_virtual_address, family) == ["s1", "s2", "s3", "s1"]


def bound_sources() -> list[str]:
    with Network(load_topology("proxy,sources=4")) as network:
        proxy, seen = network["proxy"], []
        for family in (4, 6):
            with network["server"].socket(FAMILIES[family]) as listener:
                listener.bind((network["server"].address(family), 80))
                listener.listen()
                for address in proxy.addresses(family):
                    with proxy.socket(FAMILIES[family]) as caller:
                        caller.bind((address, 0))
                        caller.connect((network["server"].address(family), 80))
                        seen.append(listener.accept()[1][0])
        return seen


@pytest.mark.host
def test_a_proxy_connects_from_each_of_its_addresses(in_sandbox: InSandbox) -> None:
    """With sources=4 it has four on the side of the origins, the main one first."""
    assert in_sandbox(bound_sources) == [f"10.3.2.{n}" for n in range(1, 5)] + [f"fd00:0:3:2::{n}" for n in range(1, 5)]


def test_the_topologies_are_known_and_drawn() -> None:
    """Each that comes with twlab loads by its name, without options, and has a drawing that names
    its nodes.
    """
    assert topology_names() == ["campus", "dnat", "ipvs", "nat", "pair", "proxy", "sidecar", "two-balancers", "vip"]
    for name in topology_names():
        topology = load_topology(name)
        text = sys.modules[type(topology).__module__].__doc__ or ""
        drawing = "\n".join(line for line in text.splitlines() if line.startswith("    "))
        single = {"client": "c1", "server": "s1"}
        for node in topology.nodes():
            assert node in drawing or single[node] in drawing, f"{name}: {node} is not in the drawing"


@pytest.mark.parametrize(
    "text",
    [
        "proxy,clients=64,servers=64,sources=200",
        "nat,clients=64,servers=64",
        "campus,clients=32,servers=64",
        "vip,servers=64",
        "dnat,servers=64",
        "ipvs,servers=64,forwarding=direct",
        "two-balancers,servers=64",
    ],
)
def test_the_largest_of_each_has_no_two_subnets_alike(text: str) -> None:
    """Links, names and routes work out up to the bounds of every option."""
    topology = load_topology(text)
    subnets = [link["subnet"] for _, _, link in topology.iterLinks(withInfo=True)]
    assert len(set(subnets)) == len(subnets) >= 65


@pytest.mark.parametrize(
    ("text", "slug", "says"),
    [
        (
            "star",
            "no-such-topology",
            "the topologies are: campus, dnat, ipvs, nat, pair, proxy, sidecar, two-balancers, vip",
        ),
        ("", "no-such-topology", "the topologies are"),
        ("nowhere/mine.py", "no-such-topology", "there is no file nowhere/mine.py"),
        ("nat,clients=0", "bad-topology-option", "clients is a whole number from 1 to 64"),
        ("nat,clients=65", "bad-topology-option", "clients=65"),
        ("nat,clients=-1", "bad-topology-option", "clients=-1"),
        ("nat,clients=two", "bad-topology-option", "clients=two"),
        ("nat,clients=1.5", "bad-topology-option", "clients=1.5"),
        ("nat,clients=", "bad-topology-option", "clients= is"),
        ("nat,clients", "bad-topology-option", "does not take the option 'clients'"),
        ("nat,customers=2", "bad-topology-option", "clients=1, servers=1"),
        ("nat,", "bad-topology-option", "does not take the option ''"),
        ("nat,self=1", "bad-topology-option", "does not take the option 'self=1'"),
        ("nat,ports=9-1", "bad-topology-option", "ports=40000-40127"),
        ("nat,ports=1-99999", "bad-topology-option", "ports=1-99999"),
        ("nat,ports=} drop", "bad-topology-option", "range of ports"),
        ("nat,random_fully=2", "bad-topology-option", "from 0 to 1"),
        ("sidecar,redirect=2", "bad-topology-option", "from 0 to 1"),
        ("pair,server=bsd", "bad-topology-option", "linux, lwip or gvisor"),
        ("nat,server=bsd", "bad-topology-option", "server is a TCP stack"),
        ("sidecar,tproxy=2", "bad-topology-option", "tproxy is a whole number from 0 to 1"),
        ("pair,mtu=100", "bad-topology-option", "from 1280 to 65535"),
        ("vip,servers=1", "bad-topology-option", "from 2 to 64"),
        ("ipvs,scheduler=best", "bad-topology-option", "scheduler is one of: rr, wrr, lc, sh, mh"),
        ("ipvs,forwarding=nat", "bad-topology-option", "masquerade, direct, tunnel"),
        ("ipvs,weights=1-x", "bad-topology-option", "weights=1-0"),
        ("dnat,weights=101", "bad-topology-option", "from 0 to 100"),
        ("dnat,choice=first", "bad-topology-option", "rr, random, hash"),
        ("proxy,sources=201", "bad-topology-option", "from 1 to 200"),
    ],
)
def test_a_wrong_topology_gives_one_message(text: str, slug: str, says: str) -> None:
    """An unknown name, option or value: what is wrong, and what would be right."""
    with pytest.raises(UsageError) as caught:
        load_topology(text)
    assert caught.value.slug == slug
    assert says in str(caught.value)


GOOD = """
from twlab.network import Endpoint, Gateway, Topology, WireNode

class Mine(Topology):
    def build(self, size=1):
        self.addHost("a", cls=Endpoint)
        self.addHost("b", cls=WireNode)
        self.join("a", "b", "10.7.1.0/24")

class Other(Mine):
    pass

topos = {"mine": Mine, "other": Other}
"""


def test_a_file_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path stands for the file's first topology, or, after a colon, the one of that name; options
    are as ever; the search path stays.
    """
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("import sys\nsys.path.append('')\n" + GOOD)
    before = list(sys.path)
    assert [type(load_topology(text)).__name__ for text in ("mine.py", "mine.py:other", "mine.py,size=3")] == [
        "Mine",
        "Other",
        "Mine",
    ]
    assert sys.path == before
    for text, slug in (("mine.py:third", "no-such-topology"), ("mine.py,colour=1", "bad-topology-option")):
        with pytest.raises(UsageError) as caught:
            load_topology(text)
        assert caught.value.slug == slug


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("class Mine", "class"), "SyntaxError"),
        (("from twlab.network", "from twlab.nowhere"), "ModuleNotFoundError"),
        (("topos =", "topology ="), "holds no topology"),
        (('{"mine": Mine, "other": Other}', "{}"), "holds no topology"),
        (("topos =", "raise SystemExit(0)\ntopos ="), "SystemExit"),
        (('self.addHost("b", cls=WireNode)', "1 / 0"), "ZeroDivisionError"),
        (("cls=WireNode)", "cls=str)"), "node b of the topology is not one of the lab's"),
        (('"b", cls=WireNode', '"b"'), "node b of the topology is not one of the lab's"),
        (('self.addHost("b", cls=WireNode)', "pass"), "a-b links b, which the topology does not have"),
        (("class Mine(Topology)", "from mininet.topo import Topo\nclass Mine(Topo)"), "no attribute 'join'"),
        (('self.join("a", "b", "10.7.1.0/24")', "pass"), "its node a has no link"),
        (("cls=WireNode)", "cls=Gateway)"), "outside"),
        (('"10.7.1.0/24")', '"10.7.1.0/24"); self.join("b", "a", "10.7.2.0/24")'), "linked twice"),
        (
            ('"10.7.1.0/24")', '"10.7.1.0/24"); self.addHost("c", cls=Endpoint); self.join("c", "b", "10.7.1.0/24")'),
            "two links have the subnet",
        ),
        (('"10.7.1.0/24"', '"10.7.1.0"'), "is not a network of 256 addresses"),
        (('"10.7.1.0/24"', '"300.7.1.0/24"'), "is not a network of 256 addresses"),
        (('"10.7.1.0/24"', '"192.168.1.0/24"'), "is not a network of 256 addresses"),
        (('"b"', '"a_very_long_name"'), "more than 15 characters"),
    ],
)
def test_a_broken_file_gives_one_message(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    """Any fault of a file gives one message that names it, before anything is built."""
    file = tmp_path / "mine.py"
    assert change[0] in GOOD
    file.write_text(GOOD.replace(*change))
    with pytest.raises(UsageError) as caught:
        load_topology(str(file))
    assert caught.value.slug == "broken-topology-file"
    assert says in str(caught.value)
    assert caught.value.remedy


MN = {"Debian's": "/usr/bin/mn", "the environment's": str(Path(sys.executable).parent / "mn")}


def pingall(mn: str, text: str) -> list[object]:
    """Exit status and output of Mininet's own command, and what it left: interfaces, and files
    newer than the start.
    """
    interfaces = Path("/etc/network/interfaces")
    before = interfaces.read_bytes() if interfaces.exists() else b""
    name = text.partition(",")[0]
    command = [
        mn,
        "--custom",
        f"topologies/{name.replace('-', '_')}.py",
        "--topo",
        text,
        "--controller",
        "none",
        "--switch",
        "lxbr",
        "--test",
        "pingall",
    ]
    environment = {"PATH": os.environ["PATH"], "HOME": "/root", "TERM": "dumb"}
    finished = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    after = interfaces.read_bytes() if interfaces.exists() else b""
    return [finished.returncode, finished.stdout, [name for _, name in socket.if_nameindex()], before == after]


@pytest.mark.host
@pytest.mark.parametrize(
    "text", ["pair", "proxy,clients=2,servers=2", "nat,clients=2", "campus", "vip", "sidecar", "dnat", "two-balancers"]
)
@pytest.mark.parametrize("mn", MN)
def test_mininets_own_command_runs_the_same_files(in_sandbox: InSandbox, mn: str, text: str) -> None:
    """`mn --custom FILE --topo NAME --test pingall` builds the same nodes, loses no ping, exits 0,
    and leaves nothing.
    """
    if missing := [program for program in (MN[mn], "mnexec", "ping") if not shutil.which(program)]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    status, output, interfaces, same = in_sandbox(pingall, MN[mn], text)
    assert status == 0, output
    assert "*** Results: 0% dropped" in output
    assert interfaces == ["lo"]
    assert same
