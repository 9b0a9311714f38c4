"""HAProxy, nginx and Squid: their configurations are valid and differ in what they are about; they
run without rights, and never outlive the lab.
"""

import os
import signal
import time
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import ROOT
from wired import wired

from twlab.errors import CapabilityError, ScenarioError, UsageError
from twlab.linux import tcp_sockets
from twlab.loop import Loop
from twlab.network import Network, load_topology
from twlab.proxies import SOFTWARE, Upstream
from twlab.results.pcapng import read_capture
from twlab.traffic.http import WebClients, WebServer, wants_close
from twlab.traffic.program import Program, find

UPSTREAM = Upstream(sources=("10.3.2.1", "10.3.2.2", "10.3.2.3", "10.3.2.4"))
GOLDEN = {"haproxy": "port-range", "nginx": "keepalive", "squid": "sources"}
EVERY_WAY = [(name, way) for name, software in SOFTWARE.items() for way in software.ways]
PER_SOFTWARE = pytest.mark.parametrize("name", SOFTWARE)


def need(name):
    try:
        find(name)
    except CapabilityError as error:
        pytest.skip(error.message)


@PER_SOFTWARE
def test_a_configuration_reads_as_written_down(name):
    """Word for word: these are meant to be copied."""
    software = SOFTWARE[name]
    assert (
        software.configuration(GOLDEN[name], UPSTREAM)
        == (ROOT / "tests" / "data" / "proxies" / software.file).read_text()
    )


@PER_SOFTWARE
def test_ways_differ_only_in_what_they_are_about(name):
    """No two ways are the same; each says in its first line what it is; a way changes at most a
    dozen lines of the first one.
    """
    software = SOFTWARE[name]
    texts = [software.configuration(way, UPSTREAM) for way in software.ways]
    assert len(set(texts)) == len(texts)
    for way, text in zip(software.ways, texts, strict=True):
        assert text.startswith(f"# {name}: {software.ways[way]}.\n")
        assert len(set(text.splitlines()) ^ set(texts[0].splitlines())) <= 14, way


@PER_SOFTWARE
def test_a_way_that_is_not_there_is_named_with_those_that_are(name):
    """A typing mistake is no other configuration."""
    with pytest.raises(UsageError, match="no way called 'keepalife'") as refused:
        SOFTWARE[name].configuration("keepalife", UPSTREAM)
    assert all(way in refused.value.remedy for way in SOFTWARE[name].ways)


def test_missing_software_is_told_by_name():
    """And how to get it."""
    with pytest.raises(CapabilityError, match="no-such-proxy is not installed") as missing:
        find("no-such-proxy")
    assert missing.value.slug == "no-program"


def checked(name):
    """Way to what the program says of its configuration; nothing where it accepts it."""
    software, faults = SOFTWARE[name], {}
    with Network(load_topology("proxy,sources=4")) as network:
        for way in software.ways:
            loop = Loop()
            program = Program(
                network["proxy"],
                loop,
                [find(name), *software.check],
                {software.file: software.configuration(way, UPSTREAM)},
            )
            assert loop.wait_until(lambda program=program: program.status is not None, 20)
            if program.status:
                faults[way] = program.read("output")
            program.stop()
            loop.close()
    return faults


@pytest.mark.host
@PER_SOFTWARE
def test_every_configuration_is_accepted_by_the_program_that_it_is_for(name, in_sandbox):
    """As haproxy -c, nginx -t and squid -k parse see it."""
    need(name)
    assert in_sandbox(checked, name) == {}


def while_it_runs(name):
    """What the kernel says of the process, and what is left of it after `stop`."""
    loop, software = Loop(), SOFTWARE[name]
    with Network(load_topology("proxy,sources=4")) as network:
        text = software.configuration(next(iter(software.ways)), UPSTREAM)
        network["proxy"].write_sysctl("net.ipv4.ip_unprivileged_port_start", 0)
        program = Program(network["proxy"], loop, [find(name), *software.arguments], {software.file: text})
        program.wait_until(lambda: listens(network["proxy"]))
        status = dict(
            line.split(":\t", 1)
            for line in Path(f"/proc/{program.pid}/status").read_text().splitlines()
            if ":\t" in line
        )
        elsewhere = os.stat(f"/proc/{program.pid}/ns/net").st_ino != os.stat("/proc/self/ns/net").st_ino
        folder, pid = program.folder, program.pid
        program.stop()
        program.stop()
        left = folder.exists() or Path(f"/proc/{pid}").exists()
    return {
        "rights": int(status["CapEff"], 16),
        "threads": int(status["Threads"]),
        "elsewhere": elsewhere,
        "left": left,
    }


