"""The page about one's own haproxy.cfg: its files and its session, as they stand there, in the
shell.
"""

import re
import shutil
import subprocess
import sys
import textwrap

import pytest
from conftest import ROOT

PAGE = (ROOT / "docs" / "guides" / "own-haproxy.md").read_text()


def block_after(text):
    """The indented block that follows `text`."""
    return textwrap.dedent(re.search(r"\n\n((?:    .*\n|\n(?=    ))+)", PAGE[PAGE.index(text) :])[1])


def answers(said):
    """Pairs of a typed line and what was printed for it, without the lab's own lines, ports and
    times.
    """
    found = re.findall(r"^twlab> (.*)\n((?:(?!twlab> ).*\n)*)", said, re.MULTILINE)
    own = re.compile(r"^ +\d+\.\d{4}  .*\n", re.MULTILINE)
    numbers = re.compile(r"(10\.0\.1\.1):\d+|\d+\.\d+ s")
    return [(line, re.sub(r" +", " ", numbers.sub(r"\1", own.sub("", text)))) for line, text in found]


@pytest.mark.host
@pytest.mark.slow
def test_the_session_prints_what_the_page_says(tmp_path):
    """Three requests over two ports, TIME_WAIT over, tcp_tw_reuse: line by line."""
    if not shutil.which("haproxy", path="/usr/sbin:/usr/bin") or not shutil.which("curl"):
        pytest.skip("haproxy or curl is not installed")
    for name in ("haproxy.cfg", "origin.cfg"):
        (tmp_path / name).write_text(block_after(f"`{name}`, "))
    session = block_after("the third connection finds none:")
    command = re.search(r"^    twlab (shell .*)$", PAGE, re.MULTILINE)[1].split()
    lines = "".join(f"{line}\n" for line, _ in answers(session))
    done = subprocess.run(
        [sys.executable, "-m", "twlab", *command],
        input=lines,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert answers(done.stdout + "\n") == answers(session + "\n")
