"""Networks: built in-process, silent until a program sends, gone when closed, and never seen from
outside.
"""

import json
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import InSandbox
from leftovers import wait_for

from twlab.errors import CapabilityError, UsageError
from twlab.linux import counters, nftables, partial_import, rtnetlink
from twlab.linux.syscalls import new_network_namespace
from twlab.network import Network, load_topology
from twlab.network.nodes import Node

pytestmark = pytest.mark.host

FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
ETH_P_ALL = 3


def connected(network: Network, one: str, other: str, family: int = 4) -> tuple[socket.socket, socket.socket]:
    """Both ends of a TCP connection from `one` to `other`."""
    client, server = network[one], network[other]
    with server.socket(FAMILIES[family]) as listener:
        listener.bind((server.address(family), 0))
        listener.listen()
        near = client.socket(FAMILIES[family])
        near.connect(listener.getsockname()[:2])
        far, _ = listener.accept()
        return near, far


def frames(channel: socket.socket, quiet_s: float = 0.2) -> list[bytes]:
    """The frames that a packet socket has, and gets until it has been quiet for `quiet_s`."""
    channel.settimeout(quiet_s)
    seen = []
    while True:
        try:
            seen.append(channel.recv(65536))
        except TimeoutError:
            return seen


def watch(node: Node) -> socket.socket:
    """A packet socket that sees every frame on every interface of `node`."""
    return node.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))


def describe_pair() -> list[object]:
    with Network(load_topology("pair")) as network:
        described: list[object] = [
            [i.name, i.node.name, i.mac, i.ip4, i.ip6, i.index, i.peer.name]
            for node in network
            for i in node.interfaces
        ]
        kernel = []
        for node in network:
            with node.inside():
                kernel += [[i.name, socket.if_nametoindex(i.name)] for i in node.interfaces]
        return [described, kernel, [[node.name, node.role, node.ip4, node.address(6)] for node in network]]


def test_names_addresses_and_numbers_are_fixed(in_sandbox: InSandbox) -> None:
    """Interfaces have the same names, MAC addresses, IP addresses and indices in every network, and
    the kernel agrees.
    """
    described, kernel, nodes = in_sandbox(describe_pair)
    assert described == [
        ["client-wire", "client", "02:00:0a:00:01:01", "10.0.1.1/24", "fd00:0:0:1::1/64", 100, "wire-client"],
        ["wire-client", "wire", "02:00:0a:00:01:fe", "10.0.1.254/24", "fd00:0:0:1::254/64", 101, "client-wire"],
        ["wire-server", "wire", "02:00:0a:02:01:fe", "10.2.1.254/24", "fd00:0:2:1::254/64", 103, "server-wire"],
        ["server-wire", "server", "02:00:0a:02:01:01", "10.2.1.1/24", "fd00:0:2:1::1/64", 100, "wire-server"],
    ]
    assert kernel == [[name, index] for name, _, _, _, _, index, _ in described]
    assert nodes == [
        ["client", "endpoint", "10.0.1.1", "fd00:0:0:1::1"],
        ["wire", "wire", "10.0.1.254", "fd00:0:0:1::254"],
        ["server", "endpoint", "10.2.1.1", "fd00:0:2:1::1"],
    ]


def sent_again(rounds: int) -> int:
    again = 0
    for _ in range(rounds):
        for family in (4, 6):
            with Network(load_topology("pair")) as network:
                for end in connected(network, "client", "server", family):
                    end.close()
                again += sum(counters.read(network[name])["TcpRetransSegs"] for name in ("client", "server"))
    return again


def test_the_first_segment_is_not_lost(in_sandbox: InSandbox) -> None:
    """A network that has been entered is ready: no first SYN has to be sent again, which would take
    a second.
    """
    assert in_sandbox(sent_again, 40) == 0


def what_an_idle_network_says() -> list[int]:
    with Network(load_topology("nat,clients=2")) as network:
        channels = [watch(node) for node in network]
        idle = sum(len(frames(channel, 0.3)) for channel in channels)
        for end in connected(network, "c1", "server", 6):
            end.close()
        seen = frames(channels[-1])
        return [
            idle,
            *sorted({struct.unpack_from("!H", frame, 12)[0] for frame in seen}),
            *sorted({frame[20] for frame in seen}),
        ]


