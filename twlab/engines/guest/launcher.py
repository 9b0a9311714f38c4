"""Launches the lab kernel: prepares mounts and orders, then becomes it.

It is the last step before the kernel, and leaves it one folder to write to. It makes the sandbox
and goes on in it; without a CALLER_PID, where the machine refuses namespaces, it does without. As a
program, which `twlab.engines.guest.process` starts:

    launcher.main([CALLER_PID, HANDOVER_FD, FOLDER, EXCHANGE, KERNEL, ARGUMENT...])

Standard input is the orders for the guest. The launcher puts them into the folder EXCHANGE, beside
the program that the guest begins with and an empty file for events. It hands that file, open, to
the caller over the Unix socket HANDOVER_FD; with it, for a guest that awaits its request, the
folder. In the sandbox, EXCHANGE is on a tmpfs that no other
process sees and that ends with the sandbox. So even ``kill -9`` leaves nothing behind.

The guest's root file system is the host's, as far as this user may read it. The guest mounts it
read-only; but root in the guest can mount it once more. So the launcher makes every mount but
FOLDER read-only here, outside. An empty FOLDER means that there is no such folder. If the orders
have an ``enclosure``, a stranger's code will run in the guest. Then the guest sees what
`twlab.engines.guest.confinement` shows it, and there is no FOLDER.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
from pathlib import Path

from twlab.engines import sandbox
from twlab.engines.guest.confinement import enclose, give_up_rights
from twlab.linux import syscalls

_MEMORY = "/dev/shm"  # the guest's memory is a file there, without a name


def main(arguments: list[str]) -> None:
    """Make the sandbox, if it is wanted, and launch the kernel. Raises OSError."""
    caller, *rest = arguments
    if caller:
        sys.exit(sandbox.surround(int(caller), lambda: _launch(rest)))
    _launch(rest)


def _launch(arguments: list[str]) -> None:
    """Prepare mounts and exchange, then become the kernel. Raises OSError."""
    handover, folder, exchange, kernel, *rest = arguments
    orders = sys.stdin.buffer.read()
    wanted = json.loads(orders)
    enclosure = wanted.get("enclosure")
    if enclosure:
        enclose(enclosure["view"], enclosure["memory_mib"])
    elif os.getpid() == 1:
        _confine(folder)
    _stay_behind(int(handover))
    place = Path(exchange)
    place.mkdir(mode=0o700)
    (place / "init.py").write_bytes(Path(__file__).with_name("init.py").read_bytes())
    (place / "python").symlink_to(os.path.realpath(sys.executable))
    (place / "orders.json").write_bytes(orders)
    caller = socket.socket(fileno=int(handover))
    with (place / "events").open("xb+") as events:
        folder_fd = [os.open(place, os.O_RDONLY | os.O_DIRECTORY)] if wanted.get("awaits") else []
        socket.send_fds(caller, [b"events"], [events.fileno(), *folder_fd])
    # It stays open in the kernel and its children: its end tells the caller that the last is gone.
    caller.detach()
    _stay_on_one_cpu()
    # Since 6.16 the kernel wants this and else executes itself again by way of /proc, which is not
    # there for a stranger's code.
    syscalls.keep_addresses()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if enclosure:
        give_up_rights([place, *place.iterdir()], enclosure["processor_s"])
        syscalls.die_with_parent()  # a change of credentials has cleared the request
    os.execv(kernel, [kernel, *rest])


def _stay_behind(handover: int) -> None:
    """Go on in a child, in a process group of its own; wait here for its end.

    The kernel must not be pid 1: a pid 1 cannot end itself by a signal, and that is how a kernel
    that panics ends. And its guest's processes must not outlive it: they would go on as processes
    of this machine. So the parent ends those that the kernel leaves.
    """
    child = os.fork()
    # Parent and child both try: whichever is first, it is done when either goes on.
    with contextlib.suppress(OSError):
        os.setpgid(child, child)
    if child == 0:
        syscalls.die_with_parent()
        return
    os.close(handover)
    if os.getpid() != 1:  # in the sandbox the end of pid 1 is the end of all
        signal.signal(signal.SIGTERM, lambda *_: os.killpg(child, signal.SIGKILL))
        syscalls.die_with_parent(signal.SIGTERM)
    ended, status = 0, 0
    while ended != child:
        ended, status = os.wait()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


def _stay_on_one_cpu() -> None:
    """Bind this process, and the kernel that it becomes, to one processor.

    The kernel and its guest's processes take turns and never run side by side. On one processor the
    hand-over costs a third of what it costs between two. The processor is chosen at random, so that
    guests that start together spread.
    """
    allowed = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {allowed[int.from_bytes(os.urandom(2), "big") % len(allowed)]})


def _confine(folder: str) -> None:
    """Make all read-only but `folder`, /run, and a fresh place for the guest's memory."""
    syscalls.mount("tmpfs", _MEMORY, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "size=100%")
    if folder:
        syscalls.mount(folder, folder, flags=syscalls.MS_BIND)
    with contextlib.suppress(OSError):  # before Linux 5.12 the guest's own read-only mount stands alone
        syscalls.set_read_only("/", True, recursive=True)
        for path in filter(None, (folder, _MEMORY, "/run")):
            syscalls.set_read_only(path, False)
