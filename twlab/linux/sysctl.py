"""Sysctls of the network namespace that this thread is in, by their dotted names. Values are text
with single blanks.

Every arm reads and writes hundreds of them. In the lab kernel it is system calls that cost (25 us
each), and `Path.read_text` makes ten where three will do.
"""

from __future__ import annotations

import os
from pathlib import Path

_ROOT = Path("/proc/sys")
_LONGEST = 4096  # a sysctl's text is at most a page


def read(name: str) -> str | None:
    """The value of ``net.ipv4.tcp_sack``, or None where this kernel has no such sysctl."""
    try:
        fd = os.open(_path(name), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return " ".join(os.read(fd, _LONGEST).decode().split())
    finally:
        os.close(fd)


def write(name: str, value: str) -> None:
    """Set a sysctl. Raises OSError: there is none (ENOENT), the value is not taken (EINVAL), or the
    right is missing.
    """
    fd = os.open(_path(name), os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def expand(name: str) -> list[str]:
    """The sysctls that a name with a ``*`` in it stands for, e.g. one for every interface; a plain
    name stands for itself.
    """
    if "*" not in name:
        return [name]
    before, _, after = name.partition(".*.")
    folder = _ROOT / before.replace(".", "/")
    return [f"{before}.{entry.name}.{after}" for entry in sorted(folder.iterdir())] if folder.is_dir() else []


def _path(name: str) -> Path:
    return _ROOT / name.replace(".", "/")
