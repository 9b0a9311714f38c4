"""A look at the machine itself: as any user, into every namespace, without a change, a packet or a
module.
"""

import ast
import contextlib
import gzip
import io
import json
import os
import re
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT, as_user
from diagnose_cases import by_bind, judged, listening, open_
from rich.console import Console

from twlab.diagnose import columns, live, permission, places, prometheus, screen
from twlab.diagnose.collect import command
from twlab.diagnose.diagnosis import Diagnosis, diagnose
from twlab.diagnose.snapshot import Snapshot
from twlab.diagnose.texts.assemble import Text, snapshot
from twlab.diagnose.watch import watch
from twlab.errors import CapabilityError


@contextlib.contextmanager
def connected():
    """A connection over loopback, with both ends open."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with socket.create_connection(listener.getsockname()) as near, listener.accept()[0] as far:
            yield near, far


def own(made):
    return next(place for place in made.namespaces if place.name == "this machine")


def test_an_open_connection_is_seen_with_its_process():
    """Both ends, the listener, the owner's name and number; timestamps asked of the kernel."""
    with connected() as (near, _):
        place = own(live.read(0))
        found = {int(port) for port in place.sockets.local_port}
        assert {near.getsockname()[1], near.getpeername()[1]} <= found
        index = int(np.flatnonzero(place.sockets.local_port == near.getsockname()[1])[0])
        assert place.owners[int(place.sockets.inode[index])].endswith(f"[{os.getpid()}]")
        assert place.sockets.timestamps[index] in (0, 1)
    assert place.settings["net.ipv4.ip_local_port_range"] and place.counters["TcpActiveOpens"] > 0


def test_two_looks_give_rates():
    """The counters are read twice; what was opened in between is counted."""

    def open_some(_seconds):
        for _ in range(5):
            with connected():
                pass
        time.sleep(0.05)

    place = own(live.read(0.05, open_some))
    assert place.rates["TcpActiveOpens"] > 1


def namespaces():
    """In the sandbox: a second namespace with a connection in TIME_WAIT, and one more that has a
    name only.
    """
    script = "import socket,time\n" + "s=socket.socket();s.bind(('127.0.0.1',0));s.listen()\n"
    script += "c=socket.create_connection(s.getsockname());a,_=s.accept();c.close();a.close();print('x',flush=True);time.sleep(60)"  # noqa: E501
    inside = f'ip link set lo up && exec {sys.executable} -c "{script}"'
    with subprocess.Popen(["unshare", "--net", "sh", "-c", inside], stdout=subprocess.PIPE) as other:
        assert other.stdout.readline()
        subprocess.run(["ip", "netns", "add", "blue"], check=True)
        made = live.read(0)
        home = os.stat("/proc/self/ns/net").st_ino
        other.kill()
        tables = {place.name: [int((place.sockets.state == 6).sum()), place.socket_source] for place in made.namespaces}
        return tables, other.pid, home == os.stat("/proc/self/ns/net").st_ino


@pytest.mark.host
def test_other_namespaces_are_looked_into(in_sandbox):
    """Those of processes and those that have a name; afterwards this thread is where it was."""
    tables, pid, at_home = in_sandbox(namespaces)
    assert at_home
    (of_process,) = [name for name in tables if f"pid {pid} " in name]
    assert tables[of_process] == [1, "inet_diag"]
    assert tables["netns blue"] == [0, "inet_diag"]


@pytest.mark.host
def test_without_root_other_namespaces_are_read_from_proc(ordinary_user, tmp_path):
    """What cannot be entered is read from /proc/PID/net, and what root would add is said."""
    with subprocess.Popen(["unshare", "--user", "--map-root-user", "--net", "sleep", "60"]) as other:
        try:
            deadline = time.monotonic() + 10
            while os.stat(f"/proc/{other.pid}/net/netstat").st_ino == os.stat("/proc/self/net/netstat").st_ino:
                assert time.monotonic() < deadline
            words = [*as_user(ordinary_user), sys.executable, "-m", "twlab", "diagnose", "--json", "--every", "0"]
            done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=False)
        finally:
            other.kill()
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    (place,) = [place for place in made["namespaces"] if f"pid {other.pid} " in place["namespace"]]
    assert place["sources"]["sockets"] == f"/proc/{other.pid}/net/tcp"
    assert {"what": "the settings of this namespace", "command": "sudo twlab diagnose"} in place["missing"]