def test_an_idle_network_is_silent(in_sandbox: InSandbox) -> None:
    """No ARP, no neighbour discovery, no multicast: nothing crosses a link but what is sent, and
    with a connection that is TCP.
    """
    assert in_sandbox(what_an_idle_network_says) == [0, 0x86DD, socket.IPPROTO_TCP]


def bulk_frames(family: int) -> list[object]:
    with Network(load_topology("pair")) as network:
        near, far = connected(network, "client", "server", family)
        with watch(network["wire"]) as channel:
            near.sendall(b"x" * 200_000)
            seen = frames(channel)
        return [max(map(len, seen)), all(_checksum_is_right(frame[14:]) for frame in seen), len(far.recv(1))]


def _checksum_is_right(packet: bytes) -> bool:
    if packet[0] >> 4 == 4:
        segment, addresses = packet[20:], packet[12:20]
    else:
        segment, addresses = packet[40:], packet[8:40]
    data = addresses + struct.pack("!II", socket.IPPROTO_TCP, len(segment)) + segment + b"\0" * (len(segment) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total == 0xFFFF


@pytest.mark.parametrize("family", [4, 6])
def test_the_wire_carries_segments_as_a_real_one_would(in_sandbox: InSandbox, family: int) -> None:
    """Bulk data cross as frames of at most the MTU, each with its checksum filled in."""
    longest, right, arrived = in_sandbox(bulk_frames, family)
    assert longest == 14 + 1500
    assert right
    assert arrived


def interfaces_outside() -> list[object]:
    names = lambda: [name for _, name in socket.if_nameindex()]  # noqa: E731
    os.close(new_network_namespace())  # a process opens its own one once, and keeps it
    before, descriptors = names(), len(os.listdir("/proc/self/fd"))
    with Network(load_topology("campus")) as network:
        inside = names()
        network["wire"].write_sysctl("net.ipv4.tcp_fin_timeout", 7)
        outside_s = Path("/proc/sys/net/ipv4/tcp_fin_timeout").read_text()
        network["wire"].cmd("true")
    network.close()
    return [
        before,
        inside,
        names(),
        int(outside_s),
        descriptors - len(os.listdir("/proc/self/fd")),
        [str(path) for path in Path("/run").iterdir()],
    ]


def test_a_network_shows_nothing_outside(in_sandbox: InSandbox) -> None:
    """While it stands and afterwards, its surroundings have no new interface, sysctl, file or open
    descriptor.
    """
    assert in_sandbox(interfaces_outside) == [["lo"], ["lo"], ["lo"], 60, 0, []]


def gone_in_the_end() -> bool:
    network = Network(load_topology("proxy,clients=3,servers=3"))
    with network, Path("/proc/self/ns/net").open() as here:
        tale = rtnetlink.End("tale", 0, "02:01:00:00:00:02", network["proxy"].namespace)
        rtnetlink.carry_out([rtnetlink.veth(rtnetlink.End("tell", 0, "02:01:00:00:00:01", here.fileno()), tale, 1500)])
    return wait_for(lambda: all(name != "tell" for _, name in socket.if_nameindex()), 60)


def test_a_closed_network_is_gone(in_sandbox: InSandbox) -> None:
    """The kernel removes everything in it, links out of it too, within moments."""
    assert in_sandbox(gone_in_the_end)


def two_networks() -> list[object]:
    with Network(load_topology("pair")) as first, Network(load_topology("pair")) as second:
        answers = []
        for network in (first, second):
            near, far = connected(network, "client", "server")
            answers.append([near.getpeername()[0], far.getpeername()[0]])
        with first["server"].socket() as listener, second["client"].socket() as stranger:
            listener.bind((first["server"].ip4, 4000))
            listener.listen()
            answers.append(stranger.connect_ex((first["server"].ip4, 4000)))
        return answers


def test_two_networks_in_one_process_never_meet(in_sandbox: InSandbox) -> None:
    """Two of the same topology stand side by side, with the same names and addresses; a listener of
    one is unknown in the other.
    """
    import errno

    assert in_sandbox(two_networks) == [["10.2.1.1", "10.0.1.1"]] * 2 + [errno.ECONNREFUSED]


def inside_and_back() -> list[object]:
    with Network(load_topology("pair")) as network:
        seen = []
        names = lambda: sorted(name for _, name in socket.if_nameindex())  # noqa: E731
        with network["client"].inside():
            seen.append(names())
            with network["wire"].inside():
                seen.append(names())
            seen.append(names())
        try:
            with network["server"].inside():
                raise KeyError
        except KeyError:
            seen.append(names())
        network["client"].write_sysctl("net.ipv4.tcp_fin_timeout", 9)
        return [
            *seen,
            network["client"].read_sysctl("net.ipv4.tcp_fin_timeout"),
            network["server"].read_sysctl("net.ipv4.tcp_fin_timeout"),
        ]


def test_inside_is_left_again(in_sandbox: InSandbox) -> None:
    """`inside` nests and returns, also when the block raises; a sysctl written on one node is not
    another's.
    """
    client, wire = ["client-wire", "lo"], ["lo", "wire-client", "wire-server"]
    assert in_sandbox(inside_and_back) == [client, wire, client, ["lo"], "9", "60"]


def send_to_nobody() -> list[int]:
    with (
        Network(load_topology("pair")) as network,
        watch(network["client"]) as channel,
        network["server"].socket() as caller,
    ):
        caller.setblocking(False)
        caller.connect_ex(("10.0.1.77", 80))
        return [frame[14 + 20 + 13] for frame in frames(channel)]


def test_a_segment_for_an_address_that_nobody_has_arrives_and_is_not_answered(in_sandbox: InSandbox) -> None:
    """It crosses the last link, where a packet socket sees it, and no kernel answers: what a
    crafted endpoint needs.
    """
    syn = 0x02
    assert in_sandbox(send_to_nobody) == [syn]


def prompts() -> list[object]:
    with Network(load_topology("pair")) as network:
        server = network["server"]
        before = server.shell
        said = server.cmd("cat /proc/net/dev | grep -o server-wire").strip()
        with server.popen("sleep", "60") as process:
            process.kill()
        shell = server.pid
    return [before is None, said, Path(f"/proc/{shell}").exists()]


def test_a_shell_starts_when_a_command_is_run_and_ends_with_the_network(in_sandbox: InSandbox) -> None:
    """Building starts no process; a command is run in the node; nothing of it stays."""
    assert in_sandbox(prompts) == [True, "server-wire", False]


def wrong_link() -> list[object]:
    with Network(load_topology("vip")) as network:
        caught = []
        for call in (lambda: network["client"].interface_to("server"), lambda: network["vip"].point_at("s3")):
            try:
                call()
            except UsageError as error:
                caught.append([error.slug, error.remedy])
        return [*caught, network["vip"].interface_to("s1").peer.name]


def test_a_link_that_is_not_there_is_named(in_sandbox: InSandbox) -> None:
    """Asking for an interface to a node that is not next says which nodes are."""
    wanted = [["no-such-link", "it has links to: wire"], ["no-such-link", "it has links to: wire, s1, s2"], "s1-vip"]
    assert in_sandbox(wrong_link) == wanted


def a_build_that_fails() -> list[object]:
    topology = load_topology("vip")
    topology.g.node["vip"]["first"] = "nobody"
    os.close(new_network_namespace())  # a process opens its own one once, and keeps it
    before = len(os.listdir("/proc/self/fd"))
    try:
        with Network(topology):
            pass
    except UsageError as error:
        return [error.slug, len(os.listdir("/proc/self/fd")) - before]
    return []


def test_a_build_that_fails_lets_go_of_everything(in_sandbox: InSandbox) -> None:
    """When a node cannot be configured, the namespaces made so far are given up."""
    assert in_sandbox(a_build_that_fails) == ["no-such-link", 0]


def without_the_right() -> str:
    code = """if True:
        from twlab.network import Network, load_topology
        try:
            Network(load_topology("pair")).__enter__()
        except Exception as error:
            print(type(error).__name__, error.slug)"""
    command = ["setpriv", "--bounding-set=-sys_admin", sys.executable, "-c", code]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=Path(rtnetlink.__file__).parents[2]
    ).stdout.strip()


