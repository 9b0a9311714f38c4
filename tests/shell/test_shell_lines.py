"""Lines of the shell that a newcomer types: names of ends, connections in the background, reads,
rules that could never match, refusals.
"""

import re
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
from conftest import ROOT

from twlab.errors import UsageError
from twlab.report.html import page
from twlab.results.result import read_result
from twlab.segment import Segment
from twlab.shell import endless
from twlab.shell.ends import shown
from twlab.shell.phrases import Injection, parse_injection

ENGINES = [pytest.param("host", marks=pytest.mark.host), pytest.param("guest", marks=pytest.mark.guest)]


def session(folder, script, *words, status=0, engine="host"):
    """What each line of a session answers, in order, and the session's folder."""
    command = [sys.executable, "-m", "twlab", "shell", *words, "--engine", engine]
    done = subprocess.run(command, input=script, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    (kept,) = re.findall(r"kept in (\S+);", done.stderr)
    return re.findall(r"^twlab> (.*)\n((?:(?!twlab>).*\n)*)", done.stdout, re.MULTILINE), folder / kept


@pytest.mark.parametrize("engine", ENGINES)
def test_no_end_has_the_name_of_a_node(tmp_path, engine):
    """Where nodes are called c1 and s1, ends have other letters, and closing one closes the right
    one.
    """
    script = "listen s1\nconnect c2 s1\nclose c1\nclose a1\nsleep 0.1\nconnections\n"
    answers, _ = session(tmp_path, script, "nat,clients=2,servers=2", engine=engine, status=1)
    said = dict(answers)
    assert "a1 and b1: open" in said["connect c2 s1"]
    assert "there is no end called 'c1'" in said["close c1"]
    assert re.search(r"^a1 +c2 .*CLOSED", said["connections"], re.MULTILINE)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_connection_is_opened_in_the_background(tmp_path, engine):
    """Lines are read while it is in SYN-SENT; wait waits for its outcome, and says so where none
    comes.
    """
    script = """listen server
drop synack from server
connect client server from 40000 &
sockets client
wait 0.5
wait
send c1 hello
read s1
connect client server 81 &
wait
connect client server from 40001
"""
    answers, _ = session(tmp_path, script, "pair", engine=engine)
    assert "c1: is being opened" in answers[2][1]
    assert "SYN_SENT" in answers[3][1]
    assert "no answer yet" in answers[4][1]
    assert "c1 and s1: open" in answers[5][1]
    assert "s1: b'hello'" in answers[7][1]
    assert "no application listens there: listen server 81" in answers[9][1]
    assert "c2 and s2: open" in answers[10][1]


@pytest.mark.guest
def test_a_connect_without_an_answer_has_none_yet(tmp_path):
    """It does not fail: nothing has been decided."""
    answers, _ = session(
        tmp_path,
        "listen server\ndrop any from server count all\nwait\nconnect client server &\nwait 130\n",
        "pair",
        engine="guest",
    )
    assert "fails: pending" not in str(answers)
    assert "no answer yet" in answers[-1][1] or "ETIMEDOUT" in answers[-1][1]


@pytest.mark.parametrize("engine", ENGINES)
def test_wrong_lines_are_plain_and_leave_no_trace(tmp_path, engine):
    """What is wrong, with a remedy; none of them stands in the transcript, from which the ladder is
    drawn.
    """
    wrong = {
        "close": "wrong arguments for close",
        "reset": "wrong arguments for reset",
        "read": "wrong arguments for read",
        "listen server 80": "server listens on port 80 already",
        "listen server 99999": "'99999' is no port",
        "connect client server port": "'port' is no port",
        "sleep -1": "-1 is no length of time",
        "sleep nan": "nan is no length of time",
        "hold syn fin": "no segment is",
        "hold data ack": "no segment is",
        "hold from client from server": "'from' stands there twice",
        "drop rst from client": "no segment from client comes to wire: nat translates its address",
        "drop rst to client": "no segment to client comes to wire: nat translates its address",
        "drop rst from wire": "no segment from wire comes to wire",
        "drop rst from server to server": "both are on the same side",
        "segments on from client": "no segment from client comes to wire",
        "client ping server": "it would never end",
        "inject 1 tsval soon": "tsval soon is not understood",
        "inject 1 flags Q": "flags Q is not understood",
    }
    if engine == "guest":
        wrong |= dict.fromkeys(
            ("iperf client server", "client iperf -c server", "client iperf3 -c server -t 1"),
            "in virtual time none passes",
        )
    answers, kept = session(
        tmp_path, "\n".join(["listen server 80", *wrong, "drop rst from nat"]), "nat", engine=engine, status=1
    )
    assert [line for line, _ in answers[1:-1]] == list(wrong)
    for (line, said), wanted in zip(answers[1:-1], wrong.values(), strict=True):
        assert wanted in said, (line, said)
        assert "remedy: " in said
    assert answers[-1][1].endswith("r1: armed\n")
    transcript = read_result(kept).arms["session"].transcript
    assert [entry["text"] for entry in transcript if entry["kind"] == "step"] == [
        "listen server 80",
        "drop rst from nat",
    ]


def test_what_would_never_end_is_refused_in_virtual_time_alone():
    """Bounded by volume it may run; a server of it, too; at a terminal a person can interrupt it."""

    def refused(command, *, virtual=True, prompt=None):
        try:
            endless.check(command, virtual=virtual, typed=bool(prompt))
        except UsageError:
            return True
        return False

    assert [
        refused(command)
        for command in ("iperf -c server", "iperf client server", "iperf3 -c 10.0.0.1 -t 5", "ping server")
    ] == [True] * 4
    assert not any(
        map(
            refused,
            (
                "iperf -c server -n 10M",
                "iperf -s &",
                "iperf3 -c x --bytes 1M",
                "ping -c 1 server",
                "ping -w2 server",
                "ss -tan",
            ),
        )
    )
    assert not refused("iperf -c server", virtual=False)
    assert not refused("ping server", prompt=object())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"hello", "b'hello'"),
        (b"." * 300, "300 bytes: 100-399 300 x b'.'"),
        (b"." * 100 + b"XY" + b"." * 50, "152 bytes: 100-199 100 x b'.', 200-201 b'XY', 202-251 50 x b'.'"),
        (bytes(range(40)), f"40 bytes: {bytes(range(40))!r}"),
    ],
)
def test_a_read_shows_every_byte(data, words):
    """As they are, or run by run."""
    assert shown(data, 0 if len(data) < 16 else 100) == words


