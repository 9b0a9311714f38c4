"""TIME_WAIT sockets seen, counted and ended; and the reaper, which ends them at the asked age."""

import os
import signal
import socket
import struct
import time
from pathlib import Path

import pytest
from lateness import watched

from twlab.errors import EngineError
from twlab.linux import inet_diag, tcp_sockets
from twlab.loop import Loop
from twlab.network import Network, load_topology
from twlab.results.transcript import Transcript
from twlab.settings import Settings
from twlab.traffic.load_client import Load, LoadClient, LoadServer
from twlab.tuning.apply import Tuning
from twlab.tuning.new_namespaces import begin_namespaces_in
from twlab.tuning.time_wait_reaper import TimeWaitReaper
from twlab.world import PINNED

pytestmark = pytest.mark.host


def opened(network, family=4, port=80):
    """A connection from client to server: the client's end, the server's end."""
    client, server = network["client"], network["server"]
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    with server.socket(kind) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((server.address(family), port))
        listener.listen()
        first = client.socket(kind)
        first.connect((server.address(family), port))
        second, _ = listener.accept()
    return first, second


def closed(network, family=4, port=80):
    """A connection that the client has closed first: it is in TIME_WAIT there."""
    first, second = opened(network, family, port)
    local = first.getsockname()[1]
    first.close()
    second.close()
    return local


def looked_up(family):
    """The states of a connection's two ends as it is closed, and of one that there never was; each
    beside what the kernel's whole table has of it.
    """
    with Network(load_topology("pair")) as network:
        client, server = network["client"], network["server"]
        listener = server.socket(socket.AF_INET if family == 4 else socket.AF_INET6)
        listener.bind((server.address(family), 81))
        listener.listen()
        first, second = opened(network, family)
        ends = {"client": [*first.getsockname()[:2], *first.getpeername()[:2]]}
        ends["server"] = [*ends["client"][2:], *ends["client"][:2]]
        never = [server.address(family), 81, client.address(family), 9]

        def states():
            found = [tcp_sockets.state(network[name], *end) for name, end in ends.items()]
            listed = [
                [
                    s.state
                    for s in tcp_sockets.sockets(network[name])
                    if [s.local, s.local_port, s.remote, s.remote_port] == end
                ]
                for name, end in ends.items()
            ]
            return [found, ["".join(each) for each in listed]]

        seen = [states()]
        first.close()
        Loop().wait_until(lambda: tcp_sockets.state(client, *ends["client"]) == "FIN_WAIT2", 5, look_s=0.005)
        seen.append(states())
        second.close()
        Loop().wait_until(lambda: tcp_sockets.state(client, *ends["client"]) == "TIME_WAIT", 5, look_s=0.005)
        Loop().wait_until(lambda: not tcp_sockets.state(server, *ends["server"]), 5, look_s=0.005)
        seen.append(states())
        resting = tcp_sockets.table(client)
        left = [tcp_sockets.left(client, resting)]
        tcp_sockets.destroy(client, resting)
        left.append(tcp_sockets.left(client, resting))
        seen.append(states())
        return [seen, left, tcp_sockets.state(server, *never), len(tcp_sockets.sockets(server))]


@pytest.mark.parametrize("family", [4, 6])
def test_the_state_of_one_connection_is_looked_up(family, in_sandbox):
    """It is what the whole table has; the listener, which a segment of no connection meets, does not count."""
    seen, left, never, there = in_sandbox(looked_up, family)
    assert [found for found, _ in seen] == [
        ["ESTABLISHED", "ESTABLISHED"],
        ["FIN_WAIT2", "CLOSE_WAIT"],
        ["TIME_WAIT", ""],
        ["", ""],
    ]
    assert all(found == listed for found, listed in seen)
    assert left == [1, 0]  # of what was in TIME_WAIT
    assert never == ""
    assert there == 1  # the listener


