"""Finds which process holds which socket, by the links in /proc/PID/fd.

Without root these are only our own processes.

A process with 100,000 descriptors is sampled: some of its sockets in each pool are enough to name
it.
"""

from __future__ import annotations

import os

from twlab.linux.syscalls import read_file

_OF_KERNEL = 0x00200000  # PF_KTHREAD, include/linux/sched.h
_FLAGS = 6  # of /proc/PID/stat, counted from behind the name
_MOST = 1024  # links read of one process


def of_sockets() -> tuple[dict[int, str], int]:
    """Return inode to process, and the number of programs that we may not read.

    A process is written ``nginx[4711]``.
    """
    owners: dict[int, str] = {}
    closed = 0
    for pid in (entry for entry in os.listdir("/proc") if entry.isdecimal()):
        try:
            entries = os.listdir(f"/proc/{pid}/fd")
        except PermissionError:
            closed += not _of_kernel(pid)
            continue
        except OSError:
            continue
        name = ""
        for entry in entries[:: len(entries) // _MOST + 1]:
            try:
                target = os.readlink(f"/proc/{pid}/fd/{entry}")
            except OSError:
                continue
            if target.startswith("socket:["):
                name = name or f"{_command(pid)}[{pid}]"
                owners[int(target[8:-1])] = name
    return owners, closed


def _of_kernel(pid: str) -> bool:
    """Tell whether a process is a thread of the kernel, which has no files."""
    try:
        return bool(int(read_file(f"/proc/{pid}/stat").rpartition(b")")[2].split()[_FLAGS]) & _OF_KERNEL)
    except (OSError, IndexError, ValueError):
        return False


def _command(pid: str) -> str:
    try:
        return read_file(f"/proc/{pid}/comm").decode(errors="replace").strip()
    except OSError:
        return "?"
