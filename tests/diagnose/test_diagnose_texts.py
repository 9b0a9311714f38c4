"""Texts of many tools and versions about one machine: the same sockets come out of each."""

import io
import tarfile

import numpy as np
import pytest
from conftest import ROOT

from twlab.diagnose.snapshot import packed, shown
from twlab.diagnose.texts import recognize
from twlab.diagnose.texts.assemble import Text, snapshot
from twlab.diagnose.texts.gathered import parted
from twlab.diagnose.texts.reading import read
from twlab.diagnose.texts.ss import _milliseconds
from twlab.errors import UsageError
from twlab.linux import inet_diag

DATA = ROOT / "tests" / "data" / "diagnose"
FULL = [
    "ss-6.1.txt",
    "ss-6.15.txt",
    "ss-7.3.txt",
    "ss-7.3-plain.txt",
    "ss-7.3-oneline.txt",
    "ss-7.3-sos.txt",
    "netstat.txt",
    "netstat-an.txt",
    "busybox.txt",
]


def lines(name):
    return (DATA / name).read_text().splitlines(keepends=True)


def parsed(text, name="text"):
    (place,) = snapshot([Text(name, text)], "test").namespaces
    return place


def listed(sockets):
    """Connections as people write them; a listener's wildcard differs from tool to tool."""
    return sorted(
        (inet_diag.STATES[state], shown(local), int(local_port), shown(remote), int(remote_port))
        for state, local, local_port, remote, remote_port in zip(
            sockets.state, sockets.local, sockets.local_port, sockets.remote, sockets.remote_port, strict=True
        )
        if state != inet_diag.LISTEN
    )


@pytest.mark.parametrize("name", FULL)
def test_every_tool_gives_the_same_sockets(name):
    """ss 6.1, 6.15 and 7.3, net-tools and busybox, IPv4, IPv6 and v4-mapped: as in /proc/net/tcp."""
    truth = parsed(lines("proc.txt")).sockets
    found = parsed(lines(name)).sockets
    assert listed(found) == listed(truth)
    assert len(listed(found)) == 18
    assert (found.state == inet_diag.LISTEN).sum() == (truth.state == inet_diag.LISTEN).sum() == 3


@pytest.mark.parametrize(
    "name",
    ["ss-6.1.txt", "ss-6.15.txt", "ss-7.3.txt", "ss-7.3-oneline.txt", "ss-7.3-sos.txt", "netstat.txt", "proc.txt"],
)
def test_timers_date_the_closes(name):
    """TIME_WAIT and the mini-socket in FIN_WAIT2 have a timer, which is not one of an open
    connection.
    """
    found = parsed(lines(name)).sockets
    closed = (found.state == inet_diag.TIME_WAIT) | ((found.state == 5) & (found.mini == 1))
    assert (found.remaining_ms[closed] > 58_000).all()
    assert (found.remaining_ms[~closed] == -1).all()
    assert closed.sum() == 7


def test_ss_says_who_and_how():
    """Processes, IP_BIND_ADDRESS_NO_PORT and timestamps stand in what ss -tanoeip --inet-sockopt
    prints, in any of its versions.
    """
    for name in ("ss-6.1.txt", "ss-6.15.txt", "ss-7.3.txt"):
        place = parsed(lines(name))
        assert set(place.owners.values()) == {"python[1]"}
        found = place.sockets
        assert (found.no_port == 1).sum() == 1
        established = found.state == 1
        assert (found.timestamps[established] == 1).all() and established.sum() == 10


def test_the_column_state_may_be_missing():
    """`ss state time-wait` prints no State: the command in the heading says it, or the timer."""
    found = parsed(lines("ss-6.1-state.txt")).sockets
    assert (found.state == inet_diag.TIME_WAIT).all() and len(found) == 6
    plain = [line.split("timer")[0].rstrip() + "\n" for line in lines("ss-6.1-state.txt")]
    assert len(parsed(plain, "ss -tan state time-wait").sockets) == 6
    assert snapshot([Text("x", plain)], "test").unread == {"ss, this machine": 6}


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("59sec", 59_000),
        ("940ms", 940),
        ("9.123ms", 9_123),
        ("1min", 60_000),
        ("1min2sec", 62_000),
        ("119min", 7_140_000),
        ("", 0),
        ("soon", -1),
    ],
)
def test_timers_of_ss(text, ms):
    """With the form that means nine seconds and 123 ms."""
    assert _milliseconds(text) == ms


