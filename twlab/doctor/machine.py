"""Says what kind of machine this is, and how a guest can have processes here."""

from __future__ import annotations

import errno
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Literal

Kind = Literal["machine", "WSL2", "container"]

_TIMEOUT_S = 20
_FIRST_PIDS = "pid:[4026531836]"  # the machine's own pid namespace (include/linux/proc_ns.h)
_CONTAINERS = {".dockerenv": "Docker", "run/.containerenv": "Podman", "run/systemd/container": ""}

# Run by a process of its own: a traced process stays one. Neither call changes anything else. A
# filter at address 0 cannot be read (EFAULT): the kernel would have taken one.
_TRY = """
import ctypes, json
libc = ctypes.CDLL(None, use_errno=True)
filtered = ctypes.get_errno() if libc.prctl(22, 2, 0, 0, 0) else 0  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
ctypes.set_errno(0)
traced = ctypes.get_errno() if libc.ptrace(0, 0, None, None) else 0  # PTRACE_TRACEME
print(json.dumps({"seccomp": filtered, "ptrace": traced}))
"""


def kind(root: Path = Path("/"), release: str = "", pids: str = "") -> tuple[Kind, str]:
    """Return what kind of machine this is, and what it was told by.

    Files alone do not make a container: an image of one may have become a machine's.

    Args:
        root: where its files are.
        release: of its kernel; empty: of the one that runs.
        pids: this process's pid namespace, as /proc names it; empty: the real one.
    """
    release = release or platform.release()
    pids = pids or os.readlink("/proc/self/ns/pid")
    if "microsoft" in release.lower():
        return "WSL2", f"WSL2, Linux {release}"
    if pids == _FIRST_PIDS:
        return "machine", f"a machine of its own, Linux {release}"
    for name, software in _CONTAINERS.items():
        if (file := root / name).exists():
            return "container", f"a container of {software or file.read_text().strip()}, Linux {release}"
    return "container", f"a container, Linux {release}"


def ways_to_run_a_guest() -> dict[str, str]:
    """Return each way of running a guest's processes, and why it is refused.

    The reason is empty where the way works. ``seccomp`` and ``ptrace`` are the two ways
    (`twlab.engines.guest.userspace`).
    """
    try:
        done = subprocess.run(
            [sys.executable, "-S", "-c", _TRY], capture_output=True, text=True, timeout=_TIMEOUT_S, check=True
        )
        numbers = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return dict.fromkeys(("seccomp", "ptrace"), str(error))
    expected = {"seccomp": errno.EFAULT, "ptrace": 0}
    return {
        name: "" if numbers[name] == wanted else f"{name} is refused: {os.strerror(numbers[name])}"
        for name, wanted in expected.items()
    }
