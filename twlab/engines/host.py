"""The host engine: the lab on this machine's kernel, in real time, in a sandbox."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import select
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from twlab import loop, paths
from twlab.engines import sandbox
from twlab.engines.events import EventReader
from twlab.engines.guest.liveness import QUIET_S, computes
from twlab.errors import EngineError


class HostEngine:
    """Runs an agent in a sandbox and hands on what it reports.

    Args:
        agent: the module that carries out requests, with ``carry_out(request, emit)``.
    """

    name = "host"

    def __init__(self, *, agent: str):
        self._agent = agent

    @property
    def release(self) -> str:
        """The release of this machine's kernel."""
        return platform.release()

    def run(
        self, request: Mapping[str, Any], folder: Path, on_event: Callable[[dict[str, Any]], None], real_limit_s: float
    ) -> None:
        """Carry out `request` and call `on_event` for each event, as it comes.

        Args:
            request: JSON values, see `twlab.engines.protocol`.
            folder: where evidence is written.
            real_limit_s: real seconds after which the lab is ended.

        Raises:
            CapabilityError: the kernel refuses namespaces to this user (``no-namespaces``).
            EngineError: the lab was killed (``lab-ended-early``) or ran out of time (``lab-hung``).
        """
        log = folder / "engine.log"
        try:
            with log.open("wb") as stderr, started(self._agent, stderr) as process:
                finished = carry_out(process, request, on_event, loop.monotonic_s() + real_limit_s)
            if finished is None:
                raise EngineError(
                    f"the lab did not finish within {real_limit_s:g} s of real time", f"see {log}", "lab-hung"
                )
            if process.returncode == sandbox.NO_NAMESPACES:
                raise sandbox.explain_refusal(log.read_text(errors="replace"))
            if not finished:
                raise EngineError(
                    f"the lab ended early, with status {process.returncode}", f"see {log}", "lab-ended-early"
                )
        finally:
            if log.exists() and not log.stat().st_size:
                log.unlink()


def started(agent: str, stderr: IO[bytes], terminal: int = -1) -> subprocess.Popen[bytes]:
    """Start `agent` in a sandbox, where it waits for its request.

    With a `terminal`, a file descriptor, the agent has that too, and the signals typed at it.
    """
    # -P: what lies in the user's folder is not to be taken for a module of ours.
    python = [sys.executable, "-P", "-m"]
    return subprocess.Popen(
        [*python, "twlab.engines.sandbox", str(os.getpid()), *python, "twlab.engines.host_init", agent],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        start_new_session=terminal < 0,  # Ctrl-C is for the caller, who ends the lab
        pass_fds=[terminal] if terminal >= 0 else [],
        env={**os.environ, "LC_ALL": "C", "PYTHONHASHSEED": "0", "PYTHONPATH": str(paths.IMPORT_FROM)},
    )


def carry_out(
    process: subprocess.Popen[bytes],
    request: Mapping[str, Any],
    on_event: Callable[[dict[str, Any]], None],
    deadline_s: float,
) -> bool | None:
    """Hand over the request and relay events; in any case the lab has ended then.

    Returns:
        Whether the last event was ``end``; None: out of time.
    """
    assert process.stdin and process.stdout
    try:
        # A lab that could not begin does not read; its exit status says why.
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(request).encode())
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        finished = _relay(process, EventReader(on_event), deadline_s)
        if finished is not None:
            process.wait()
        return finished
    finally:
        if process.poll() is None:
            process.kill()  # pid 1 of the lab follows, and the kernel removes the rest


def _relay(process: subprocess.Popen[bytes], reader: EventReader, deadline_s: float) -> bool | None:
    """Feed `reader` until the stream ends.

    If no event comes for long because the lab computes rather than waits, this process adds an
    event
    ``quiet``.

    Returns:
        Whether the last event was ``end``; None: out of time.
    """
    assert process.stdout
    fd = process.stdout.fileno()
    heard_s, quiet_s = loop.monotonic_s(), QUIET_S
    while True:
        rest_s = min(deadline_s, heard_s + quiet_s) - loop.monotonic_s()
        if not select.select([fd], [], [], max(0.0, rest_s))[0]:
            if loop.monotonic_s() >= deadline_s:
                return None
            if computes(process.pid):
                reader.quiet(quiet_s, "a process in it computes without end")
            quiet_s *= 2
            continue
        data = os.read(fd, 1 << 16)
        if not data:
            return reader.ended and not reader.garbled
        heard_s, quiet_s = loop.monotonic_s(), QUIET_S
        reader.feed(data)
