"""Runs an agent that has the user's terminal, in either engine, in real time.

The agent gets the terminal itself. Ctrl-C is for the program inside; the process outside ignores
it."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import tempfile
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from twlab.engines import host, sandbox
from twlab.engines.guest.console import CONSOLE, restored
from twlab.engines.guest.engine import built_kernel, command_line, orders, start_and_follow
from twlab.engines.protocol import Event
from twlab.errors import EngineError

_MEMORY_MIB = 1024


def on_terminal(
    engine: str, agent: str, request: dict[str, Any], folder: Path, on_event: Callable[[Event], None]
) -> None:
    """Have `agent` carry out `request` on the user's terminal.

    The request gets ``terminal``, ``size`` and ``environment`` added.

    Args:
        engine: ``guest`` or ``host``.
        folder: the only place that the guest can write to.

    Raises:
        CapabilityError: as the engine's own `run`.
        EngineError: the engine ended before its work was done.
    """
    request = request | {"size": list(termios.tcgetwinsize(0)), "environment": {"TERM": os.environ.get("TERM", "dumb")}}
    terminal = os.dup(0)
    try:
        with restored(True), _unmoved(), tempfile.TemporaryFile() as log:
            if engine == "guest":
                _in_guest(agent, request | {"terminal": CONSOLE}, folder, on_event, terminal, log.fileno())
            else:
                _on_host(agent, request | {"terminal": terminal}, on_event, terminal, log)
    finally:
        os.close(terminal)


def _in_guest(
    agent: str, request: dict[str, Any], folder: Path, on_event: Callable[[Event], None], terminal: int, log: int
) -> None:
    def arguments(exchange: str) -> list[str]:
        return command_line(exchange, memory_mib=_MEMORY_MIB, consoles=("null,fd:1", f"fd:{terminal},fd:{terminal}"))

    folder = folder.resolve()
    files = {"output": log, "terminal": terminal}
    start_and_follow(built_kernel(), arguments, orders(agent, request, folder), on_event, folder=folder, **files)


def _on_host(agent: str, request: dict[str, Any], on_event: Callable[[Event], None], terminal: int, log: Any) -> None:
    with host.started(agent, log, terminal) as process:
        finished = host.carry_out(process, request, on_event, math.inf)
    log.seek(0)
    said = log.read().decode(errors="replace")
    if process.returncode == sandbox.NO_NAMESPACES:
        raise sandbox.explain_refusal(said)
    if not finished:
        raise EngineError(
            f"the lab ended early, with status {process.returncode}: {said.strip()[-300:]}",
            "try it again",
            "lab-ended-early",
        )


@contextlib.contextmanager
def _unmoved() -> Iterator[None]:
    """Ignore what is typed to interrupt or to stop, in this process."""
    sys.stdout.flush()
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTSTP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
