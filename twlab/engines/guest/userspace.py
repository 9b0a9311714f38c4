"""How the lab kernel runs its guest's processes: by ptrace or seccomp.

It runs them under ptrace or, since Linux 6.16, by seccomp, which takes three quarters of the
processor time. In seccomp mode every process of the guest can reach all of the guest's memory
(arch/um/os-Linux/start_up.c). So that mode is for code that may do what its user may; a stranger's
code is traced.
"""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

BY_SECCOMP = "seccomp=auto"  # tries it, and traces where the machine does not allow it
FELL_BACK = (
    "this machine allows the lab kernel no seccomp filters, so it runs under ptrace, which costs a "
    "third more processor time"
)
_TRIED = "Checking that seccomp filters can be installed..."


@cache
def knows_seccomp(kernel: Path) -> bool:
    """Return whether the lab kernel `kernel` has the seccomp mode.

    The kernel is asked which options it takes.
    """
    try:
        said = subprocess.run(
            [kernel, "--help"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return "seccomp=<" in said.stdout + said.stderr


def fell_back(console: str) -> bool:
    """Return whether a kernel that was to use seccomp traces after all.

    Args:
        console: what the kernel has said so far.
    """
    _, tried, outcome = console.partition(_TRIED)
    return bool(tried) and not outcome.startswith("OK")
