"""Sysctls of the network namespace that this thread is in, by their dotted names. Values are text with single blanks."""

from __future__ import annotations

from pathlib import Path

_ROOT = Path("/proc/sys")


def read(name: str) -> str | None:
    """The value of ``net.ipv4.tcp_sack``, or None where this kernel has no such sysctl."""
    try:
        return " ".join(_path(name).read_text().split())
    except FileNotFoundError:
        return None


def write(name: str, value: str) -> None:
    """Set a sysctl. Raises OSError: there is none (ENOENT), the value is not taken (EINVAL), or the right is missing."""
    _path(name).write_text(value)


def expand(name: str) -> list[str]:
    """The sysctls that a name with a ``*`` in it stands for, e.g. one for every interface; a plain name stands for itself."""
    if "*" not in name:
        return [name]
    before, _, after = name.partition(".*.")
    folder = _ROOT / before.replace(".", "/")
    return [f"{before}.{entry.name}.{after}" for entry in sorted(folder.iterdir())] if folder.is_dir() else []


def _path(name: str) -> Path:
    return _ROOT / name.replace(".", "/")
