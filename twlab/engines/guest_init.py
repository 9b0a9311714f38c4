"""The first process in the lab kernel: makes the guest's file systems, then carries out what it was ordered.

It is copied into the exchange folder and started there by the kernel, on a Python without site-packages, so it imports nothing of
twlab before it has mounted and read its orders. It never returns: it ends the guest by switching it off.

The orders, ``orders.json`` in the exchange folder:

    {"exchange": folder of this file, "folder": the one writable folder, "cwd": ..., "path": sys.path, "executable": ...,
     "environment": {...}, "agent": "twlab.inside", "request": {...}}

The agent is a module with ``carry_out(request, emit)``. What it emits goes to the file ``events``, one JSON object a line; a
write to a file of the host is one system call of the host's, done when it returns, and takes no virtual time.
"""

from __future__ import annotations

import gc
import os
import sys
import traceback

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
RB_POWER_OFF = 0x4321FEDC
PR_SET_TIMERSLACK = 29


def main() -> None:
    """Mount, read the orders, carry them out, switch off."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    try:
        # Sleeps end on time, to the nanosecond, not within the 50 us that Linux allows itself to save power.
        libc.prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
        orders, events = _open_exchange(libc, os.path.dirname(__file__))
        _mount_all(libc, orders["folder"])
        _adopt(orders)
        _carry_out(orders, events)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        libc.reboot(RB_POWER_OFF)


def _open_exchange(libc, exchange: str):
    import json

    _mount(libc, exchange, exchange, "hostfs", MS_NOSUID | MS_NODEV)
    with open(f"{exchange}/orders.json") as file:
        orders = json.load(file)
    return orders, open(f"{exchange}/events", "w")


def _mount_all(libc, folder: str) -> None:
    quiet = MS_NOSUID | MS_NODEV
    _mount(libc, "proc", "/proc", "proc", quiet | MS_NOEXEC)
    _mount(libc, "sysfs", "/sys", "sysfs", quiet | MS_NOEXEC)
    _mount(libc, "devtmpfs", "/dev", "devtmpfs", MS_NOSUID)
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2")):
        os.symlink(target, f"/dev/{name}")
    for path in ("/dev/pts", "/dev/shm"):
        os.mkdir(path)
    _mount(libc, "devpts", "/dev/pts", "devpts", MS_NOSUID, "mode=620,ptmxmode=666")
    os.unlink("/dev/ptmx") if os.path.lexists("/dev/ptmx") else None
    os.symlink("pts/ptmx", "/dev/ptmx")
    _mount(libc, "tmpfs", "/dev/shm", "tmpfs", quiet)
    _mount(libc, "tmpfs", "/run", "tmpfs", quiet, "mode=755")
    for path in ("/tmp", "/var/tmp"):
        # What lies there can still be read (a scenario's file may), and what is written stays in the guest.
        layers = f"/run/layers{path}"
        os.makedirs(f"{layers}/upper", 0o1777)
        os.mkdir(f"{layers}/work")
        _mount(libc, "overlay", path, "overlay", quiet, f"lowerdir={path},upperdir={layers}/upper,workdir={layers}/work")
    os.makedirs(folder, exist_ok=True)
    _mount(libc, folder, folder, "hostfs", quiet)


def _adopt(orders) -> None:
    """Become the same Python, in the same place, as the one that ordered this."""
    os.environ.update(orders["environment"])
    sys.path[:] = orders["path"]
    sys.executable = orders["executable"]
    os.chdir(orders["cwd"])


def _carry_out(orders, events) -> None:
    import importlib
    import json

    def emit(event) -> None:
        events.write(json.dumps(event) + "\n")
        events.flush()

    gc.disable()
    agent = importlib.import_module(orders["agent"])
    gc.enable()
    agent.carry_out(orders["request"], emit)


def _mount(libc, source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    import ctypes

    if kind == "hostfs":
        source, data = "none", source
    if libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode()) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"mount {kind} on {target}: {os.strerror(number)}")


if __name__ == "__main__":
    main()
