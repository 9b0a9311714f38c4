"""Which lines of a text belong together: runs, namespaces, services, and what a tool cut off."""

import gzip

import pytest
from conftest import ROOT
from diagnose_cases import HEADER, by_bind, by_connect, judged, listening, waiting

from twlab.diagnose import owners, places
from twlab.diagnose.diagnosis import diagnose
from twlab.diagnose.prometheus import write
from twlab.diagnose.snapshot import Snapshot, shown
from twlab.diagnose.texts.assemble import Text, snapshot
from twlab.diagnose.texts.reading import read
from twlab.errors import CapabilityError, UsageError

DATA = ROOT / "tests" / "data" / "diagnose"
LONG = "2001:db8:85a3::8a2e:370:7331"


def parsed(*texts):
    (place,) = snapshot([Text(name, lines) for name, lines in texts], "test").namespaces
    return place


def netstat(proto, width, *pairs):
    """Lines of netstat, addresses cut so that they have `width` columns with their ports."""

    def field(address, port):
        return f"{address[: width - 1 - len(str(port))]}:{port}"

    return [
        "Proto Recv-Q Send-Q Local Address           Foreign Address         State\n",
        *(f"{proto}       0      0 {field(*local):<23} {field(*remote):<23} TIME_WAIT\n" for local, remote in pairs),
    ]


def test_addresses_that_netstat_cut_are_not_read():
    """Four destinations look like one: what may have been cut is left out, and -W is asked for."""
    pairs = [((LONG, 40_000 + i), (f"2001:db8:85a3::8a2e:371:733{i % 4}", 443)) for i in range(200)]
    made = snapshot([Text("netstat -tan", netstat("tcp6", 23, *pairs, (("fd00::1", 4000), ("fd00::2", 80))))], "test")
    (place,) = made.namespaces
    assert [shown(address) for address in place.sockets.remote] == ["fd00::2"]
    assert made.unread == {"netstat, this machine": 200}
    assert ("IPv6 sockets: netstat cuts long addresses", "netstat -W, or ss -tanoe") in place.missing


@pytest.mark.parametrize(("proto", "heading"), [("tcp", "netstat -tan"), ("tcp6", "netstat -Wtan"), ("tcp6", "x")])
def test_whole_addresses_are_read(proto, heading):
    """Those of busybox, which calls them tcp, and of net-tools with -W: one of them has 23 columns."""
    pairs = [((LONG, 40_000), (LONG, 443)), (("fd00:1:2:3::77:88", 50_000), ("fd00::2", 80))]
    lines = netstat(proto, 99, *(pairs if heading == "x" else pairs[1:]))
    assert len(parsed((heading, lines)).sockets) == len(lines) - 1


def test_entries_of_conntrack_count_once():
    """A sos report has them twice: from the tool, and as the kernel's file."""
    entry = (
        "ipv4     2 tcp      6 100 TIME_WAIT src=192.168.0.9 dst=198.51.100.7 sport=1024 dport=443 "
        "src=198.51.100.7 dst=203.0.113.1 sport=443 dport=1024 [ASSURED] mark=0 "
    )
    files = [
        ("sos_commands/conntrack/conntrack_-L", [entry + "use=1\n"]),
        ("proc/net/nf_conntrack", [entry + "zone=0 use=2\n"]),
    ]
    assert len(parsed(*files).gateway) == 1


def test_no_time_left_is_a_time():
    """ss writes `timer:(timewait,,0)` where less than a millisecond is left."""
    lines = [HEADER, "TIME-WAIT 0 0 10.0.0.1:40000 10.0.0.2:80 timer:(timewait,,0)\n"]
    assert parsed(("ss -tano", lines)).sockets.remaining_ms.tolist() == [0]


@pytest.mark.parametrize("form", ["-N {}", "-tanoN {}", "--net={}", "-tano --net {} state time-wait"])
def test_ss_of_a_namespace_is_that_namespace_s(form):
    """`ss -N blue` and `ss -N red` are two machines, as it were."""
    lines = []
    for name, ports in (("blue", by_connect(100)), ("red", by_bind(100))):
        lines += [f"==> ss {form.format(name)} <==\n", HEADER, *waiting("10.0.0.1", "10.0.0.2", 80, ports, 10)]
    made = snapshot([Text("both", lines)], "test")
    assert [(place.name, len(place.sockets)) for place in made.namespaces] == [("netns blue", 100), ("netns red", 100)]