@pytest.mark.parametrize(
    ("text", "address", "port"),
    [
        ("10.0.0.1:80", "10.0.0.1", 80),
        ("[::ffff:10.0.0.1]:80", "10.0.0.1", 80),
        ("::ffff:10.0.0.1:80", "10.0.0.1", 80),
        ("[fd00::1]:http", "fd00::1", 80),
        ("127.0.0.53%lo:53", "127.0.0.53", 53),
        ("[fe80::1]%eth0:22", "fe80::1", 22),
        (":::22", "::", 22),
        ("*:*", "::", 0),
    ],
)
def test_addresses_in_every_form(text, address, port):
    """A v4-mapped address is the IPv4 one, however it is written."""
    raw, number = parted(text)
    assert (shown(raw), number) == (address, port)
    assert len(packed(address)) == 16


def test_texts_glued_together_are_told_apart():
    """Without headings, every stretch goes to its parser; of three listings of the same sockets one
    is taken.
    """
    answer = "src=10.2.1.1 dst=192.0.2.7 sport=80 dport=50000"
    glued = [
        *lines("netstat.txt"),
        f"tcp      6 119 TIME_WAIT src=10.0.0.9 dst=10.2.1.1 sport=40000 dport=80 {answer} [ASSURED] mark=0 use=1\n",
        *lines("ss-7.3.txt"),
        *lines("proc.txt"),
        "net.ipv4.ip_local_port_range = 32768\t60999\n",
        "net.ipv4.tcp_tw_reuse = 2\n",
        "#kernel\n",
        "TcpExtTW                        14                 0.0\n",
        "TcpActiveOpens                  40                 0.0\n",
        "cpu=0   \tfound=0 invalid=3 insert=0 insert_failed=2 drop=1 early_drop=0 error=0\n",
        "cpu=1   \tfound=0 invalid=1 insert=0 insert_failed=3 drop=0 early_drop=0 error=0\n",
        "# pxname,svname,scur,econ,connect,reuse,\n",
        "web,s1,3,7,1000,20,\n",
    ]
    made = snapshot([Text("standard input", glued)], "test")
    (place,) = made.namespaces
    assert made.unread == {}
    assert len(listed(place.sockets)) == 18 and place.socket_source.startswith("ss ")
    assert place.port_range == (32768, 60999) and place.number("tcp_tw_reuse") == 2
    assert place.counters == {
        "TW": 14,
        "TcpActiveOpens": 40,
        "ConntrackInvalid": 4,
        "ConntrackInsert": 0,
        "ConntrackFound": 0,
    } | {
        "ConntrackInsertFailed": 5,
        "ConntrackDrop": 1,
        "ConntrackEarlyDrop": 0,
        "ConntrackError": 0,
    }
    assert place.haproxy[0]["econ"] == "7"
    assert [(shown(entry[0]), entry[1], shown(entry[2]), *entry[3:]) for entry in place.gateway] == [
        ("192.0.2.7", 50000, "10.2.1.1", 80, "TIME_WAIT", 119)
    ]


def test_netstat_s_has_the_counters_of_nstat():
    """Under the names that nstat has for them."""
    text = [
        "Tcp:\n",
        "    40 active connection openings\n",
        "TcpExt:\n",
        "    14 TCP sockets finished time wait in fast timer\n",
    ]
    text += ["    3 time wait sockets recycled by time stamp\n", "    TCPTimeWaitOverflow: 9\n"]
    assert parsed(text).counters == {
        "TcpActiveOpens": 40,
        "TW": 14,
        "TWRecycled": 3,
        "TWKilled": 0,
        "TCPTimeWaitOverflow": 9,
    }


def test_proc_net_netstat_pairs():
    """A line of names above a line of values."""
    assert parsed(
        ["TcpExt: TW TWRecycled\n", "TcpExt: 5 2\n", "Tcp: ActiveOpens MaxConn\n", "Tcp: 7 -1\n"]
    ).counters == {
        "TW": 5,
        "TWRecycled": 2,
        "TcpActiveOpens": 7,
        "TcpMaxConn": -1,
    }


