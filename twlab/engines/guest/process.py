"""One guest under way: starts its processes and hands on what it reports.

Nothing of it is left at the end. The guest's clock stands still while anything in it computes, and
leaps while all of it waits. So nothing may ever make the guest wait for the host: orders and events
go through files, which the guest reads and writes within one system call, and inotify wakes the
host. Over a serial line, a host that is slow to read would cost the guest virtual time.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twlab import loop, paths
from twlab.engines import sandbox
from twlab.engines.events import EventReader
from twlab.engines.guest.liveness import QUIET_S, StandstillWatch, children, pulse
from twlab.errors import CapabilityError, EngineError
from twlab.linux import syscalls

_LOOK_S = 0.5  # real seconds between two looks at a guest that says nothing
_IN_SANDBOX = "/run/twlab"  # where /run is a tmpfs of the sandbox's own
# The launcher needs nothing of what `import twlab` gives, which takes longer than all that it does.
_LAUNCH = """
import sys, types
sys.modules["twlab"] = twlab = types.ModuleType("twlab")
twlab.__path__ = [sys.argv[1]]
from twlab.engines.guest import launcher
launcher.main(sys.argv[2:])
"""


@dataclass
class GuestProcess:
    """A guest under way.

    Attributes:
        process: ends when the guest's kernel does, and the other way round: the sandbox, or
            without one, the launcher.
        sandboxed: which of them.
        events: the file of the guest's events.
        handover: a socket that is at its end of file once the last process of the guest is gone.
        clock: address of the guest's clock in its kernel, see `twlab.engines.guest.liveness`; None:
            unknown.
        exchange: the folder into which a guest's request goes that comes after its boot; -1: it
            has no such folder.
    """

    process: subprocess.Popen[bytes]
    sandboxed: bool
    events: int
    handover: socket.socket
    clock: int | None = None
    exchange: int = -1
    _offset: int = 0

    def follow(
        self,
        reader: EventReader,
        *,
        real_limit_s: float = math.inf,
        silence_s: float = math.inf,
        until: Callable[[], bool] = lambda: False,
    ) -> int | None:
        """Hand on events until the guest is gone; return its exit status.

        The status is negative, or 128 and more, for a signal. It is None when `until` holds after
        an event; the guest goes on then, and can be followed again.

        Raises:
            EngineError: it was silent for `silence_s` seconds, or not done in `real_limit_s`
                (``guest-hung``); it computes at one instant of virtual time without end
                (``guest-storms``, ``guest-spins``), where the clock's address is known.
        """
        deadline_s = loop.monotonic_s() + real_limit_s
        first_quiet_s = quiet_s = QUIET_S if silence_s < math.inf else math.inf
        pidfd = os.pidfd_open(self.process.pid)
        watch = syscalls.watch_writes(self.events)
        standstill: StandstillWatch | None = None
        try:
            heard_s = loop.monotonic_s()
            while True:
                rest_s = min(deadline_s, heard_s + silence_s, heard_s + quiet_s) - loop.monotonic_s()
                if self.clock is not None:
                    rest_s = min(rest_s, _LOOK_S)
                ready, _, _ = select.select([pidfd, watch], [], [], max(0.0, rest_s) if rest_s < math.inf else None)
                if self.clock is not None and not ready:
                    standstill = standstill or StandstillWatch(self._kernel(), self.clock)
                    if found := standstill.look(self._offset, reader.within_steps):
                        raise found
                now_s = loop.monotonic_s()
                if now_s >= deadline_s and pidfd not in ready:
                    raise self._hung(f"not done in {real_limit_s:g} s of real time")
                if not ready and now_s >= heard_s + silence_s:
                    raise self._hung(f"{silence_s:g} s of real time without an event")
                if not ready and now_s < heard_s + quiet_s:
                    continue
                if not ready:
                    reader.quiet(quiet_s, pulse(self._kernel(), self.clock))
                    quiet_s *= 2
                    continue
                if watch in ready:
                    os.read(watch, 1 << 16)
                if self._read(reader, deadline_s):
                    heard_s, quiet_s = loop.monotonic_s(), first_quiet_s
                    if until():
                        return None
                if pidfd in ready:
                    return self.process.wait()
        finally:
            os.close(watch)
            os.close(pidfd)

    def _read(self, reader: EventReader, deadline_s: float) -> bool:
        """Feed `reader` with what the guest has written since; whether it has.

        A guest may write faster than it is read: that ends at the deadline.
        """
        before = self._offset
        while data := os.pread(self.events, 1 << 20, self._offset):
            self._offset += len(data)
            reader.feed(data)
            if loop.monotonic_s() >= deadline_s:
                break
        return self._offset > before

    def end(self) -> None:
        """Kill what is left of the guest, and wait until it is gone."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL if self.sandboxed else signal.SIGTERM)
        self.process.wait()
        self.handover.settimeout(10)
        with contextlib.suppress(OSError):
            self.handover.recv(1)
        self.handover.close()
        for fd in (self.events, self.exchange):
            if fd >= 0:
                os.close(fd)

    def stop(self) -> None:
        """Stop the guest where it is; `give` has it go on.

        Only its kernel is stopped: its processes go no further than to their next system call.
        """
        os.kill(self._kernel(), signal.SIGSTOP)

    def give(self, request: Mapping[str, Any]) -> None:
        """Give its request to a guest that awaits it and has been stopped.

        Raises:
            EngineError: the guest is gone (``guest-ended-early``).
        """
        made = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with os.fdopen(os.open("request", made, 0o644, dir_fd=self.exchange), "w") as file:
                json.dump(request, file)
            os.rename("request", "request.json", src_dir_fd=self.exchange, dst_dir_fd=self.exchange)
            os.kill(self._kernel(), signal.SIGCONT)
        except OSError as error:
            message = f"the guest was gone before it had its request: {error.strerror}"
            raise EngineError(message, slug="guest-ended-early") from error

    def _kernel(self) -> int:
        kernel = self.process.pid
        for _ in range(2 if self.sandboxed else 1):
            kernel = next(iter(children(kernel)), kernel)
        return kernel

    def _hung(self, why: str) -> EngineError:
        return EngineError(f"the guest hung: {why}; {pulse(self._kernel(), self.clock)}", slug="guest-hung")