def listens(node):
    return any(sock.state == "LISTEN" for sock in tcp_sockets.sockets(node))


@pytest.mark.host
@PER_SOFTWARE
@pytest.mark.parametrize("user", ["", "nobody"])
def test_it_runs_without_rights_in_the_node_and_leaves_nothing(name, user, in_sandbox, ordinary_user):
    """No capability, in the proxy's network namespace; after `stop` neither process nor folder.
    Root and an ordinary user alike.
    """
    need(name)
    ran = in_sandbox(while_it_runs, name, user=user and ordinary_user)
    assert ran == ran | {"rights": 0, "elsewhere": True, "left": False}


def killed_lab(name):
    """A lab that starts the program is killed at once; whether the program is still there a moment
    later.
    """
    told, tell = os.pipe()
    lab = os.fork()
    if lab == 0:
        network, loop, software = Network(load_topology("proxy")), Loop(), SOFTWARE[name]
        network.__enter__()
        text = software.configuration(next(iter(software.ways)), UPSTREAM)
        program = Program(network["proxy"], loop, [find(name), *software.arguments], {software.file: text})
        program.wait_until(lambda: listens(network["proxy"]))
        os.write(tell, str(program.pid).encode())
        os.kill(os.getpid(), signal.SIGKILL)
    pid = int(os.read(told, 20))
    os.waitpid(lab, 0)
    deadline_s = time.monotonic() + 60
    while alive(pid) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    return alive(pid)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.host
@PER_SOFTWARE
def test_it_dies_with_the_lab(name, in_sandbox):
    """kill -9 of the process that started it."""
    need(name)
    assert in_sandbox(killed_lab, name) is False


def broken():
    loop = Loop()
    with Network(load_topology("proxy")) as network:
        program = Program(
            network["proxy"], loop, [find("nginx"), *SOFTWARE["nginx"].arguments], {"nginx.conf": "no such thing;"}
        )
        try:
            program.wait_until(lambda: False, 5)
        except ScenarioError as error:
            return [error.slug, error.message]
        finally:
            program.stop()


@pytest.mark.host
def test_a_proxy_that_ends_instead_of_serving_is_told_with_its_last_words(in_sandbox):
    """What it printed stands in the message."""
    need("nginx")
    slug, message = in_sandbox(broken)
    assert slug == "program-ended"
    assert 'unknown directive "no"' in message


def asked(keep_alive, hangs_up, patience_s=10.0, port=80):
    """Twenty requests straight to an origin: what the clients and the origin count."""
    loop = Loop()
    with Network(load_topology("pair")) as network:
        origin = WebServer(network["server"], loop, hangs_up=hangs_up)
        address = (network["server"].address(), port)
        clients = WebClients(
            network["client"],
            loop,
            address,
            rate_per_s=200,
            duration_s=0.1,
            keep_alive=keep_alive,
            patience_s=patience_s,
        )
        finished = loop.wait_until(lambda: clients.done, 60)
        clients.close()
        origin.close()
    return [
        finished,
        dict(clients.answers),
        clients.connections,
        origin.connections,
        origin.requests,
        dict(origin.sources),
    ]


@pytest.mark.host
def test_clients_keep_their_connections_or_have_one_for_each_request(in_sandbox):
    """Straight to an origin, without a proxy."""
    finished, answers, opened, accepted, requests, sources = in_sandbox(asked, True, True)
    assert (finished, answers, requests) == (True, {"200": 20}, 20)
    assert opened == accepted < 20
    assert sources == {"10.0.1.1": accepted}
    assert in_sandbox(asked, False, False)[:5] == [True, {"200": 20}, 20, 20, 20]


class Timed(WebClients):
    """Clients that note when they connect."""

    def _connect(self, now_s):
        self.at_s = [*getattr(self, "at_s", []), now_s]
        return super()._connect(now_s)