WATCHED = """
import json, os, sys
seen = []
def hook(event, arguments):
    if event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        seen.append([event, str(arguments[0])])
    elif event in ("socket.connect", "socket.sendto", "socket.sendmsg", "subprocess.Popen", "os.system", "os.exec"):
        seen.append([event, str(arguments[1:])])
    elif event == "socket.bind" and arguments[0].family != 16:
        seen.append([event, str(arguments[1:])])
    elif event == "socket.__new__" and arguments[1] not in (16, -1):
        seen.append([event, str(arguments[1:])])
from twlab.diagnose import live
from twlab.diagnose.diagnosis import diagnose
sys.addaudithook(hook)
diagnose(live.read(0)).as_dict()
print(json.dumps(seen))
"""


def test_nothing_is_written_sent_or_started():
    """No file is opened to be written, no socket but netlink's is made, no program is run."""
    done = subprocess.run([sys.executable, "-B", "-c", WATCHED], capture_output=True, text=True, cwd=ROOT, check=True)
    assert json.loads(done.stdout) == []


def machine(folder, **files):
    """A root folder with these files of a kernel that may have modules."""
    for path, content in {"proc/net/tcp": b"", **files}.items():
        file = folder / path.replace("RELEASE", os.uname().release)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("files", "allowed"),
    [
        ({"proc/modules": b"tcp_diag 12 0 - Live 0x0\ninet_diag 20 1 tcp_diag, Live 0x0\n"}, True),
        ({"proc/modules": b"inet_diag 20 0 - Live 0x0\n"}, False),
        ({"proc/modules": b"udp_diag 20 0 - Live 0x0\n", "sys/module/tcp_diag/refcnt": b"0"}, True),
        ({}, True),  # no /proc/modules: a kernel without modules
        ({"proc/modules": b"", "proc/sys/kernel/modules_disabled": b"1\n"}, True),
        ({"proc/modules": b"", "lib/modules/RELEASE/modules.builtin": b"kernel/net/ipv4/tcp_diag.ko\n"}, True),
        ({"proc/modules": b"", "lib/modules/RELEASE/modules.builtin": b"kernel/net/ipv4/udp_tunnel.ko\n"}, False),
        ({"proc/modules": b"", "boot/config-RELEASE": b"CONFIG_INET_TCP_DIAG=y\n"}, True),
        ({"proc/modules": b"", "boot/config-RELEASE": b"CONFIG_INET_TCP_DIAG=m\n"}, False),
        ({"proc/modules": b"", "proc/config.gz": gzip.compress(b"CONFIG_INET_TCP_DIAG=y\n")}, True),
        ({"proc/modules": b"", "proc/config.gz": b"broken"}, False),
        ({"proc/modules": b"", "proc/kallsyms": b"0 t tcp_diag_dump\n"}, True),
        ({"proc/modules": b"", "proc/kallsyms": b"0 t tcp_diag_dump\t[tcp_diag]\n0 t tcp_v4_rcv\n"}, False),
    ],
)
def test_inet_diag_is_asked_only_where_nothing_can_be_loaded(tmp_path, files, allowed):
    """Loaded, built in, or no more modules: it is asked. A module on disk: it is not."""
    assert bool(permission.loads_nothing(machine(tmp_path, **files))) is allowed


def test_without_inet_diag_proc_serves(monkeypatch):
    """Where asking could load a module, /proc/net/tcp has the same sockets, and what it lacks is
    said.
    """
    with connected() as (near, _):
        monkeypatch.setattr(permission, "loads_nothing", lambda: "")
        place = own(live.read(0, only_own=True))
        assert place.socket_source.endswith("net/tcp") and near.getsockname()[1] in place.sockets.local_port
    assert any("would load the module tcp_diag" in what for what, _ in place.missing)


@pytest.mark.parametrize("cut", [0, 1, 40, 87, 88, 100, 175, 176])
def test_a_dump_that_breaks_off_gives_what_is_whole(cut):
    """Messages that are cut, or say a length that cannot be, end the decoding."""
    message = np.zeros(1, columns._MESSAGE)
    message["length"], message["family"], message["state"] = 88, socket.AF_INET, 6
    data = np.frombuffer(message.tobytes() * 2, np.uint8)[:cut]
    assert len(columns.decode(data)) == cut // 88
    message["length"] = 4
    assert len(columns.decode(np.frombuffer(message.tobytes(), np.uint8))) == 0


def test_each_peer_has_a_key_alone():
    """65,536 ports of 300 peers: no two have one key."""
    peers = np.array([[0xFFFF0000 << 32 | number << 40 | 10, number] for number in range(300)], np.uint64).repeat(
        65536, 0
    )
    ports = np.tile(np.arange(65536, dtype=np.uint16), 300)
    keys = np.sort(columns.peer_key(peers, ports))  # np.unique hashes them: a hundred times as long
    assert len(keys) == len(ports)
    assert (keys[1:] != keys[:-1]).all()