@pytest.mark.host
def test_a_range_of_what_has_been_read(tmp_path):
    """Bytes 200 to 239 of all that the application has read, the first of which is number 0."""
    script = (
        "listen server\nconnect client server\nsend c1 200 bytes\nread s1\nsend c1 0123456789\nread s1 "
        "198-201\nread s1 205-999\nread s1 9-1\n"
    )
    answers, _ = session(tmp_path, script, "pair", status=1)
    assert answers[3][1].endswith("s1: 200 bytes: 0-199 200 x b'.'\n")
    assert answers[5][1].endswith("s1: b'..01'\n")
    assert "s1 has read 210 bytes" in answers[6][1]
    assert "'9-1' is no range of bytes" in answers[7][1]


def test_the_timestamp_of_an_injected_segment():
    """Relative to that of the segment that it is like; to 0 where that has none; around the circle
    of 2^32.
    """
    like = Segment(0.0, "10.0.1.1", "10.2.1.1", 1, 2, 100, 200, "A", 0, (5, 7), 0, bytes(20), 0)

    def stamp(text, base=like):
        return parse_injection(text.split(), ["client"], "usage").fields(base).get("timestamp", "as it is")

    assert stamp("seq +1") == "as it is"
    assert stamp("tsval -6 tsecr +1") == (2**32 - 1, 8)
    assert stamp("tsval +0") == (5, 7)
    assert stamp("without-timestamp") is None
    assert stamp("tsval 9", replace(like, timestamp=None)) == (9, 0)
    assert parse_injection(["seq", "+5", "into", "client"], ["client"], "") == Injection(seq=5, into="client")


