"""What the lab kernel sails in: the last step between the sandbox and the kernel, which leaves it nothing to write to but one folder.

Runs inside the sandbox (or, where the machine refuses namespaces, without one), as a program:

    python -m twlab.engines.vessel FOLDER EXCHANGE HANDOVER_FD KERNEL ARGUMENT...

Standard input is the orders for the guest, one JSON object (see `twlab.engines.guest_init`). They are put into the folder EXCHANGE, beside
the program that the guest begins with and an empty file for events. That file is handed, open, to the caller over the Unix
socket HANDOVER_FD. In the sandbox EXCHANGE is on a tmpfs that nobody else sees and that ends with the sandbox, so that even
``kill -9`` leaves nothing behind.

The guest's root file system is the host's, as this user may read it. The guest mounts it read-only, but whoever is root inside could
mount it again: so here, outside, every mount but FOLDER is made read-only, too.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
from pathlib import Path

from twlab import syscalls
from twlab.engines import guest_init

MEMORY = "/dev/shm"  # where the guest's memory is: a file of this size, on tmpfs, without a name


def main(arguments: list[str]) -> None:
    """Prepare the exchange and the mounts, then become the kernel. Raises OSError."""
    folder, exchange, handover, kernel, *rest = arguments
    if os.getpid() == 1:
        _confine(folder)
    else:
        syscalls.die_with_parent()
    os.makedirs(exchange, exist_ok=True)
    shutil.copyfile(guest_init.__file__, f"{exchange}/init.py")
    os.symlink(os.path.realpath(sys.executable), f"{exchange}/python")
    Path(exchange, "orders.json").write_bytes(sys.stdin.buffer.read())
    caller = socket.socket(fileno=int(handover))
    with open(f"{exchange}/events", "xb+") as events:
        socket.send_fds(caller, [b"events"], [events.fileno()])
    caller.detach()  # stays open in the kernel and its children: its end tells the caller that all of them are gone
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.execv(kernel, [kernel, *rest])


def _confine(folder: str) -> None:
    """Everything read-only but `folder`, /run, and a fresh /dev/shm for the guest's memory."""
    syscalls.mount(folder, folder, flags=syscalls.MS_BIND)
    syscalls.mount("tmpfs", MEMORY, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "size=100%")
    try:
        syscalls.set_read_only("/", True, recursive=True)
        for path in (folder, MEMORY, "/run"):
            syscalls.set_read_only(path, False)
    except OSError:
        pass  # before Linux 5.12: the guest's own read-only mount stands alone


if __name__ == "__main__":
    main(sys.argv[1:])
