"""The guest engine: the lab kernel as an ordinary process.

It runs in virtual time, and without root.

    Guest.run ── sandbox ── launcher ── lab kernel ── init ── agent
        │                     │         in a process  pid 1 of   │
        ├── orders ── stdin ──┘         of its own    the guest  │
        └── events ◄── a file of the host's, from launcher ◄─────┘
"""

from __future__ import annotations

import fcntl
import itertools
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from twlab import lab_kernel, paths
from twlab.engines.events import EventReader
from twlab.engines.guest.confinement import enclosure
from twlab.engines.guest.diagnosis import said
from twlab.engines.guest.process import under_way
from twlab.engines.guest.userspace import BY_SECCOMP, FELL_BACK, fell_back, knows_seccomp
from twlab.engines.guest.warm import WarmGuest, concluded
from twlab.engines.protocol import Event, OnEvent
from twlab.errors import CapabilityError, EngineError

# The guest's clock starts at 2024-01-01T00:00:00Z, so that the captures of two runs bear the same
# times.
EPOCH_S = 1_704_067_200
VIRTUAL_TIME = ("time-travel=inf-cpu", f"time-travel-start={EPOCH_S * 10**9}")
# As a machine of 8 GB has. From the guest's little memory Linux would make 4,096, and each search
# for a port would be long.
LARGE_TABLES = ("thash_entries=65536",)
_MOST_SAID = 1 << 20  # bytes
_ENVIRONMENT = ("LC_ALL=C.UTF-8", "PYTHONHASHSEED=0", "PYTHONDONTWRITEBYTECODE=1")


