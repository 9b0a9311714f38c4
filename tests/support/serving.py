"""`twlab serve` as a process, as a user starts it."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conftest import ROOT
from leftovers import wait_for

CHROMIUM_FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)


class Serving:
    """The server under way: its process, its address, and the processes below it."""

    def __init__(self, process: "subprocess.Popen[str]", url: str):
        self.process = process
        self.url = url

    def below(self) -> list[int]:
        """Pids of all processes that it has started, and that those have."""
        found = [self.process.pid]
        for pid in found:
            found += children(pid)
        return found[1:]

    def guests(self) -> list[int]:
        """Pids of the lab kernels below it."""
        return [pid for pid in self.below() if program(pid) == "linux" and program(parent(pid)) != "linux"]

    def workers(self) -> list[int]:
        return children(self.process.pid)

    def wait_until_warm(self, count: int = 1) -> None:
        """Wait until so many lab kernels are stopped, which means warm."""
        assert wait_for(lambda: sum(state(pid) == "T" for pid in self.guests()) >= count, 300)


def children(pid: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def state(pid: int) -> str:
    return _status(pid).rpartition(") ")[2][:1]


def parent(pid: int) -> int:
    return int((_status(pid).rpartition(") ")[2].split() or ["0", "0"])[1])


def program(pid: int) -> str:
    return _status(pid).partition("(")[2].rpartition(")")[0]


def _status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""


@contextmanager
def place() -> Iterator[Path]:
    """A folder for the server's state that every user reaches: as root, the server is another user.

    It is not pytest's own, which each session of pytest closes to others again.
    """
    with tempfile.TemporaryDirectory(prefix="twlab-serving-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder) / "state"


@contextmanager
def serving(folder: Path, *options: str, user: tuple[str, ...] = ()) -> Iterator[Serving]:
    """Start the server, with its state in `folder`; at the end it is asked to stop, and does."""
    command = [*user, sys.executable, "-m", "twlab", "serve", "--port", "0", "--state", str(folder), *options]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "COLUMNS": "200"}
    )
    try:
        assert process.stdout
        said = ""
        while not (url := re.search(r"http://\S+:\d+", said)):
            line = process.stdout.readline()
            assert line, f"it did not start: {said}"
            said += line
        yield Serving(process, url[0])
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(120)
        process.stdout.close()