def test_our_own_namespace_comes_first():
    """And is not entered a second time under another process's name."""
    seen = places.all_visible()
    assert seen[0].own and sum(place.own for place in seen) == 1
    assert len({place.net for place in seen if place.net}) == sum(bool(place.net) for place in seen)


def exhausted():
    """The diagnosis of a program that binds first, with a label that needs escaping."""
    return Diagnosis(
        Snapshot('a "host"', []),
        (judged([*listening(80), *open_("10.0.0.1", "fd00::1", 443, by_bind(100), 'a"b\\c')]),),
    )


SAMPLE = re.compile(r'[a-z_]+\{(?:[a-z]+="(?:[^"\\\n]|\\["\\n])*",?)+\} (?:\+Inf|-?[0-9.e+-]+)')


def test_metrics_are_in_the_textfile_format(tmp_path):
    """HELP and TYPE before each metric, every sample well-formed, written in one step and readable
    by the exporter.
    """
    made = exhausted()
    prometheus.write(made, tmp_path / "ports.prom")
    lines = (tmp_path / "ports.prom").read_text().splitlines()
    assert all(SAMPLE.fullmatch(line) or re.fullmatch(r"# (HELP|TYPE) twlab_\w+ .+", line) for line in lines)
    assert any(line.startswith("twlab_pool_ports_taken{") and line.endswith(" 100") for line in lines)
    assert 'destination="fd00::1",port="443"} +Inf' in prometheus.text(made)
    assert [path.name for path in tmp_path.iterdir()] == ["ports.prom"]
    assert (tmp_path / "ports.prom").stat().st_mode & 0o777 == 0o644
    with pytest.raises(CapabilityError, match="cannot write"):
        prometheus.write(made, tmp_path / "none" / "x.prom")


def test_watching_draws_the_screen_again(tmp_path):
    """As often as asked; the metrics are written each time."""
    console = Console(file=io.StringIO(), width=120)
    watch(console, 0.01, tmp_path / "x.prom", times=2)
    assert console.file.getvalue().count("Linux") == 2
    assert (tmp_path / "x.prom").exists()


@pytest.mark.parametrize("shell", [[], ["busybox"]])
def test_the_line_of_collection_collects(shell):
    """Run by sh, or by busybox's, it prints what the diagnosis needs; nothing in it is not
    understood.
    """
    line = command()
    assert "\n" not in line and line.count("'") == 2
    words = [*shell, "sh", "-c", line]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        pytest.skip("busybox is not installed")
    made = snapshot([Text("standard input", done.stdout.splitlines(keepends=True))], "test")
    (place,) = made.namespaces
    assert made.unread == {}
    assert len(place.sockets) and place.range_known and place.counters["TcpActiveOpens"]
    assert diagnose(made).parts[0].answer


def test_start_up_is_light():
    """Neither the command line nor the package loads numpy."""
    script = "import sys, twlab, twlab.cli; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "False"


def test_the_screen_shows_sources_and_commands():
    """Each fact with its source in brackets, each finding with what shows it, what is missing with
    its command.
    """
    console = Console(file=io.StringIO(), width=140)
    console.print(screen.render(exhausted()))
    shown = console.file.getvalue()
    assert "[ss (ss -tanoep)]" in shown and "see it: twlab run port-exhaustion" in shown and "ss -tani" in shown


def _sets(node: ast.AST, name: str) -> bool:
    """Whether the statement gives a value to the variable `name`."""
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return isinstance(node, ast.Assign | ast.AnnAssign) and name in [ast.unparse(one) for one in targets]


def test_every_scenario_that_is_named_exists():
    """What --show-me would run: scenarios and arms of the catalogue. Those of balancers are rows of the
    table of symptoms, which has a test of its own.
    """
    from twlab.catalogue import load_scenarios

    catalogue = load_scenarios()
    trees = [ast.parse(path.read_text()) for path in (ROOT / "twlab" / "diagnose").glob("*causes.py")]
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    shows = [call.args[5] for call in calls if ast.unparse(call.func) == "Finding" and len(call.args) > 5]
    set_before = [node.value for tree in trees for node in ast.walk(tree) if _sets(node, "shows")]
    tuples = [value for value in (*shows, *set_before) if isinstance(value, ast.Tuple)]
    named = {part.value for found in tuples for part in found.elts if isinstance(part, ast.Constant)}
    assert len(named) > 8
    for words in (name.split() for name in named):
        assert words[0] in catalogue, words
        assert set(words[2::2]) <= set(catalogue[words[0]].arms), words
