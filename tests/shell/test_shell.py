"""`twlab shell`: lines that are read and lines that are typed, on both engines; what is recorded,
and what is left.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typing_at
from conftest import ROOT, as_user, lacks, let_everyone_reach
from leftovers import left_behind, machine_state

from twlab.engines.kernel import find
from twlab.results.result import read_result

ENGINES = [pytest.param("host", marks=pytest.mark.host), pytest.param("guest", marks=pytest.mark.guest)]

# RFC 1337's assassination of TIME_WAIT, as a student would play it.
ASSASSINATION = """
# a comment
listen server 80
connect client server 80 from 40000
copy data from server
send s1 hello
read c1
close c1
close s1
timewait
sleep 2
step The copy arrives late.
release r1
timewait
connect client server 80 from 40000   # the four-tuple is free
"""


def run(folder: Path, script: str, *words: str, status: int = 0) -> tuple[str, Path]:
    """What a session says whose lines are `script`, and its folder."""
    command = [sys.executable, "-m", "twlab", "shell", *words]
    done = subprocess.run(command, input=script, cwd=folder, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    (kept,) = re.findall(r"kept in (\S+);", done.stderr)
    return done.stdout, folder / kept


@pytest.mark.parametrize("engine", ENGINES)
def test_a_script_is_carried_out_and_recorded(tmp_path, engine):
    """Each line with what it brings about; the folder has result and capture, and `twlab show`
    draws them.
    """
    said, kept = run(
        tmp_path, ASSASSINATION, "pair", "--set", "timestamps=0", "--set", "time_wait_s=60", "--engine", engine
    )
    parts = dict(re.findall(r"^twlab> (.*)\n((?:(?!twlab>).*\n)*)", said, re.MULTILINE))
    assert "c1 and s1: open" in parts["connect client server 80 from 40000"]
    assert "c1: b'hello'" in parts["read c1"]
    assert "releases server:80 > client:40000 PA" in parts["release r1"]
    before, after = re.findall(r"^twlab> timewait\n((?:(?!twlab>).*\n)*)", said, re.MULTILINE)
    assert "10.0.1.1:40000" in before
    assert after == "none\n"
    assert "c2 and s2: open" in said
    result = read_result(kept)
    arm = result.arms["session"]
    assert (result.engine, result.topology, arm.settings["client"]["timestamps"]) == (engine, "pair", 0)
    steps = [entry["text"] for entry in arm.transcript if entry["kind"] == "step"]
    assert "release r1" in steps
    assert "The copy arrives late." in steps
    assert "timewait" not in steps
    shown = subprocess.run(
        [sys.executable, "-m", "twlab", "show", str(kept)], capture_output=True, text=True, check=True
    ).stdout
    assert re.search(r"PSH ACK seq 1 .*len 5 .*copy of #\d+", shown)


@pytest.mark.guest
def test_a_session_is_replayed(tmp_path):
    """The same lines at the same times give the same evidence; a sleep of a minute does not
    wait for it.
    """
    script = (
        "listen server\nconnect client server from 40000\nclose c1\nclose s1\nsleep 59\ntimewait\nsleep 4\ntimewait\n"
    )
    said, kept = run(tmp_path, script, "nat", "--set", "time_wait_s=60")
    again, replayed = run(tmp_path, "", "--replay", str(kept))
    assert re.search(r"client +10\.0\.1\.1:40000 +10\.2\.1\.1:80 +[01]\.\d s", said)
    assert said.endswith("twlab> timewait\nnone\n")
    first, second = (read_result(folder).arms["session"] for folder in (kept, replayed))
    assert [line for _, line in first.given["lines"]] == [line for _, line in second.given["lines"]]
    for (at_s, _), (again_s, _) in zip(first.given["lines"], second.given["lines"], strict=True):
        assert again_s == pytest.approx(at_s, abs=0.001)
    assert re.sub(r"\d+\.\d{4}", "", said) == re.sub(r"\d+\.\d{4}", "", again)
    assert first.captured == second.captured


@pytest.mark.guest
def test_a_replay_has_the_session_s_seed(tmp_path):
    """And says where its kernel is another one. --seed stands before it."""
    script = "listen server\nconnect client server\nsegments\n"
    said, kept = run(tmp_path, script, "pair", "--seed", "7")
    assert f"--seed 7 --replay {kept.relative_to(tmp_path)}" in read_result(kept).command
    again, replayed = run(tmp_path, "", "--replay", str(kept))
    assert "SYN seq 0" in said
    assert (again, read_result(replayed).seed) == (said, 7)
    other, replayed = run(tmp_path, "", "--replay", str(kept), "--seed", "8")
    assert read_result(replayed).seed == 8
    assert other != said

    record = json.loads((kept / "result.json").read_text())
    (kept / "result.json").write_text(json.dumps({**record, "kernel": "5.4.0 #1 x86_64"}))
    command = [sys.executable, "-m", "twlab", "shell", "--replay", str(kept)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "the session ran on Linux 5.4.0, the replay on 7." in done.stderr


@pytest.mark.guest
def test_an_interrupted_line_is_interrupted_in_a_replay(tmp_path):
    """At the same time, so that what comes after it is the same; its step stays in the record."""
    with typing_at.twlab("shell", "pair", "--engine", "guest", cwd=tmp_path) as terminal:
        for line in ("sleep 1000", "client ping server"):
            terminal.expect("twlab> ")
            terminal.type(f"{line}\n")
            terminal.expect(f"{line}\n")
            time.sleep(1.5)  # until it is under way
            terminal.type("\x03")
        terminal.expect("twlab> ")
        terminal.type("listen server\nexit\n")
        assert terminal.wait() == 0
    (kept,) = (tmp_path / "runs").iterdir()
    typed = read_result(kept).arms["session"]
    said, replayed = run(tmp_path, "", "--replay", str(kept))
    again = read_result(replayed).arms["session"]
    assert "twlab> sleep 1000\ninterrupted\n" in said
    assert "packets transmitted" in said
    assert [line for _, line in typed.given["lines"]] == ["sleep 1000", "client ping server", "listen server", "exit"]
    assert [number for number, _ in typed.given["interrupts"]] == [0, 1]
    for one, other in zip(typed.given["interrupts"], again.given["interrupts"], strict=True):
        assert other == pytest.approx(one, abs=0.02)
    for arm in (typed, again):
        steps = [entry["text"] for entry in arm.transcript if entry["kind"] == "step"]
        assert steps == ["sleep 1000", "client ping server", "listen server"]
        assert arm.virtual_s < 60


@pytest.mark.guest
def test_the_example_in_the_documentation(tmp_path):
    """Line for line; and TIME_WAIT is gone at its end."""
    lines = re.findall(r"^    twlab> (.*)$", (ROOT / "docs" / "guides" / "shell.md").read_text(), re.MULTILINE)
    said, _ = run(tmp_path, "\n".join(lines), "pair")
    first, second = re.findall(r"^twlab> timewait\n((?:(?!twlab>).*\n)*)", said, re.MULTILINE)
    assert "client" in first
    assert second == "none\n"


@pytest.mark.guest
def test_every_verb(tmp_path):
    """Each does what its help says."""
    script = """
        listen server 80
        connect client server 80 from 40000
        segments on data
        send c1 1000 bytes
        segments off
        drop data from client
        send c1 lost
        sleep 0.5
        connections
        duplicate data from server after 0.1
        send s1 twice
        sleep 0.3
        delay data from client after 0.2
        reorder data from client behind 1
        hold fin from client
        held
        close c1
        sleep 0.1
        release r5
        stop r4
        close s1
        sockets client
        inject s1 bytes 400 seq +200
        inject 1
        segments 3
        counters server
        settings client time_wait_s=7 rfc1337=on
        settings client
        settings
        settings time_wait_s
        connect client server 80
        reset c2
        client exit
        client echo $((6*7)) server
        client cat /proc/sys/net/ipv4/tcp_rfc1337
        pingall
        net
        links
        link client wire down
        links
        py client.name + str(len(lab.wires))
        sh echo outside
        ladder
        time sleep 1
        help
        help inject
    """
    said, _ = run(tmp_path, script.replace("    ", ""), "pair", "--set", "timestamps=0")
    parts = dict(re.findall(r"^twlab> (.*)\n((?:(?!twlab>).*\n)*)", said, re.MULTILINE))
    for line, wanted in {
        "send c1 1000 bytes": r"client:40000 > server:80 PA .* len 1000",
        "send c1 lost": r"drops client:40000",
        "connections": r"s1 +server .* ESTABLISHED +1004 bytes",
        "send s1 twice": r"duplicates after 0\.1 s server:80",
        "held": r"r5  holds  armed",
        "release r5": r"releases client:40000 > server:80 FA",
        "inject s1 bytes 400 seq +200": r"injects server:80 > client:40000 PA .* len 400",
        "inject 1": r"injects client:40000 > server:80 S ",
        "segments 3": r"#\d+ .*SYN seq 0.*injected",
        "sockets client": r"client +\w+ +10\.0\.1\.1:40000 +10\.2\.1\.1:80",
        "counters server": r"server +\w+ +1",
        "settings client": r"tcp_timewait_len +7000",
        "settings": r"client +time_wait_s=7 timestamps=0 rfc1337=True",
        "settings time_wait_s": r"length of TIME_WAIT in seconds",
        "reset c2": r"aborts",
        "client exit": r"the next command starts another",
        "client echo $((6*7)) server": r"^42 10\.2\.1\.1$",
        "client cat /proc/sys/net/ipv4/tcp_rfc1337": r"^1$",
        "pingall": r"0% dropped",
        "net": r"client client-wire:wire-client",
        "links": r"client-wire<->wire-client \(DOWN DOWN\)",
        "py client.name + str(len(lab.wires))": "client1",
        "sh echo outside": "^outside$",
        "ladder": r"PSH ACK seq 212 ack 2 len 400|len 400",
        "time sleep 1": r"Elapsed time: 1\.0",
        "help": "the wire: +segments hold copy",
        "help inject": r"as if it had\s+come\s+all\s+the\s+way",
    }.items():
        assert re.search(wanted, parts[line], re.MULTILINE), (line, parts[line])


@pytest.mark.guest
def test_a_wrong_line_is_one_message_and_the_shell_lives_on(tmp_path):
    """Any fault in it; a script that had one ends with 1."""
    wrong = [
        "bogus",
        "hold sin",
        "hold fin from moon",
        "release r9",
        "close c1",
        "send",
        "connect client",
        "connect client moon",
        "listen server x",
        "settings client time_wait=1",
        "settings client time_wait_s=-1",
        "settings moon a=1",
        "inject 9",
        "sleep long",
        "client",
        "hold fin at moon",
        "py 1/0",
        "ladder moon extra",
        "segments maybe",
        "link client moon up",
    ]
    said, _ = run(tmp_path, "\n".join([*wrong, "nodes"]), "pair", status=1)
    assert said.endswith("client server wire\n")
    assert "Traceback" not in said
    answers = re.findall(r"^twlab> .*\n((?:(?!twlab>).*\n)*)", said, re.MULTILINE)
    assert len(answers) == len(wrong) + 1
    assert all(answers)


def test_what_cannot_be_is_told_before_there_is_a_lab(tmp_path):
    """No topology, no such topology, no such setting, and what is no session."""
    (tmp_path / "not").mkdir()
    for words, slug in (
        ((), "no-such-topology"),
        (("moon",), "no-such-topology"),
        (("pair", "--set", "time_wait=1"), "no-such-setting"),
        (("pair", "--replay", "not"), "bad-replay"),
        (("--replay", "not"), "no-result"),
    ):
        command = [sys.executable, "-m", "twlab", "shell", *words]
        done = subprocess.run(command, input="", cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert f"[{slug}]" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["not"]


@pytest.mark.parametrize("engine", ENGINES)
def test_at_a_terminal(tmp_path, engine):
    """Tab completes; segments are shown above a line half typed; Ctrl-C ends a node's command and
    gives up a line; Ctrl-D ends the lab.
    """
    with typing_at.twlab("shell", "pair", "--engine", engine, "--set", "timestamps=0", cwd=tmp_path) as terminal:
        terminal.expect("exit ends the lab")
        terminal.expect("twlab> ")
        terminal.type("lis\tser\t80\n")
        terminal.expect("server listens on port 80")
        terminal.type("connect client server from 40000\n")
        terminal.expect("c1 and s1: open")
        terminal.type("segments on\nhold fin from client\n")
        terminal.expect("r1: armed")
        terminal.type("drop fin from client count all\n")
        terminal.expect("r2: armed")
        terminal.type("close c1\n")
        terminal.expect("holds client:40000 > server:80 FA")
        terminal.expect("twlab> ")
        terminal.type("half a li")
        # Sent again while the line is being typed: after 200 ms, 400, 800, until one gets through.
        terminal.expect("client:40000 > server:80 FA")
        terminal.expect("twlab> half a li")
        terminal.type("\x03")
        terminal.expect(r"\^C")
        time.sleep(1)  # what is typed before the new line is there, a terminal may throw away
        terminal.type("segments off\nstop r2\n")
        terminal.expect("stop r2\n")
        terminal.type("client echo ready; cat\n")
        terminal.expect("^ready\n")
        terminal.type("said to it\n")
        terminal.expect("said to it\n+said to it")
        terminal.type("\x03")
        terminal.expect("twlab> ")
        terminal.type("sleep 1000\n")
        terminal.expect("sleep 1000\n")
        time.sleep(1)  # until it sleeps
        terminal.type("\x03")
        terminal.expect("interrupted\n")
        terminal.type("release r1\t\n")
        terminal.expect("releases client:40000 > server:80 FA")
        terminal.expect("twlab> ")
        terminal.type("\x04")
        terminal.expect("kept in")
        assert terminal.wait() == 0
    (kept,) = (tmp_path / "runs").iterdir()
    lines = [line for _, line in read_result(kept).arms["session"].given["lines"]]
    assert lines[:2] == ["listen server 80", "connect client server from 40000"]
    assert "half a li" not in lines


@pytest.mark.slow
@pytest.mark.parametrize("user", ["", "nobody"], ids=["same-user", "nobody"])
@pytest.mark.parametrize("engine", ENGINES)
def test_kill_9_leaves_nothing(engine, user, tmp_path_factory):
    """Any user at the terminal, and any input: no process, no interface, no file but
    the session's.
    """
    if reason := lacks(engine if engine == "host" else "host", user):
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("session")
    folder.chmod(0o777)
    let_everyone_reach(folder)
    before, shared_memory = machine_state(), set(Path("/dev/shm").iterdir())
    kernel = [f"TWLAB_KERNEL={find().path}"] if engine == "guest" else []
    tag = f"TWLAB_TEST={os.getpid()}-{engine}-{user}-{random.random()}"
    words = [*as_user(user), "env", tag, *kernel, sys.executable, "-m", "twlab", "shell", "pair", "--engine", engine]
    with typing_at.Terminal("/usr/bin/env", *words, cwd=folder) as terminal:
        terminal.expect("twlab> ")
        terminal.type("hold any\n")
        terminal.expect("armed")
        terminal.expect("twlab> ")
        terminal.type("client echo ready; ping server\n")
        terminal.expect("^ready\n")
        os.kill(terminal.pid, signal.SIGKILL)
    assert not left_behind(tag)
    assert machine_state() == before
    assert set(Path("/dev/shm").iterdir()) <= shared_memory
    assert all(json.loads(path.read_text()) for path in folder.rglob("*.json"))
