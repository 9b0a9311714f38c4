"""The guest engine: the lab kernel as an ordinary process, in virtual time, without root.

    Guest.run ── sandbox ── vessel ── lab kernel ── guest_init ── agent
        │                     │       pid 1 of the   pid 1 of        │
        ├── orders ── stdin ──┘       sandbox        the guest       │
        └── events ◄── a file of the host's, handed over by vessel ◄─┘

The guest's clock stands still while anything in it computes, and leaps while all of it waits. So nothing may ever make the guest
wait for the host: orders and events go through files, which the guest reads and writes within one system call, and inotify
wakes the host. Over a serial line, a host that is slow to read would cost the guest virtual time.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import twlab
from twlab import loop, syscalls
from twlab.engines import console, sandbox
from twlab.errors import CapabilityError, EngineError

Event = dict[str, Any]

EPOCH_S = 1_704_067_200  # the guest's clock starts at 2024-01-01T00:00:00Z, so that the captures of two runs bear the same times
_EXCHANGE = "/run/twlab"  # in the sandbox, where /run is a tmpfs of its own
_ENVIRONMENT = {"LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}


class Guest:
    """Runs an agent in the lab kernel and hands on what it reports.

    Args:
        kernel: the lab kernel; None: the one that has been built.
        agent: the module that carries out requests, with ``carry_out(request, emit)``.
        memory_mib: the guest's memory in MiB. The host gives it as it is used.
        silence_s: real seconds without an event after which the guest counts as hung.

    Raises:
        CapabilityError: the lab kernel has not been built (``no-lab-kernel``).
    """

    name = "guest"

    def __init__(self, kernel: Path | None = None, *, agent: str = "twlab.inside", memory_mib: int = 512, silence_s: float = 120.0):
        self._kernel = kernel or _built_kernel()
        self._agent = agent
        self._memory_mib = memory_mib
        self._silence_s = silence_s

    def run(self, request: dict[str, Any], folder: Path, on_event: Callable[[Event], None], real_limit_s: float) -> None:
        """Carry out `request` in one boot and call `on_event` for each event, as it comes.

        Args:
            request: JSON values, see `twlab.inside`.
            folder: the only place of the host's file system that the guest can write to. ``console.log`` in it keeps what the kernel
                and the agent said, unless all went well.
            real_limit_s: real seconds after which the guest is ended.

        Raises:
            CapabilityError: the guest cannot be started on this machine (``no-guest``).
            EngineError: ``guest-panicked``, ``guest-hung``, ``guest-out-of-memory``, ``guest-garbled`` or ``guest-ended-early``.
        """
        folder = folder.resolve()
        log = folder / "console.log"
        deadline_s = loop.monotonic_s() + real_limit_s
        with log.open("wb") as output, _started(self._kernel, self._arguments, self._orders(request, folder), folder, output.fileno()) as voyage:
            stream = _Stream(voyage.events, on_event)
            why_hung = _follow(voyage, stream, deadline_s, self._silence_s)
            status = None if why_hung else voyage.process.wait()
        text = log.read_text(errors="replace")
        if why_hung:
            raise EngineError(f"the guest hung: {why_hung}", f"see {log}", "guest-hung")
        if fault := console.fault(text, status, garbled=stream.garbled, ended=stream.ended):
            raise EngineError(fault.message, f"see {log}", fault.slug)
        log.unlink()

    def _arguments(self, exchange: str) -> list[str]:
        """The kernel's command line. What stands behind ``--`` is for init; KEY=VALUE that the kernel does not know, init's environment."""
        return [
            f"mem={self._memory_mib}M",
            "root=/dev/root",
            "rootfstype=hostfs",
            "rootflags=/",
            "ro",
            "time-travel=inf-cpu",
            f"time-travel-start={EPOCH_S * 10**9}",
            "con=none",
            "con0=null,fd:1",
            "ssl=none",
            "uml_dir=/dev/null/",  # no pid file: a process that is killed could not remove it
            "quiet",
            *(f"{key}={value}" for key, value in _ENVIRONMENT.items()),
            f"init={exchange}/python",
            "--",
            "-S",
            "-P",
            f"{exchange}/init.py",
        ]

    def _orders(self, request: dict[str, Any], folder: Path) -> bytes:
        orders = {
            "folder": str(folder),
            "cwd": os.getcwd(),
            "path": [str(Path(twlab.__file__).parent.parent), *sys.path],
            "executable": sys.executable,
            "environment": {"PATH": os.environ.get("PATH", os.defpath), "HOME": "/root"},
            "agent": self._agent,
            "request": request,
        }
        return json.dumps(orders).encode()


class _Voyage:
    """A guest under way: the process that stands for it, the file of its events, and the socket that closes when all of it is gone."""

    def __init__(self, process: subprocess.Popen[bytes], events: int, handover: socket.socket):
        self.process = process
        self.events = events
        self.handover = handover


class _Stream:
    """The events that a guest writes, one JSON object a line, read from the file as it grows."""

    def __init__(self, fd: int, on_event: Callable[[Event], None]):
        self._fd = fd
        self._on_event = on_event
        self._offset = 0
        self._rest = b""
        self.garbled = ""
        self.ended = False

    def read(self) -> bool:
        """Hand on what is new; whether there was anything. After a line that is no event, `garbled` names it and nothing more is read."""
        before = self._offset
        while not self.garbled and (data := os.pread(self._fd, 1 << 20, self._offset)):
            self._offset += len(data)
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                if not self._take(line):
                    self.garbled = line[:80].decode(errors="replace")
                    break
        return self._offset > before

    def close(self) -> None:
        """The guest is gone: what is left of a line will never be whole."""
        self.read()
        if self._rest and not self.garbled:
            self.garbled = self._rest[:80].decode(errors="replace")

    def _take(self, line: bytes) -> bool:
        try:
            event = json.loads(line)
        except ValueError:
            return False
        if not isinstance(event, dict) or "event" not in event or self.ended:
            return False
        self.ended = event["event"] == "end"
        self._on_event(event)
        return True


def _follow(voyage: _Voyage, stream: _Stream, deadline_s: float, silence_s: float) -> str:
    """Hand on events until the guest is gone; returns why it counts as hung, or nothing."""
    pidfd = os.pidfd_open(voyage.process.pid)
    watch = syscalls.watch_writes(voyage.events)
    try:
        heard_s = loop.monotonic_s()
        while True:
            now_s = loop.monotonic_s()
            if now_s >= deadline_s:
                return "it did not finish in the real time that it was given"
            if now_s >= heard_s + silence_s:
                return f"nothing was heard of it for {silence_s:g} s of real time"
            ready, _, _ = select.select([pidfd, watch], [], [], min(deadline_s, heard_s + silence_s) - now_s)
            if watch in ready:
                os.read(watch, 1 << 16)
            if stream.read():
                heard_s = loop.monotonic_s()
            if pidfd in ready:
                stream.close()
                return ""
    finally:
        os.close(watch)
        os.close(pidfd)


@contextmanager
def _started(kernel: Path, arguments: Callable[[str], Sequence[str]], orders: bytes, folder: Path, output: int) -> Iterator[_Voyage]:
    """The guest, started; when the block ends, however it ends, nothing of it is left.

    Where the machine refuses namespaces, the guest runs without the sandbox: its kernel dies with this process all the same, but it is
    kept from the user's files only by its own read-only mount.
    """
    caller = [sys.executable, "-m", "twlab.engines.sandbox", str(os.getpid())]
    with tempfile.TemporaryDirectory(prefix="twlab-", ignore_cleanup_errors=True) as spare:
        for before, exchange in ((caller, _EXCHANGE), ([], spare)):
            vessel = [sys.executable, "-m", "twlab.engines.vessel", str(folder), exchange]
            voyage = _start([*before, *vessel], [str(kernel), *arguments(exchange)], orders, output)
            try:
                if voyage.events >= 0:
                    yield voyage
                    return
                status = voyage.process.wait()
            finally:
                _end(voyage)
            if status != sandbox.NO_NAMESPACES:
                break
    raise CapabilityError(f"the lab kernel cannot be started (status {status})", f"see {folder / 'console.log'}", "no-guest")


def _start(vessel: list[str], kernel: list[str], orders: bytes, output: int) -> _Voyage:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [*vessel, str(theirs.fileno()), *kernel],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # Ctrl-C is for the caller, who ends the guest; a panicking kernel signals its whole process group
            env={**os.environ, "LC_ALL": "C", "TMPDIR": "/dev/shm"},
        )
    assert process.stdin
    try:
        process.stdin.write(orders)
        process.stdin.close()
    except BrokenPipeError:
        pass  # its exit status says why
    fds = socket.recv_fds(ours, 16, 1)[1]
    return _Voyage(process, fds[0] if fds else -1, ours)


def _end(voyage: _Voyage) -> None:
    if voyage.process.poll() is None:
        voyage.process.kill()
    voyage.process.wait()
    voyage.handover.settimeout(10)
    try:
        voyage.handover.recv(1)  # end of file: every process of the guest has ended
    except OSError:
        pass
    voyage.handover.close()
    if voyage.events >= 0:
        os.close(voyage.events)


def _built_kernel() -> Path:
    from twlab.engines import kernel

    found = kernel.find()
    if found is None:
        raise CapabilityError("the lab kernel has not been built", "build it once, in about four minutes: twlab kernel build", "no-lab-kernel")
    return found.path
