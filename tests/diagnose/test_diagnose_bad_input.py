"""Broken texts and hostile ones: a message, or a diagnosis of what could be read; never a
traceback.
"""

import os
import random
import subprocess
import sys

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from twlab.diagnose import screen
from twlab.diagnose.diagnosis import diagnose
from twlab.diagnose.prometheus import text as metrics
from twlab.diagnose.texts.assemble import Text, snapshot

DATA = ROOT / "tests" / "data" / "diagnose"
NAMES = sorted(path.name for path in DATA.glob("*.txt"))
MORE = """\
net.ipv4.ip_local_port_range = 32768\t60999
net.ipv4.tcp_max_tw_buckets = 262144
net.ipv4.ip_local_reserved_ports = 40000-40100,50000
/proc/sys/net/ipv4/tcp_tw_reuse:2
#kernel
TcpExtTW                        14                 0.0
TcpExt: TW TWRecycled
TcpExt: 5 2
Tcp:
    40 active connection openings
tcp      6 119 TIME_WAIT src=10.0.0.9 dst=10.2.1.1 sport=40000 dport=80 src=10.2.1.1 dst=192.0.2.7 sport=80 dport=50000 [ASSURED] use=1
cpu=0   \tfound=0 invalid=3 insert_failed=2 drop=1
# pxname,svname,scur,econ,connect,reuse,
web,s1,3,7,1000,20,
==> ip netns exec blue ss -tan <==
ESTAB 0 0 10.0.0.1:40000 10.0.0.2:80
sockets: used 18
TCP: inuse 3 orphan 0 tw 2 alloc 3 mem 171
"""  # noqa: E501
CORPUS = [(DATA / name).read_text() for name in NAMES] + [MORE]
TEXTS = int(os.environ.get("TWLAB_MUTATIONS", "2000")) // 8  # 10,000 were tried
HOSTILE = [
    "\x00",
    "9" * 400,
    "-1",
    "::",
    "[",
    "\xff",
    "4294967296",
    "65536",
    "",
    " ",
    ":",
    "timer:(timewait,",
    "\u0660",
    "%s",
    "\x1b[31m",
    "NaN",
]


def judged(text):
    made = diagnose(snapshot([Text("mutated", text.splitlines(keepends=True))], "mutated"))
    screen.render(made)
    metrics(made)
    return made.as_dict()


def mutated(dice):
    """A text of the corpus with some bytes, words or lines changed, moved, doubled or cut off."""
    text = dice.choice(CORPUS)
    for _ in range(dice.randint(1, 6)):
        at, to = sorted(dice.randrange(len(text) + 1) for _ in range(2))
        how = dice.randrange(5)
        if how == 0:
            text = text[:at] + dice.choice(HOSTILE) + text[at + dice.randrange(8) :]
        elif how == 1:
            text = text[: at + dice.randrange(200)] + text[at:]
        elif how == 2:
            text = text[:at] + text[min(to, at + 300) :]
        elif how == 3:
            text = text[:to]
        else:
            words = text.split(" ")
            words[dice.randrange(len(words))] = dice.choice(HOSTILE)
            text = " ".join(words)
        text = text or " "
    return text


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_mutated_texts(seed):
    """Damaged by a broken pipe, an editor or an enemy: the diagnosis ends, and is
    JSON.
    """
    dice = random.Random(seed)
    for _ in range(TEXTS):
        text = mutated(dice)
        try:
            judged(text)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {text!r}") from error


@given(st.text(max_size=400))
def test_any_text_at_all(text):
    """Of any characters."""
    judged(text)


@given(
    st.lists(
        st.sampled_from(MORE.split() + HOSTILE + ["ESTAB", "tcp", "TIME-WAIT", "0", "\n", "Tcp:", "LISTEN"]),
        max_size=60,
    )
)
def test_any_words_that_look_right(words):
    """Of the tools' own words in any order."""
    judged(" ".join(words))


def run(*words, stdin=b""):
    command = [sys.executable, "-m", "twlab", "diagnose", *words]
    return subprocess.run(
        command, input=stdin, capture_output=True, cwd=ROOT, check=False, env={**os.environ, "NO_COLOR": "1"}
    )


@pytest.mark.parametrize(
    ("words", "stdin", "says"),
    [
        (["-"], b"", "nothing in standard input is known"),
        (["-"], b"hello\nworld\n", "nothing in standard input is known"),
        (["-"], b"\x00\x01\x02", "not text"),
        (["/nonexistent"], b"", "/nonexistent cannot be read"),
        (["--watch", "-"], b"", "--watch looks at this machine"),
        (["--every", "-3"], b"", "--every"),
    ],
)
def test_what_cannot_be_is_said_in_one_message(words, stdin, says):
    """With the exit status of wrong usage, and no traceback."""
    done = run(*words, stdin=stdin)
    assert done.returncode == 2
    assert says in done.stderr.decode() and "Traceback" not in done.stderr.decode()


def test_a_file_that_cannot_be_written(tmp_path):
    """--prometheus says so."""
    done = run("-", "--prometheus", str(tmp_path / "none" / "x.prom"), stdin=MORE.encode())
    assert done.returncode == 3 and "cannot write" in done.stderr.decode()


def test_control_characters_do_not_reach_the_terminal():
    """A process may call itself anything; the screen shows no escape sequence."""
    line = 'ESTAB 0 0 10.0.0.1:40000 10.0.0.2:80 users:(("\x1b[31mred\x07",pid=7,fd=9)) ino:5 sk:1\n'
    done = run("-", stdin=line.encode())
    assert done.returncode == 0
    assert b"\x1b" not in done.stdout and b"\x07" not in done.stdout and b"red?[7]" in done.stdout