@pytest.mark.host
def test_a_setting_of_one_node(tmp_path):
    """--set NODE:KEY=VALUE, in a session and in its replay; a node that is not there is refused
    before there is a lab.
    """
    answers, kept = session(tmp_path, "settings\n", "pair", "--set", "sack=0", "--set", "client:tw_reuse=1")
    assert re.search(r"client +tw_reuse=1 sack=False", answers[0][1])
    assert re.search(r"server +sack=False", answers[0][1])
    again, _ = session(tmp_path, "", "--replay", str(kept))
    assert again == answers
    command = [sys.executable, "-m", "twlab", "shell", "pair", "--set", "cleint:sack=0"]
    done = subprocess.run(command, input="", cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, "did you mean 'client'?" in done.stderr) == (2, True)


def test_closed_standard_input_is_one_message(tmp_path):
    """There is no one to type, and nothing to read: wrong usage."""
    command = f"exec {sys.executable} -m twlab shell pair --engine host <&-"
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, "[no-input]" in done.stderr) == (2, True), done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.host
def test_sessions_are_no_runs_in_a_report(tmp_path):
    """They are shown, and counted apart; no verdict stands beside them, nor an arm that could not
    be carried out.
    """
    _, kept = session(tmp_path, "listen server\nconnect client server\nclose c1\nclose s1\n", "pair")
    text = page.write([kept], tmp_path / "report.html").path.read_text()
    shown_ = text[text.index("<body") : text.index("How to read a verdict")]
    assert "INCONCLUSIVE" not in shown_
    assert "could not be carried out" not in text[text.index('<section class="run"') :]
    assert "sessions 1" in shown_


def show(*words, cwd, status=0):
    done = subprocess.run(
        [sys.executable, "-m", "twlab", "show", *map(str, words)], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def test_show_takes_none_one_or_many(tmp_path):
    """Without a name the newest in runs; a folder of runs likewise, or all; several, one after the
    other; arms by role.
    """
    assert "there is no run in runs" in show(cwd=tmp_path, status=2)
    text = (ROOT / "tests" / "data" / "runs" / "stale-data" / "result.json").read_text()
    for number in (1, 2):
        folder = tmp_path / "runs" / f"2026010{number}-120000-stale-data"
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(text)
    newest = "runs/20260102-120000-stale-data\n"
    assert show(cwd=tmp_path).startswith(newest)
    assert show("runs", cwd=tmp_path).startswith(newest)
    both = show("runs", "--all", cwd=tmp_path)
    assert both.startswith("runs/20260101-120000-stale-data\n") and newest in both
    assert newest in show(
        "runs/20260101-120000-stale-data", "runs/20260102-120000-stale-data", "--arm", "treatment", cwd=tmp_path
    )
    assert "arm control" not in show("--arm", "treatment", cwd=tmp_path)


def test_what_inject_needs_is_imported_piece_by_piece():
    """While a person types; the first inject then imports nothing more."""
    script = """
import sys
from twlab.wire import craft
from twlab.segment import Flow
pieces = 1
while craft.warm_up():
    pieces += 1
before = set(sys.modules)
craft.craft(flow=Flow("10.0.0.1", 1, "10.0.0.2", 2), flags="S")
print(pieces, sorted(name for name in set(sys.modules) - before if name.startswith("scapy")))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    pieces, rest = done.stdout.split(maxsplit=1)
    assert int(pieces) > 5
    assert rest == "[]\n"


SOURCED = """# a comment
listen server 80

connect client server 80 from 40000  # another
exit
listen server 81
"""


@pytest.mark.parametrize("engine", ENGINES)
def test_a_file_of_lines_is_carried_out(tmp_path, engine):
    """With comments and empty lines; its exit ends the session."""
    (tmp_path / "lines.txt").write_text(SOURCED)
    answers, kept = session(tmp_path, "source lines.txt\nlisten server 82\n", "pair", engine=engine)
    assert answers[-2:] == [("connect client server 80 from 40000  # another", answers[-2][1]), ("exit", "")]
    assert "c1 and s1: open" in answers[-2][1]
    lines = [line for _, line in read_result(kept).arms["session"].given["lines"]]
    assert lines == ["listen server 80", "connect client server 80 from 40000", "exit"]


def test_a_file_that_cannot_be_carried_out(tmp_path):
    """Not there, not readable as text, a file that would carry out itself, a file in a file."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "again.txt").write_text("source again.txt\n")
    (tmp_path / "outer.txt").write_text("source inner.txt\nlisten server 81\n")
    (tmp_path / "inner.txt").write_text("listen server 80\n")
    script = "source\nsource missing\nsource binary\nsource again.txt\nsource outer.txt\n"
    answers, _ = session(tmp_path, script, "pair", status=1)
    said = [text for _, text in answers]
    assert "wrong arguments for source" in said[0]
    assert "No such file" in said[1]
    assert "utf-8" in said[2]
    assert "would carry out itself" in said[4]
    assert "server listens on port 80" in "".join(said[5:])
    assert "server listens on port 81" in said[-1]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("link client wire sideways", "invalid type"),
        ("link client moon up", "not in network"),
        ("link client server up", "not connected"),
        ("iperf client", "invalid number of args"),
        ("iperf client nonode", "'nonode' not in network"),
        ("py 1/0", "ZeroDivisionError"),
        ("px import nothere", "ModuleNotFoundError"),
        ("source", "wrong arguments"),
        ("segments 0", "wrong arguments"),
        ("inject c1 bytes 100000", "bytes 100000 is not understood"),
        ("send c1 x", "c1 is closed"),
        ("reset c1", "c1 is closed"),
    ],
)
def test_a_line_that_could_not_be_done_counts(tmp_path, line, words):
    """The exit status is 1; and what was not done is not in the record."""
    before = "listen server\nconnect client server\nclose c1\n"
    answers, kept = session(tmp_path, f"{before}{line}\n", "pair", status=1)
    assert words in answers[-1][1]
    transcript = read_result(kept).arms["session"].transcript
    assert transcript[-1]["text"] == "closes"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_link_that_is_up_again_carries_as_before(tmp_path, engine):
    """IPv4 and IPv6: the kernel forgets routes, neighbours and addresses of a link that is down."""
    routes = "client ip route\nclient ip -6 route\nclient ip neigh\nwire ip neigh\n"
    script = (
        f"listen server\n{routes}link client wire down\nlink client wire up\nsleep 2\n{routes}connect client server\n"
    )
    answers, _ = session(tmp_path, script, "pair", engine=engine)

    def seen(start):
        texts = [text.splitlines()[:-1] for _, text in answers[start : start + 4]]
        return [sorted(line for line in lines if "fe80" not in line) for lines in texts]

    assert seen(1) == seen(8)
    assert "default via" in answers[1][1]
    assert "c1 and s1: open" in answers[-1][1]