def test_without_the_right_to_make_namespaces_one_error_says_so(in_sandbox: InSandbox) -> None:
    """It is a CapabilityError, before anything has been built."""
    assert in_sandbox(without_the_right) == "CapabilityError no-network-rights"


def test_an_ordinary_user_builds_networks(in_sandbox: InSandbox, ordinary_user: str) -> None:
    """In the sandbox, an ordinary user builds what root does, NAT included."""
    assert in_sandbox(translated, user=ordinary_user) == "10.1.1.1"


def translated() -> str:
    with Network(load_topology("nat")) as network:
        _, far = connected(network, "client", "server")
        return far.getpeername()[0]


def many_messages_and_a_wrong_one() -> list[object]:
    with Network(load_topology("pair")) as network, network["client"].inside():
        index = network["client"].interfaces[0].index
        rtnetlink.carry_out(rtnetlink.address(index, f"10.0.1.{host}", 24) for host in range(2, 252))
        with socket.socket() as last:
            last.bind(("10.0.1.251", 0))
        try:
            rtnetlink.carry_out(
                [
                    rtnetlink.neighbour(index, "10.0.1.253", "02:00:00:00:00:01"),
                    rtnetlink.route(index, "10.9.9.0", 24, "10.99.0.1"),
                ]
            )
        except OSError as error:
            return [str(error)]
    return []


