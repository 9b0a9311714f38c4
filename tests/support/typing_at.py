"""A terminal with a program in it, as a person has it: what is typed, and what is seen."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import sys
import time
from pathlib import Path

_CONTROL = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """Runs `words` on a terminal of its own; a context manager, at whose end the program is gone."""

    def __init__(self, *words: str, cwd: Path, env: dict[str, str] | None = None):
        self.seen = b""
        self._at = 0
        self.pid, self._master = pty.fork()
        if self.pid == 0:
            os.chdir(cwd)
            os.execve(words[0], list(words), {**os.environ, "TERM": "xterm", **(env or {})})

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        os.close(self._master)

    def type(self, text: str) -> None:
        """Press the keys; ``\\n`` is Enter."""
        os.write(self._master, text.replace("\n", "\r").encode())

    def expect(self, pattern: str, timeout_s: float = 60.0) -> str:
        """Wait until something new matches `pattern`; what came up to its end."""
        deadline = time.monotonic() + timeout_s
        while not (found := re.search(pattern.encode(), self._new(), re.MULTILINE)):
            rest = deadline - time.monotonic()
            if rest <= 0 or not select.select([self._master], [], [], rest)[0] or not self._read():
                raise AssertionError(f"{pattern!r} did not come; seen:\n{self.seen.decode(errors='replace')}")
        text = self._new()[: found.end()]
        self._at += found.end()
        return text.decode(errors="replace")

    def wait(self, timeout_s: float = 60.0) -> int:
        """Read until the program ends; its exit status."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if select.select([self._master], [], [], 0.05)[0] and self._read():
                continue
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
        raise AssertionError(f"it did not end; seen:\n{self.seen.decode(errors='replace')}")

    def _new(self) -> bytes:
        return self.seen[self._at :]

    def _read(self) -> bool:
        try:
            data = os.read(self._master, 65536)
        except OSError:
            return False
        self.seen += _CONTROL.sub(b"", data).replace(b"\r", b"")
        return bool(data)


def twlab(*words: str, cwd: Path, env: dict[str, str] | None = None) -> Terminal:
    """twlab on a terminal."""
    return Terminal(sys.executable, "-m", "twlab", *words, cwd=cwd, env=env)
