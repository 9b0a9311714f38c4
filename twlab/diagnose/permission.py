"""Tells whether a request to inet_diag would load a module into the kernel.

The first request makes the kernel look for the module tcp_diag (net/ipv4/inet_diag.c,
inet_diag_lock_handler; net/core/sock_diag.c, sock_load_diag_module). A request of root loads it,
and so does one of an ordinary user.
"""

from __future__ import annotations

import gzip
import os
from pathlib import Path

from twlab.linux.syscalls import read_file

_MODULE, _OPTION = "tcp_diag", b"CONFIG_INET_TCP_DIAG=y"


def loads_nothing(root: Path = Path("/")) -> str:
    """Return why a request over inet_diag loads no module here.

    For example ``the module tcp_diag is loaded``; empty if a request might load a module.

    Args:
        root: the folder that holds proc, sys, lib and boot.
    """
    modules = _read(root / "proc/modules")
    if modules is None and (root / "proc/net").exists():
        return "the kernel has no loadable modules"
    if any(line.startswith(b"tcp_diag ") for line in (modules or b"").splitlines()):
        return "the module tcp_diag is loaded"
    if (root / "sys/module" / _MODULE).exists():
        return "tcp_diag is in the kernel"
    if (_read(root / "proc/sys/kernel/modules_disabled") or b"0").strip() == b"1":
        return "the kernel loads no more modules"
    release = os.uname().release
    if f"/{_MODULE}.ko".encode() in (_read(root / "lib/modules" / release / "modules.builtin") or b""):
        return "tcp_diag is built into the kernel"
    if _OPTION in (_read(root / "boot" / f"config-{release}") or b"") or _OPTION in _unpacked(root / "proc/config.gz"):
        return "tcp_diag is built into the kernel"
    symbols = _read(root / "proc/kallsyms") or b""
    at = symbols.find(b" tcp_diag_dump\n")  # a module's symbol has its name after it
    return "tcp_diag is built into the kernel" if at >= 0 else ""


def _read(path: Path) -> bytes | None:
    try:
        return read_file(str(path))
    except OSError:
        return None


def _unpacked(path: Path) -> bytes:
    try:
        return gzip.decompress(_read(path) or b"")
    except (OSError, EOFError):
        return b""