def test_a_message_that_the_kernel_refuses_is_told_in_words(in_sandbox: InSandbox) -> None:
    """Hundreds of messages go through; one that is refused raises, and says which."""
    assert in_sandbox(many_messages_and_a_wrong_one) == [
        "[Errno 101] cannot add route 10.9.9.0/24 via 10.99.0.1: Network is unreachable"
    ]


def rules() -> list[object]:
    with Network(load_topology("pair")) as network:
        with network["wire"].inside():
            nftables.apply(
                "table inet mine { chain forward { type filter hook forward priority 0; tcp dport 80 drop; }; }"
            )
        with network["server"].socket() as listener, network["client"].socket() as caller:
            listener.bind((network["server"].ip4, 80))
            listener.listen()
            caller.settimeout(0.3)
            try:
                caller.connect((network["server"].ip4, 80))
                outcome = "connected"
            except TimeoutError:
                outcome = "dropped"
        try:
            nftables.apply("table inet mine { chain forward { nonsense } }")
        except CapabilityError as error:
            return [outcome, error.slug, error.message]
    return [outcome]


def test_rules_apply_where_the_thread_is_and_a_wrong_one_is_told(in_sandbox: InSandbox) -> None:
    """A rule set holds in the namespace in which it was applied; what nftables says of a wrong one
    is passed on.
    """
    outcome, slug, message = in_sandbox(rules)
    assert outcome == "dropped"
    assert slug == "no-nftables"
    assert "nonsense" in message


def test_the_network_imports_little() -> None:
    """Neither pyroute2's own start-up nor setuptools is loaded; and pyroute2 can still be imported
    whole afterwards.
    """
    script = """if True:
        import json, sys
        import twlab.network
        lean = [name for name in ("pyroute2", "asyncio", "setuptools", "distutils", "scapy") if name in sys.modules]
        modules = len([name for name in sys.modules if name.startswith("pyroute2.")])
        import pyroute2
        print(json.dumps([lean, modules < 40, hasattr(pyroute2, "IPRoute")]))"""
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert json.loads(printed) == [[], True, True]


def test_a_package_that_is_not_installed_is_missed_by_name() -> None:
    """Importing lean does not hide that a package is not there."""
    with pytest.raises(ModuleNotFoundError, match="no_such_package"), partial_import.without_init("no_such_package"):
        pass
