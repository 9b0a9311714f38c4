"""Tells how long processes have waited for a processor.

Source: /proc/PID/task/TID/schedstat (Linux Documentation/scheduler/sched-stats.rst).
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")


def waited_s(proc: Path = _PROC) -> float:
    """Return the seconds that processes here could have run, and did not.

    It is a sum over the threads of this pid namespace, since each began. Where the kernel does not
    count (CONFIG_SCHEDSTATS), it is 0.
    """
    total_ns = 0
    for file in proc.glob("[0-9]*/task/*/schedstat"):
        # A thread that has ended meanwhile, or a kernel that does not count.
        with suppress(OSError, IndexError, ValueError):
            total_ns += int(file.read_text().split()[1])
    return total_ns / 1e9