@pytest.mark.parametrize("engine", ENGINES)
def test_segments_are_shown_once(tmp_path, engine):
    """A second `segments on` takes the place of the first."""
    script = "segments on\nsegments on syn\nlisten server\nconnect client server\n"
    answers, _ = session(tmp_path, script, "pair", engine=engine)
    assert len(re.findall(r"client:\d+ > server:80 S ", answers[-1][1])) == 1
    assert not re.search(r"client:\d+ > server:80 A ", answers[-1][1])


def test_a_connection_that_is_led_elsewhere_and_refused(tmp_path):
    """A sidecar's port has no listener; the server's own has one."""
    answers, _ = session(tmp_path, "listen server 80\nconnect pod server 80\n", "sidecar,redirect=1")
    assert "server listens on port 80, but the connection was led to another port" in answers[-1][1]


@pytest.mark.parametrize(
    ("engine", "line"),
    [
        pytest.param("host", "sleep 1000", marks=pytest.mark.host),
        pytest.param("guest", "py [each for each in iter(int, 1)]", marks=pytest.mark.guest),
    ],
)
def test_ctrl_c_while_lines_are_read(tmp_path, engine, line):
    """Nothing that could be shown is kept, and that is what is said."""
    command = [sys.executable, "-m", "twlab", "shell", "pair", "--engine", engine]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=tmp_path, text=True, **pipes) as process:
        process.stdin.write(f"{line}\n")
        process.stdin.close()
        assert process.stdout.readline() == f"twlab> {line}\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
        assert "interrupted; nothing is kept" in process.stderr.read()
    assert list((tmp_path / "runs").iterdir()) == []
