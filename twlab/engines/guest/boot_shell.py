"""Gives the user a shell in the lab kernel: ``twlab kernel boot``.

The shell runs in real time, on the user's terminal. The host's half is `shell`. The guest's half is
`carry_out`, the agent that `shell` orders. The shell may touch what a run may touch, and there is
no folder that it could write to.
"""

from __future__ import annotations

import os
import sys
import tempfile
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twlab.engines.guest.console import CONSOLE, restored, take_over
from twlab.engines.guest.engine import built_kernel, command_line, orders, start_and_follow
from twlab.engines.protocol import Event

_MEMORY_MIB = 1024


def shell(kernel: Path | None = None) -> int:
    """Boot the lab kernel, run a shell in it, and return its exit status.

    The shell is the user's. If standard input is no terminal, all of it is read first, and the shell
    carries it out.

    Raises:
        CapabilityError: the lab kernel has not been built (``no-lab-kernel``), or cannot be started
            here (``no-guest``).
        EngineError: the guest ended before its shell did; the slugs are those of
            `twlab.engines.guest.engine`.
    """
    kernel = kernel or built_kernel()
    interactive = os.isatty(0)
    request = {
        "size": termios.tcgetwinsize(0) if interactive else None,
        "script": "" if interactive else sys.stdin.read(),
        "environment": {"TERM": os.environ.get("TERM", "dumb"), "PS1": r"\h:\w\$ "},
    }
    statuses: list[int] = []
    terminal = os.dup(0 if interactive else 1)

    def on_event(event: Event) -> None:
        statuses.append(event.get("status", 0))

    def arguments(exchange: str) -> list[str]:
        line = f"fd:{terminal},fd:{terminal}" if interactive else f"null,fd:{terminal}"
        return command_line(exchange, memory_mib=_MEMORY_MIB, consoles=("null,fd:1", line))

    try:
        with tempfile.TemporaryFile() as log, restored(interactive):
            ordered = orders("twlab.engines.guest.boot_shell", request, None)
            files = {"output": log.fileno(), "terminal": terminal}
            start_and_follow(kernel, arguments, ordered, on_event, folder=None, **files)
    finally:
        os.close(terminal)
    return statuses[0]


def carry_out(request: dict[str, Any], emit: Callable[[Event], None]) -> None:
    """Run the shell on the guest's second console; report its exit status."""
    child = os.fork()
    if child == 0:
        os.environ.update(request["environment"])
        console = take_over(CONSOLE, request["size"])
        if request["size"]:
            source = console
        else:
            modes = termios.tcgetattr(console)
            modes[1] &= ~termios.OPOST
            termios.tcsetattr(console, termios.TCSANOW, modes)
            source = _as_file(request["script"])
        for target, fd in enumerate((source, console, console)):
            os.dup2(fd, target)
        if os.path.exists("/bin/bash"):
            os.execv("/bin/bash", ["bash", "--norc"])
        os.execv("/bin/sh", ["sh"])
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    emit({"event": "exit", "status": code if code >= 0 else 128 - code})
    emit({"event": "end"})


def _as_file(script: str) -> int:
    path = Path("/run/script")
    path.write_text(script)
    return os.open(path, os.O_RDONLY)