def list_and_end():
    with Network(load_topology("pair")) as network:
        client, server = network["client"], network["server"]
        ports = [closed(network, 4), closed(network, 6, 81)]
        loop = Loop()
        loop.wait_until(lambda: tcp_sockets.count(client) == 2, 1, look_s=0.005)
        table = tcp_sockets.table(client)
        first, second = opened(network, port=82)
        states = sorted(s.state for s in tcp_sockets.sockets(client)) + sorted(
            s.state for s in tcp_sockets.sockets(server)
        )
        ended = [tcp_sockets.destroy(client, table[:1]), tcp_sockets.destroy(client, table)]
        left = tcp_sockets.count(client), sorted(s.state for s in tcp_sockets.sockets(client))
        first.close()
        second.close()
        entries = [entry.as_dict() | {"family": entry.family} for entry in sorted(table)]
        return ports, entries, [client.ip4, client.ip6, server.ip4, server.ip6], states, ended, left


@pytest.mark.parametrize("ordinary", [False, True])
def test_both_families_are_listed_and_ended(in_sandbox, request, ordinary):
    """The table has each TIME_WAIT socket with its addresses and what is left of 60 s; ending one
    leaves the others and all live connections; ending what is gone already is harmless, and
    counted."""
    user = request.getfixturevalue("ordinary_user") if ordinary else ""
    ports, entries, (client4, client6, server4, server6), states, ended, left = in_sandbox(list_and_end, user=user)
    assert [entry["family"] for entry in entries] == [4, 6]
    assert entries[0]["local"] == f"{client4}:{ports[0]}"
    assert entries[0]["remote"] == f"{server4}:80"
    assert entries[1]["local"] == f"{client6}:{ports[1]}"
    assert entries[1]["remote"] == f"{server6}:81"
    assert all(55 < entry["remaining_s"] <= 60 for entry in entries)
    assert states == ["ESTABLISHED", "TIME_WAIT", "TIME_WAIT", "ESTABLISHED"]
    assert ended == [1, 1]
    assert left == [0, ["ESTABLISHED"]]


def half_close():
    with Network(load_topology("pair")) as network:
        first, second = opened(network)
        first.close()
        loop = Loop()
        mini = loop.wait_until(
            lambda: any(s.state == "FIN_WAIT2" and s.mini for s in tcp_sockets.sockets(network["client"])),
            10,
            look_s=0.005,
        )
        reaper = TimeWaitReaper(network["client"], 0.05)
        loop.sleep(0.3)
        states = [s.state for s in tcp_sockets.sockets(network["client"])]
        counted = tcp_sockets.count(network["client"])
        second.close()
        loop.wait_until(lambda: not tcp_sockets.sockets(network["client"]), 10, look_s=0.005)
        return mini, counted, states, reaper.stop().ended


def test_a_fin_wait2_mini_socket_is_no_time_wait(in_sandbox):
    """While the peer has not closed, the mini-socket is in FIN_WAIT2: not listed, not counted, not
    ended by the reaper, until the peer's FIN makes it a TIME_WAIT."""
    assert in_sandbox(half_close) == [True, 0, ["FIN_WAIT2"], 1]


def dual_stack():
    with Network(load_topology("pair")) as network:
        client, server = network["client"], network["server"]
        with server.socket(socket.AF_INET6) as listener, client.socket() as first:
            listener.bind(("::", 80))
            listener.listen()
            first.connect((server.ip4, 80))
            second, _ = listener.accept()
            second.close()
        loop = Loop()
        loop.wait_until(lambda: tcp_sockets.count(server), 10, look_s=0.005)
        entry = tcp_sockets.table(server)[0]
        return entry.family, entry.local == server.ip4, tcp_sockets.destroy(server, [entry]), tcp_sockets.count(server)


def test_ipv4_on_an_ipv6_socket_is_found_and_ended(in_sandbox):
    """A listener on :: takes IPv4 connections too; their TIME_WAIT sockets are IPv6 ones with an
    IPv4 address.
    """
    assert in_sandbox(dual_stack) == [6, True, 1, 0]


def ask_twice():
    return tcp_sockets.destroyable(), tcp_sockets.destroyable()