def sos(folder):
    """A sos report's files about the network, with one namespace more."""
    networking = folder / "sosreport-web1" / "sos_commands" / "networking"
    blue = networking / "namespaces" / "blue"
    blue.mkdir(parents=True)
    (networking / "ss_-peaonmi").write_text((DATA / "ss-7.3-sos.txt").read_text())
    (networking / "netstat_-W_-neopa").write_text((DATA / "netstat.txt").read_text())
    (networking / "netstat_-s").write_text("Tcp:\n    40 active connection openings\n")
    (networking / "ip_-s_-d_link").write_text("1: lo: <LOOPBACK>\n")
    (blue / "ip_netns_exec_blue_ss_-peaonmi").write_text((DATA / "ss-6.1.txt").read_text())
    kernel = folder / "sosreport-web1" / "sos_commands" / "kernel"
    kernel.mkdir()
    (kernel / "sysctl_-a").write_text(
        "net.ipv4.tcp_fin_timeout = 15\nkernel.hostname = web1\nnet.ipv4.ip_local_port_range = 1024\t65535\n"
    )
    return folder / "sosreport-web1"


@pytest.mark.parametrize("packing", ["folder", "tar.gz", "tar.xz"])
def test_a_sos_report_is_read(tmp_path, packing):
    """As a folder or as the archive that it comes in; a namespace's files are that namespace's."""
    source = sos(tmp_path)
    if packing != "folder":
        with tarfile.open(tmp_path / f"report.{packing}", f"w:{packing[4:]}") as archive:
            archive.add(source, source.name)
        source = tmp_path / f"report.{packing}"
    made = snapshot(read([str(source)]), "report")
    places = {place.name: place for place in made.namespaces}
    assert set(places) == {"this machine", "netns blue"}
    main = places["this machine"]
    assert (len(listed(main.sockets)), len(listed(places["netns blue"].sockets))) == (18, 18)
    assert main.port_range == (1024, 65535) and main.counters == {"TcpActiveOpens": 40}
    assert made.title == "web1, from report"


@pytest.mark.parametrize("content", [b"\x7fELF\0\0\0", None])
def test_what_is_no_text_is_refused(tmp_path, content):
    """With a message that names the file."""
    path = tmp_path / "thing"
    if content:
        path.write_bytes(content)
    with pytest.raises(UsageError, match="thing"):
        list(read([str(path)]))


def test_a_broken_archive_is_refused(tmp_path):
    """Cut in the middle, or no archive at all."""
    (tmp_path / "report.tar.gz").write_bytes(b"\x1f\x8b\x08\x00garbage")
    with pytest.raises(UsageError, match=r"report\.tar\.gz"):
        list(read([str(tmp_path / "report.tar.gz")]))
    with tarfile.open(tmp_path / "empty.tar", "w") as archive:
        info = tarfile.TarInfo("readme")
        archive.addfile(info, io.BytesIO())
    with pytest.raises(UsageError, match="no file"):
        list(read([str(tmp_path / "empty.tar")]))


def test_headings_name_what_follows():
    """``==> command <==`` as head, tail and our own line of collection print it."""
    found = list(
        recognize.sections(
            [
                "==> ss -tan <==\n",
                "ESTAB 0 0 10.0.0.1:1 10.0.0.2:2\n",
                "\n",
                "==> ip netns exec blue ss -tan <==\n",
                "ESTAB 0 0 a b\n",
            ]
        )
    )
    assert [(kind, heading, len(block)) for kind, heading, block in found] == [
        ("ss", "ss -tan", 2),
        ("ss", "ip netns exec blue ss -tan", 1),
    ]


def test_a_source_is_named_in_short():
    """A heading may be a command line of any length; what is shown of it is its beginning."""
    heading = f"==> grep -s . {'/proc/sys/net/ipv4/tcp_tw_reuse ' * 20}<==\n"
    (place,) = snapshot([Text("all", [heading, "/proc/sys/net/ipv4/tcp_tw_reuse:2\n"])], "all").namespaces
    assert place.setting_source == "sysctl (grep -s . /proc/sys/net/ipv4/tcp_tw_reuse /proc/sys/net/ ...)"


def test_columns_stay_together():
    """Every column has an element for each socket."""
    found = parsed(lines("ss-7.3.txt")).sockets
    assert {len(getattr(found, name)) for name in found.__dataclass_fields__} == {len(found)}
    assert found.local.dtype == np.uint64 and found.local.shape == (len(found), 2)