@contextmanager
def under_way(
    kernel: Path,
    arguments: Callable[[str], Sequence[str]],
    orders: dict[str, Any],
    *,
    folder: Path | None,
    output: int,
    terminal: int = -1,
    clock: int | None = None,
) -> Iterator[GuestProcess]:
    """Start a guest; when the block ends, in any way, nothing of it is left.

    Where the machine refuses namespaces, the guest runs without the sandbox: it dies with this
    process all the same, but it is kept from the user's files only by its own read-only mount. A
    guest with an enclosure does not run then.

    Args:
        kernel: the lab kernel.
        arguments: its command line, given the folder through which orders and events go.
        orders: see `twlab.engines.guest.init`.
        folder: the only place of the host's file system that the guest can write to; None: there is
            none.
        output: file descriptor for standard output and standard error of the kernel.
        terminal: another file descriptor that the kernel is given, under the same number.
        clock: address of the clock in a kernel whose time is virtual.

    Raises:
        CapabilityError: the lab kernel cannot be started on this machine (``no-guest``), or with an
            enclosure not without namespaces (``no-namespaces``).
    """
    spare = (folder or Path(tempfile.gettempdir())) / f".twlab-{os.getpid()}"
    try:
        ways = [(True, _IN_SANDBOX), (False, str(spare))]
        for sandboxed, exchange in ways[: 1 if "enclosure" in orders else None]:
            command = [str(folder or ""), exchange, str(kernel), *arguments(exchange)]
            guest = _start(sandboxed, command, orders, output, terminal)
            guest.clock = clock
            try:
                if guest.events >= 0:
                    yield guest
                    return
                status = guest.process.wait()
            finally:
                guest.end()
            if status != sandbox.NO_NAMESPACES:
                break
    finally:
        shutil.rmtree(spare, ignore_errors=True)
    if status == sandbox.NO_NAMESPACES:
        raise sandbox.explain_refusal("without them, nothing would keep a stranger's code from this machine")
    raise CapabilityError(f"the lab kernel cannot be started (status {status})", slug="no-guest")


def _start(sandboxed: bool, command: list[str], orders: dict[str, Any], output: int, terminal: int) -> GuestProcess:
    # The environment may hold secrets, which a stranger's code must not see.
    environment = {} if "enclosure" in orders else os.environ
    ours, theirs = socket.socketpair()
    # Neither needs a package, and neither may take a module from where the user is.
    python = [sys.executable, "-S", "-P", "-c", _LAUNCH, str(paths.PACKAGE)]
    with theirs:
        process = subprocess.Popen(
            [*python, str(os.getpid()) if sandboxed else "", str(theirs.fileno()), *command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            pass_fds=[theirs.fileno(), *([terminal] if terminal >= 0 else [])],
            # Ctrl-C is for the caller, who ends the guest; and a kernel that panics signals its
            # whole process group.
            start_new_session=True,
            env={**environment, "LC_ALL": "C", "TMPDIR": "/dev/shm", "PYTHONPATH": str(paths.IMPORT_FROM)},
        )
    assert process.stdin
    with contextlib.suppress(BrokenPipeError):  # its exit status says why
        process.stdin.write(json.dumps(orders).encode())
        process.stdin.close()
    events, exchange = (*socket.recv_fds(ours, 16, 2)[1], -1, -1)[:2]
    return GuestProcess(process, sandboxed, events, ours, exchange=exchange)