def test_whether_the_kernel_can_end_them_is_tried_out(in_sandbox):
    """Found out by ending one, and remembered. (The other tests here need a kernel that can.)"""
    assert in_sandbox(ask_twice) == [True, True]


def measure_life(age_s, rate, count):
    """Make `count` TIME_WAIT sockets at `rate` per second under a reaper: how many are left after
    their age, how many it ended, by how much the last of them was late, and how late the machine
    itself was meanwhile. As in a lab, the nodes share no table with the sockets of others."""
    begin_namespaces_in(PINNED)
    with Network(load_topology("pair")) as network:
        loop = Loop()
        with watched() as machine:
            reaper = TimeWaitReaper(network["client"], age_s)
            for index in range(count):
                loop.sleep_until(index / rate)
                closed(network, port=80 + index % 50)
            loop.wait_until(lambda: not tcp_sockets.count(network["client"]), age_s + 20, look_s=0.01)
            left = tcp_sockets.count(network["client"])
            report = reaper.stop()
        return left, report.ended, report.worst_late_ms, machine.late_ms


@pytest.mark.parametrize("age_s", [0.01, 0.2, 1.0])
def test_each_is_ended_within_50_ms_of_its_age(in_sandbox, age_s):
    """From 10 ms to 1 s: never early (which would show as a negative lateness), all of them, and at
    most 50 ms later than a process is that needs as much of the processor: on an idle machine that
    is 50 ms, and where such a process has to wait for its turn, the reaper has to, too."""
    left, ended, worst_late_ms, machine_ms = in_sandbox(measure_life, age_s, 200, 200)
    for _ in range(2):
        if worst_late_ms > 50 + machine_ms:  # the two are not late at the same moments
            left, ended, worst_late_ms, machine_ms = in_sandbox(measure_life, age_s, 200, 200)
    assert (left, ended) == (0, 200)
    assert 0 <= worst_late_ms <= 50 + machine_ms


def make_many(age_s, count):
    with Network(load_topology("pair")) as network:
        node, loop = network["client"], Loop()
        origin = LoadServer(network["server"], loop, ports=range(80, 96))
        targets = [(network["server"].address(), port) for port in range(80, 96)]
        with watched() as machine:
            with node.inside():
                reaper = TimeWaitReaper(node, age_s)
            load = Load(rate_per_s=1e6, duration_s=count / 1e6, targets=targets, tick_s=0.001, timed=False)
            first_s = loop.now_s
            LoadClient(node, loop, load).run()
            loop.wait_until(lambda: tcp_sockets.count(node) >= count, 2, look_s=0.05)
            made_s = loop.now_s - first_s
            most = tcp_sockets.count(node)
            began_s = time.process_time()
            tcp_sockets.table(node)
            listed_s = time.process_time() - began_s
            loop.wait_until(lambda: not tcp_sockets.count(node), age_s + 20, look_s=0.05)
            left = tcp_sockets.count(node)
            report = reaper.stop()
        origin.close()
        return most, left, listed_s, report.worst_late_ms, report.busy, machine.late_ms, made_s


@pytest.mark.slow
def test_28000_sockets_cost_little_and_end_in_time(in_sandbox):
    """With 28,000 sockets in TIME_WAIT the reaper uses under 10 % of a core and is at most 50 ms
    late, beyond what the machine itself is; listing them all does not stall. Best of three: the
    machine may be busy with something else, and then they live three times as long as making them
    took in the run before."""
    runs = [in_sandbox(make_many, 12.0, 28_000)]
    while len(runs) < 3 and (runs[-1][3] > 50 + runs[-1][5] or runs[-1][0] != 28_000):
        runs.append(in_sandbox(make_many, 12.0 + 3 * runs[-1][6], 28_000))
    most, left, listed_s, worst_late_ms, busy, machine_ms, _ = runs[-1]
    assert (most, left) == (28_000, 0)
    assert listed_s < 0.5
    assert worst_late_ms <= 50 + machine_ms
    assert busy < 0.10


