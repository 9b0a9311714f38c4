"""Finds the network namespaces that this user can see.

An ordinary user cannot enter them, but can read `/proc/PID/net/tcp` of any process. Two processes
share a namespace exactly if these files are one file. So namespaces can be distinguished without
the right to look at `/proc/PID/ns/net`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from twlab.linux.syscalls import inside_network_namespace, read_file

_NAMED = (Path("/run/netns"), Path("/run/docker/netns"))
_OWN = "this machine"


@dataclass(frozen=True)
class Place:
    """A network namespace.

    Attributes:
        name: for the reader.
        net: its folder of /proc, e.g. ``/proc/4711/net``; empty if it has no process.
        enter: a file that `setns` takes; empty for our own namespace.
        own: it is our own namespace.
    """

    name: str
    net: str
    enter: str
    own: bool = False

    @contextmanager
    def inside(self) -> Iterator[bool]:
        """Enter it while the block runs; yields whether that was possible."""
        with ExitStack() as stack:
            there = self.own
            if not there:
                with suppress(OSError):
                    fd = os.open(self.enter, os.O_RDONLY | os.O_CLOEXEC)
                    stack.callback(os.close, fd)
                    stack.enter_context(inside_network_namespace(fd))
                    there = True
            yield there


def all_visible() -> list[Place]:
    """List our own namespace, those of other processes, and those with only a name."""
    names = _names()
    own = _identity("/proc/self/net")
    found = {own: Place(_OWN, "/proc/self/net", "", own=True)}
    for pid in sorted(int(entry) for entry in os.listdir("/proc") if entry.isdecimal()):
        identity = _identity(f"/proc/{pid}/net")
        if identity and identity not in found:
            found[identity] = Place(_name(pid, names), f"/proc/{pid}/net", f"/proc/{pid}/ns/net")
    inhabited = {_inode(place.enter or "/proc/self/ns/net") for place in found.values()}
    empty = [
        Place(f"netns {name}", "", path) for inode, (name, path) in sorted(names.items()) if inode not in inhabited
    ]
    return [*found.values(), *empty]


def _identity(folder: str) -> int:
    """Return the number of the file that only this namespace has; 0: unknown."""
    try:
        return os.stat(f"{folder}/netstat").st_ino
    except OSError:
        return 0


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0


def _names() -> dict[int, tuple[str, str]]:
    """Return inode to name and path, for each named namespace."""
    named: dict[int, tuple[str, str]] = {}
    for folder in _NAMED:
        try:
            entries = sorted(folder.iterdir())
        except OSError:
            continue
        for path in entries:
            if inode := _inode(str(path)):
                known = inode not in named and any(name == path.name for name, _ in named.values())
                named[inode] = (f"{path.name} in {folder}" if known else path.name, str(path))
    return named


def _name(pid: int, names: dict[int, tuple[str, str]]) -> str:
    if known := names.get(_inode(f"/proc/{pid}/ns/net")):
        return f"netns {known[0]}"
    try:
        command = read_file(f"/proc/{pid}/comm").decode(errors="replace").strip()
    except OSError:
        command = "?"
    return f"netns of pid {pid} ({command})"