def asked_late():
    """When twenty requests at 40 a second are sent, if the machine holds the lab up for 0.2 s."""
    with wired() as lab:
        node = lab.network["server"]
        origin = WebServer(node, lab.loop)
        clients = Timed(
            lab.network["client"],
            lab.loop,
            (node.address(), 80),
            rate_per_s=40,
            duration_s=0.5,
            keep_alive=False,
        )
        lab.loop.call_later(0.1, lambda: time.sleep(0.2))
        lab.loop.wait_until(lambda: clients.done, 60)
        clients.close()
        origin.close()
    return clients.at_s


@pytest.mark.host
def test_a_late_machine_makes_no_burst_of_requests(in_sandbox):
    """A burst would take more ports than the rate needs: what is late comes 1.15 times as fast."""
    at_s = in_sandbox(asked_late)
    gaps = [later - earlier for earlier, later in pairwise(at_s)]
    assert len(at_s) == 20
    assert min(gaps) >= 0.86 / 40
    assert max(gaps) > 0.15


def sent_by_the_origin(hangs_up, file):
    """The flags of the segments with payload that an origin sends to two clients."""
    with wired(capture=Path(file)) as lab:
        origin = WebServer(lab.network["server"], lab.loop, hangs_up=hangs_up)
        clients = WebClients(
            lab.network["client"],
            lab.loop,
            (lab.network["server"].address(), 80),
            rate_per_s=20,
            duration_s=0.1,
            keep_alive=False,
            request=b"GET / HTTP/1.1\r\nHost: origin\r\nConnection: close\r\n\r\n",
        )
        lab.loop.wait_until(lambda: clients.done, 60)
        clients.close()
        origin.close()
        lab.loop.sleep(0.2)
    ours = [one.segment for one in read_capture(Path(file)) if one.outbound and one.segment.source_port == 80]
    return sorted({one.flags for one in ours if one.length})


@pytest.mark.host
def test_an_origin_that_closes_first_sends_its_fin_with_the_answer(in_sandbox, tmp_path):
    """Else a proxy that knows the answer's length could close first, as the machine's load has it."""
    assert in_sandbox(sent_by_the_origin, True, str(tmp_path / "first.pcapng")) == ["FPA"]
    assert in_sandbox(sent_by_the_origin, False, str(tmp_path / "last.pcapng")) == ["PA"]


@pytest.mark.host
def test_a_request_that_is_refused_is_counted_by_its_error(in_sandbox):
    """Where no program listens, ECONNREFUSED; the load goes on."""
    assert in_sandbox(asked, True, True, 10.0, 81)[:2] == [True, {"ECONNREFUSED": 20}]


def without_a_port():
    loop = Loop()
    with Network(load_topology("pair")) as network:
        # An even number: of an odd one, connect() leaves the first or the last out, as it falls
        # (net/ipv4/inet_hashtables.c, `remaining &= ~1U`).
        network["client"].write_sysctl("net.ipv4.ip_local_port_range", "40000 40005")
        origin = WebServer(network["server"], loop, hangs_up=False)
        clients = WebClients(
            network["client"], loop, (network["server"].address(), 80), rate_per_s=100, duration_s=0.1, keep_alive=False
        )
        finished = loop.wait_until(lambda: clients.done, 60)
        origin.close()
    return [finished, dict(clients.answers)]


@pytest.mark.host
def test_clients_that_run_out_of_ports_themselves_say_so(in_sandbox):
    """It is not taken for the proxy's failure, and does not end the load."""
    assert in_sandbox(without_a_port) == [True, {"200": 6, "EADDRNOTAVAIL": 4}]


@pytest.mark.parametrize(
    ("head", "close"),
    [
        (b"GET / HTTP/1.1\r\nHost: x", False),
        (b"GET / HTTP/1.0\r\nHost: x", True),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive", False),
        (b"HTTP/1.1 200 OK\r\nConnection: close", True),
        (b"HTTP/1.1 200 OK\r\nconnection:CLOSE\r\nx: y", True),
        (b"GET /HTTP/1.0 HTTP/1.1\r\nx: HTTP/1.0", False),
    ],
)
def test_who_wants_the_connection_closed(head, close):
    """RFC 9112 section 9.3."""
    assert wants_close(head) is close