def rearm():
    with Network(load_topology("pair")) as network:
        client = network["client"]
        loop = Loop()
        tuning = Tuning(client, Settings(rfc1337=True), loop, Transcript(lambda: loop.now_s))
        with tuning, client.socket(socket.AF_PACKET, socket.SOCK_RAW, 0x0300) as tap:
            reaper = TimeWaitReaper(client, 1.0)
            closed(network)
            loop.wait_until(lambda: tcp_sockets.count(client), 10, look_s=0.005)
            began_s = loop.now_s
            frames = []
            tap.setblocking(False)
            try:
                while True:
                    frame, address = tap.recvfrom(2048)
                    if address[2] != socket.PACKET_OUTGOING and frame[14 + 20 + 13] & 1:
                        frames.append(frame)
            except BlockingIOError:
                pass
            loop.sleep(0.6)
            before_s = tcp_sockets.table(client)[0].remaining_s
            link = client.interfaces[0].peer
            with link.node.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
                out.bind((link.name, 0))
                out.send(frames[-1])  # the server's FIN once more
            loop.sleep(0.05)
            after_s = tcp_sockets.table(client)[0].remaining_s
            while tcp_sockets.count(client):
                loop.sleep(0.001)
            reaper.stop()
            return before_s, after_s, loop.now_s - began_s


def test_rearming_starts_the_age_anew(in_sandbox):
    """A duplicate FIN sets the kernel's timer back to 60 s. The reaper looks before it ends a
    socket, and lets it live its age from there.
    """
    before_s, after_s, lasted_s = in_sandbox(rearm, calm_s=0.05)
    assert before_s < 59.5 < after_s
    assert 1.6 <= lasted_s <= 1.8


def kill_reaper():
    with Network(load_topology("pair")) as network:
        reaper = TimeWaitReaper(network["client"], 1.0)
        os.kill(reaper._pid, signal.SIGKILL)
        try:
            reaper.stop()
        except EngineError as error:
            return error.slug


def test_a_reaper_that_was_killed_is_an_error(in_sandbox):
    """If TIME_WAIT was not kept short to the end, the arm shows nothing, and that is said."""
    assert in_sandbox(kill_reaper) == "keeper-ended-early"


def orphan():
    """A lab in a child process, killed: is its reaper gone as well?"""
    receive, send = os.pipe()
    lab = os.fork()
    if lab == 0:
        with Network(load_topology("pair")) as network:
            os.write(send, struct.pack("=i", TimeWaitReaper(network["client"], 30.0)._pid))
            signal.pause()
    (pid,) = struct.unpack("=i", os.read(receive, 4))
    os.kill(lab, signal.SIGKILL)
    os.waitpid(lab, 0)
    loop = Loop()
    return loop.wait_until(lambda: _gone(pid), 30, look_s=0.01)


def _gone(pid):
    try:
        os.waitpid(pid, os.WNOHANG)  # orphans are ours: this is pid 1 of the sandbox, or its child
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] == "Z"
    except (ChildProcessError, FileNotFoundError):
        return not os.path.exists(f"/proc/{pid}")


def test_the_reaper_dies_with_its_lab(in_sandbox):
    """Killed with SIGKILL, a lab leaves no reaper behind."""
    assert in_sandbox(orphan)


def parse_mixed():
    record = struct.pack("=IHHIIBBBB48sIIIII", 88, 20, 2, 0, 0, 2, 6, 3, 0, b"i" * 48, 1000, 0, 0, 0, 7)
    longer = struct.pack("=I", 96) + record[4:] + struct.pack("=HHI", 8, 15, 1)
    done = struct.pack("=IHHIIi", 20, 3, 2, 0, 0, 0)
    parts = (record * 3, record + longer + done, done)
    return [([one.expires_ms for one in found], end) for found, end in map(inet_diag._parse, parts)]


def test_answers_of_any_length_are_read():
    """Records of one length are read in bulk, others one by one, and the end of a dump may stand in
    the same datagram.
    """
    assert parse_mixed() == [([1000] * 3, False), ([1000] * 2, True), ([], True)]