def test_of_two_runs_in_a_log_the_last_is_read():
    """They are of different times; that the first is left out is said."""
    runs = [
        [HEADER, *listening(22), *waiting("10.0.0.1", "10.0.0.2", 80, ports, 10)]
        for ports in (by_connect(100), by_bind(90))
    ]
    place = parsed(("log", ["Mon Nov 30 04:22:33 UTC 2026\n", *runs[0], "Mon Nov 30 04:24:33 UTC 2026\n", *runs[1]]))
    assert len(place.sockets) == 91
    assert ("the first 1 of 2 runs of ss in log", "a file for each run") in place.missing
    two = parsed(("before", runs[0]), ("after", runs[1]))
    assert len(two.sockets) == 191 and not two.missing


def test_listeners_in_a_list_of_their_own_belong_to_the_connections():
    """`ss -tn; ss -tln` in one text."""
    place = parsed(
        ("both", [HEADER, *waiting("10.0.0.1", "10.0.0.2", 80, by_connect(100), 10), HEADER, *listening(22, 80)])
    )
    assert len(place.sockets) == 102 and not place.missing


@pytest.mark.parametrize("prompt", ["[root@web1 ~]# ", "root@web1:/tmp# ", "me@web-1.example:~$ ", "$ "])
def test_a_pasted_prompt_is_a_heading(prompt):
    """It says the state that ss leaves out."""
    lines = [
        f"{prompt}ss -tan state time-wait\n",
        "Recv-Q Send-Q Local Address:Port Peer Address:Port\n",
        *(f"0      0      10.0.0.1:{port}  10.0.0.2:80\n" for port in by_connect(60)),
    ]
    assert len(parsed(("paste", lines)).sockets) == 60


def test_servers_of_a_udp_service_are_not_those_of_the_tcp_service_above():
    """An unindented line begins another service."""
    lines = [
        "IP Virtual Server version 1.2.1 (size=4096)\n",
        "Prot LocalAddress:Port Scheduler Flags\n",
        "  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n",
        "TCP  10.96.0.1:443 rr\n",
        "  -> 10.0.0.2:6443      Masq    1      5          0\n",
        "UDP  10.96.0.10:53 rr\n",
        "  -> 10.244.0.5:53      Masq    0      0          12\n",
        "FWM  1 rr\n",
        "  -> 10.244.0.6:53      Masq    0      0          12\n",
    ]
    made = snapshot([Text("ipvsadm -Ln", lines)], "test")
    assert [(one.service[1], one.server[1]) for one in made.namespaces[0].balanced] == [(443, 6443)]
    assert not made.unread


def test_a_packed_file_in_a_folder_is_read(tmp_path):
    """As one that is given by its name."""
    (tmp_path / "ss_-tano.gz").write_bytes(gzip.compress((DATA / "ss-7.3.txt").read_bytes()))
    (place,) = snapshot(read([str(tmp_path)]), "test").namespaces
    assert len(place.sockets) == 21 and "ss_-tano" in place.socket_source


@pytest.mark.parametrize("name", ["s.tar.xz", "s.txt.gz", "folder/s.txt.gz"])
def test_a_broken_packing_is_refused(tmp_path, name):
    """With the name of the file."""
    import lzma

    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    whole = (lzma if "xz" in name else gzip).compress(bytes(range(256)) * 1000)
    path.write_bytes(whole[:40] + b"broken" + whole[46:])
    with pytest.raises(UsageError, match="cannot be read"):
        list(read([str(path.parent if "/" in name else path)]))


@pytest.mark.parametrize("path", ["/etc/passwd/x", "/", ".", ""])
def test_metrics_that_cannot_be_written(path):
    """A message, and no traceback."""
    from pathlib import Path

    with pytest.raises(CapabilityError, match="cannot write"):
        write(diagnose(Snapshot("test", [])), Path(path))


def test_two_namespaces_of_one_name_are_told_apart(tmp_path, monkeypatch):
    """Of ip-netns and of Docker: each metric has one value for a name."""
    folders = [tmp_path / "netns", tmp_path / "docker"]
    for folder in folders:
        folder.mkdir()
        (folder / "blue").touch()
    monkeypatch.setattr(places, "_NAMED", tuple(folders))
    assert sorted(name for name, _ in places._names().values()) == ["blue", f"blue in {folders[1]}"]


def test_threads_of_the_kernel_are_no_programs(monkeypatch):
    """They have no files, and root would see none."""
    assert not owners._of_kernel("self")
    monkeypatch.setattr(owners, "read_file", lambda _: b"7 (kworker/0:1 (x)) I 2 0 0 0 -1 69238880 0 0")
    assert owners._of_kernel("7")


def test_a_socket_without_time_left_is_dated():
    """One socket without time left: dated, and closed a minute ago."""
    part = judged([*listening(22), "TIME-WAIT 0 0 10.0.0.1:40000 10.0.0.2:80 timer:(timewait,,0)\n"])
    assert part.measured.pools[0].rate.dated and part.measured.pools[0].rate_per_s == 0
