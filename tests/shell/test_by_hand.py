"""The scripts of RFC 1337's figures and RFC 6191's cases: what docs/guides/by-hand.md says that
they print is what they print.

Run as a program, this file writes what they print into the page.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import ROOT

SCRIPTS = sorted((ROOT / "docs" / "examples" / "shell").glob("*.txt"))
PAGE = ROOT / "docs" / "guides" / "by-hand.md"
# What decides each, in what the verbs answer: on any kernel, in virtual and in real time.
DECIDES = {
    "rfc1337-1": r"twlab> timewait\nnode.*\nclient(.*\n)*twlab> release r1\n(.*\n)*twlab> timewait\nnone\n",
    "rfc1337-2": r"twlab> read s1 200-239\ns1: 40 bytes: 200-239 40 x b'x'\n(.*\n)*s1 .* ESTABLISHED +400 bytes\n",
    "rfc1337-3": r"client +ESTABLISHED .* 120 bytes\ntwlab> connections\n(.*\n)*s1 .* ESTABLISHED +240 bytes\n",
    "rfc1337-4": r"twlab> inject 9 (.*\n)*server +(SYN_RECV|ESTABLISHED) (.*\n)*c2 .* ESTABLISHED .*\ns2 .* ESTABLISHED ",  # noqa: E501
    "rfc6191-1": r"tsval -1 tsecr \+0\n(.*\n)*server +TIME_WAIT (.*\n)*.*tsval \+1 tsecr \+0\n(.*\n)*server +SYN_RECV ",
    "rfc6191-2": r"-1000 tsval \+0\n(.*\n)*server +TIME_WAIT (.*\n)*.*\+1000 tsval \+0\n(.*\n)*server +SYN_RECV ",
    "rfc6191-3": r"-1000 without-timestamp\n(.*\n)*server +TIME_WAIT (.*\n)*.*\+1000 without-timestamp\n(.*\n)*server +SYN_RECV ",  # noqa: E501
    "rfc6191-4": r"-1000 tsval \+1000\n(.*\n)*server +TIME_WAIT (.*\n)*.*\+1000 tsval \+1000\n(.*\n)*server +SYN_RECV ",
}


def printed(script: Path, engine: str, folder: Path) -> str:
    command = [sys.executable, "-m", "twlab", "shell", "pair", "--engine", engine]
    with script.open() as lines:
        done = subprocess.run(
            command, stdin=lines, cwd=folder, capture_output=True, text=True, timeout=180, check=False
        )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def block(name: str, page: str) -> re.Match[str]:
    """The block of the page that shows what the script `name` prints."""
    found = re.search(rf"(?<=docs/examples/shell/{name}\.txt\n```\n\n```text\n)(.*?)(?=```\n)", page, re.DOTALL)
    assert found, name
    return found


def plain(text: str) -> str:
    """Without what differs from kernel to kernel, and from seed to seed: times, sequence numbers,
    timestamps.
    """
    text = re.sub(r"^ +\d+\.\d{4}", "", text, flags=re.MULTILINE)
    return re.sub(r"\d+\.\d s$", "", re.sub(r"\b(seq|ack|ts) \d+( \d+)?", r"\1", text), flags=re.MULTILINE)


def test_there_are_four_figures_and_four_cases():
    """Each script has its block on the page, and each begins with what it is."""
    assert [script.stem for script in SCRIPTS] == list(DECIDES)
    for script in SCRIPTS:
        typed = [
            line.removeprefix("twlab> ")
            for line in block(script.stem, PAGE.read_text())[0].splitlines()
            if line.startswith("twlab> ")
        ]
        assert typed == script.read_text().splitlines()


@pytest.mark.guest
@pytest.mark.parametrize("script", [pytest.param(script, id=script.stem) for script in SCRIPTS])
def test_it_prints_what_the_page_says(script, tmp_path):
    """Line by line, but for the numbers that a seed gives."""
    said = printed(script, "guest", tmp_path)
    assert re.search(DECIDES[script.stem], said)
    assert plain(said) == plain(block(script.stem, PAGE.read_text())[0])


@pytest.mark.host
@pytest.mark.parametrize("script", [pytest.param(script, id=script.stem) for script in SCRIPTS])
def test_it_shows_the_same_on_this_kernel(script, tmp_path):
    """What decides the figure or the case is the same in real time."""
    assert re.search(DECIDES[script.stem], printed(script, "host", tmp_path))


if __name__ == "__main__":
    text = PAGE.read_text()
    with tempfile.TemporaryDirectory() as folder:
        for script in SCRIPTS:
            at = block(script.stem, text)
            text = text[: at.start()] + printed(script, "guest", Path(folder)) + text[at.end() :]
    PAGE.write_text(text)
