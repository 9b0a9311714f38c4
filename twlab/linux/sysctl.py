"""Reads and writes sysctls of this thread's network namespace, by dotted name.

Values are text with single blanks. Every arm reads and writes hundreds of them. In the lab kernel a
system call takes 25 us, and `Path.read_text` makes ten where three suffice.
"""

from __future__ import annotations

import os
from pathlib import Path

_ROOT = "/proc/sys/"
_there: set[str] = set()
_LONGEST = 4096  # a sysctl's text is at most a page


def read(name: str) -> str | None:
    """Read a sysctl, for example ``net.ipv4.tcp_sack``; None if this kernel lacks it."""
    try:
        fd = os.open(_path(name), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return _text(os.read(fd, _LONGEST))
    finally:
        os.close(fd)


def exists(name: str) -> bool:
    """Return whether this kernel has a sysctl.

    What it once had it keeps, so that is not asked for again.
    """
    if name not in _there and os.access(_path(name), os.F_OK):
        _there.add(name)
    return name in _there


def write(name: str, value: str) -> None:
    """Write a sysctl.

    Raises OSError: the kernel lacks it (ENOENT), refuses the value (EINVAL), or the right is
    missing.
    """
    fd = os.open(_path(name), os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def write_back(name: str, value: str) -> str:
    """Write a sysctl; return the value read back through the same open file.

    Raises OSError, as `write`; EACCES also where it can only be written.
    """
    fd = os.open(_path(name), os.O_RDWR | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
        return _text(os.pread(fd, _LONGEST, 0))
    finally:
        os.close(fd)


def expand(name: str) -> list[str]:
    """List the sysctls that a name with a ``*`` stands for, one for every interface.

    A plain name stands for itself.
    """
    if "*" not in name:
        return [name]
    before, _, after = name.partition(".*.")
    folder = Path(_path(before))
    return [f"{before}.{entry.name}.{after}" for entry in sorted(folder.iterdir())] if folder.is_dir() else []


def _path(name: str) -> str:
    return _ROOT + name.replace(".", "/")


def _text(read: bytes) -> str:
    return " ".join(read.decode().split())