class Guest:
    """Runs an agent in the lab kernel and hands on what it reports.

    Args:
        kernel: the lab kernel; None: the one that has been built.
        agent: the module that carries out requests, with ``carry_out(request, emit)``.
        memory_mib: the guest's memory in MiB. The host gives it as it is used.
        silence_s: real seconds without an event after which the guest counts as hung.
        processor_s: given, what the agent runs is a stranger's code: the guest sees nothing of this
            machine but the Python it runs on (see `twlab.engines.guest.confinement`), has no folder
            to write to, and no process in it may use more seconds of processor time.
        traced: the guest's processes run under ptrace, also where user-mode Linux has its faster
            seccomp mode. In that mode a process can reach all of the guest's memory. A stranger's
            code is always traced.
        more: what else the kernel is told on its command line, e.g. ``thash_entries=65536``.

    Attributes:
        by_seccomp: whether it tries the seccomp mode.

    Raises:
        CapabilityError: the lab kernel has not been built (``no-lab-kernel``).
    """

    name = "guest"

    def __init__(
        self,
        kernel: Path | None = None,
        *,
        agent: str,
        memory_mib: int = 512,
        silence_s: float = 180.0,
        processor_s: int | None = None,
        traced: bool = False,
        more: Sequence[str] = (),
    ):
        self._kernel = kernel or built_kernel()
        self._agent = agent
        self._memory_mib = memory_mib
        self._silence_s = silence_s
        self._processor_s = processor_s
        traced = traced or processor_s is not None
        self.by_seccomp = not traced and knows_seccomp(self._kernel)
        self._clock = clock_of(self._kernel)
        self._more = (*VIRTUAL_TIME, *((BY_SECCOMP,) if self.by_seccomp else ()), *more)

    @property
    def release(self) -> str:
        """The release of the lab kernel; empty of one that was not built here."""
        from twlab.engines.kernel import Kernel

        return str(Kernel(self._kernel).facts().get("version", ""))

    def run(self, request: Mapping[str, Any], folder: Path, on_event: OnEvent, real_limit_s: float) -> None:
        """Carry out `request` in one boot and call `on_event` for each event, as it comes.

        Args:
            request: JSON values, see `twlab.engines.protocol`. Its ``seed`` (default 1) also seeds
                the kernel: two runs of one request are alike to the byte, in what they send and
                when.
            folder: the only place of the host's file system that the guest can write to.
                ``console.log`` in it keeps what the kernel and the agent said, unless all went well
                and the agent said nothing. Where there is one, from another boot, it is
                ``console-2.log``, and so on.
            real_limit_s: real seconds after which the guest is ended.

        Raises:
            CapabilityError: the guest cannot be started on this machine (``no-guest``), or `folder`
                not be written to (``cannot-write``).
            EngineError: ``guest-panicked``, ``guest-hung``, ``guest-storms``, ``guest-spins``,
                ``guest-out-of-memory``, ``guest-garbled`` or ``guest-ended-early``.
        """
        folder = folder.resolve()
        log = _new_log(folder)
        by_seccomp = self.by_seccomp

        def heard(event: Event) -> None:
            nonlocal by_seccomp
            if by_seccomp and fell_back(log.read_text(errors="replace")):
                on_event({"event": "notice", "text": FELL_BACK})
            by_seccomp = False  # it is said once
            on_event(event)

        try:
            ordered = self._orders(request, folder)
            writable, opened = (None, _opened_for_stranger(log)) if self._processor_s else (folder, _opened(log))
            with opened as output:
                text = start_and_follow(
                    self._kernel,
                    partial(self._arguments, int(request.get("seed", 1))),
                    ordered,
                    heard,
                    folder=writable,
                    output=output,
                    clock=self._clock,
                    real_limit_s=real_limit_s,
                    silence_s=self._silence_s,
                )
        except (EngineError, CapabilityError) as error:
            if isinstance(error, EngineError) and error.remedy:
                error.remedy += f"; see {log}"
            error.remedy = error.remedy or f"see {log}"
            raise
        if not said(text):
            log.unlink(missing_ok=True)

    @contextmanager
    def warm(self, log: Path, seed: int, boot_limit_s: float) -> Iterator[WarmGuest]:
        """Boot a guest for a stranger's code, stop it before its request; yield it.

        Args:
            log: keeps what the kernel and the agent say.
            seed: of the kernel.
            boot_limit_s: real seconds that the boot may take.

        Raises:
            CapabilityError, EngineError: as `run`.
        """
        with _opened_for_stranger(log) as output:
            ordered = {**self._orders({}, None), "awaits": True}
            started = under_way(
                self._kernel, partial(self._arguments, seed), ordered, folder=None, output=output, clock=self._clock
            )
            with started as guest:
                warm = WarmGuest(guest, output, seed, self._silence_s)
                warm.boot(boot_limit_s)
                yield warm

    def _arguments(self, seed: int, exchange: str) -> list[str]:
        more = (*self._more, f"random.seed={seed % 2**64}")
        return command_line(exchange, memory_mib=self._memory_mib, consoles=("null,fd:1",), more=more)

    def _orders(self, request: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
        if not self._processor_s:
            return orders(self._agent, request, folder)
        enclosed = enclosure(self._kernel, memory_mib=self._memory_mib, processor_s=self._processor_s)
        return {**orders(self._agent, request, None), "cwd": "/", "enclosure": enclosed}


def start_and_follow(
    kernel: Path,
    arguments: Callable[[str], Sequence[str]],
    orders: dict[str, Any],
    on_event: OnEvent,
    *,
    folder: Path | None,
    output: int,
    terminal: int = -1,
    clock: int | None = None,
    real_limit_s: float = math.inf,
    silence_s: float = math.inf,
) -> str:
    """Start a guest, follow it to its end, diagnose it; return its console's text.

    Args:
        kernel, arguments, orders, folder, terminal: see `twlab.engines.guest.process.under_way`.
        on_event: called with each event, as it comes.
        output: file descriptor of the console's log, which can be read, too.
        clock: address of the guest's clock; None: unknown, and a standstill is not noticed.
        real_limit_s, silence_s: see `twlab.engines.guest.process.GuestProcess.follow`.

    Raises:
        CapabilityError, EngineError: as `Guest.run`, without a remedy.
    """
    reader = EventReader(on_event)
    started = under_way(kernel, arguments, orders, folder=folder, output=output, terminal=terminal, clock=clock)
    with started as guest:
        status = guest.follow(reader, real_limit_s=real_limit_s, silence_s=silence_s)
    return concluded(output, status, reader)


def command_line(exchange: str, *, memory_mib: int, consoles: Sequence[str], more: Sequence[str] = ()) -> list[str]:
    """Return the lab kernel's command line.

    What stands behind ``--`` is for init. A KEY=VALUE that the kernel does not know goes into init's
    environment.

    Args:
        exchange: the folder through which orders and events go.
        memory_mib: the guest's memory in MiB.
        consoles: what the first consoles are connected to, as ``INPUT,OUTPUT``; the kernel itself
            writes to the first.
        more: further parameters of the kernel.
    """
    return [
        f"mem={memory_mib}M",
        "root=/dev/root",
        "rootfstype=hostfs",
        "rootflags=/",
        "ro",
        *more,
        "con=none",
        *(f"con{number}={ends}" for number, ends in enumerate(consoles)),
        "ssl=none",
        "uml_dir=/dev/null/",  # no pid file: a process that is killed could not remove it
        "loglevel=3",  # only what is grave: a line on the console costs more than a system call
        *_ENVIRONMENT,
        f"init={exchange}/python",
        "--",
        "-S",
        "-P",
        f"{exchange}/init.py",
    ]


def orders(agent: str, request: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
    """Return the orders for the guest, see `twlab.engines.guest.init`.

    With them the guest runs the same Python in the same place as this process.
    """
    return {
        "host_name": lab_kernel.HOST_NAME,
        "folder": str(folder or ""),
        "cwd": os.getcwd(),
        "path": [str(paths.IMPORT_FROM), *sys.path],
        "executable": sys.executable,
        "environment": {"PATH": os.environ.get("PATH", os.defpath), "HOME": "/root"},
        "agent": agent,
        "request": request,
    }


def built_kernel() -> Path:
    """Return the lab kernel that has been built.

    Raises:
        CapabilityError: it has not been built (``no-lab-kernel``).
    """
    from twlab.engines import kernel

    found = kernel.find()
    if found is None:
        raise CapabilityError(
            "the lab kernel has not been built",
            "build it once, in about four minutes: twlab kernel build",
            "no-lab-kernel",
        )
    return found.path


def clock_of(program: Path) -> int | None:
    """Return the address of the virtual clock in a lab kernel.

    See `twlab.engines.guest.liveness`. It is None if the kernel's build has not noted it.
    """
    from twlab.engines.kernel import Kernel

    return Kernel(program).clock


@contextmanager
def _opened_for_stranger(log: Path) -> Iterator[int]:
    """Open a log as `_opened` does, for a console whose output needs a bound.

    A write past `_MOST_SAID` bytes fails.
    """
    with _opened(log) as kept:
        fd = os.memfd_create("console", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, _MOST_SAID)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
            yield fd
        finally:
            os.write(kept, os.pread(fd, _MOST_SAID, 0).rstrip(b"\0"))
            os.close(fd)


@contextmanager
def _opened(log: Path) -> Iterator[int]:
    try:
        fd = os.open(log, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
    except OSError as error:
        raise _cannot_write(log.parent, error) from error
    try:
        yield fd
    finally:
        os.close(fd)


def _new_log(folder: Path) -> Path:
    """Make the log of one boot in `folder`, which other boots may use, too; return its path.

    Raises:
        CapabilityError: it cannot be made (``cannot-write``).
    """
    for number in itertools.count(1):
        log = folder / ("console.log" if number == 1 else f"console-{number}.log")
        try:
            log.touch(exist_ok=False)
            return log
        except FileExistsError:
            continue
        except OSError as error:
            raise _cannot_write(folder, error) from error
    raise AssertionError


def _cannot_write(folder: Path, error: OSError) -> CapabilityError:
    return CapabilityError(
        f"{folder} cannot be written to: {error.strerror}", "name another folder with --out", "cannot-write"
    )
