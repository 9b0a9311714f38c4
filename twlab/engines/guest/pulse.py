"""What a guest that says nothing is doing: told from outside, by who uses the processor.

The lab kernel is one process of the host, and each process of the guest another, a child of it. The
ways to hang look different: a guest process that computes without end burns the child's time, and
virtual time stands still; a guest in which everything waits for what never comes burns the kernel's
time, leaping from timer to timer; one that is stopped burns none.
"""

from __future__ import annotations

import os
from pathlib import Path

from twlab import loop

SAMPLE_S = 0.3
QUIET_S = 10.0  # of real time without an event, after which that is said; again after twice as long
_IDLE = 0.05  # share of a core below which nothing runs


def pulse(kernel: int) -> str:
    """What the guest whose kernel is process `kernel` is doing, in words. Takes `SAMPLE_S` seconds
    to find out.
    """
    own_before, children_before = _used_s(kernel), sum(map(_used_s, children(kernel)))
    loop.Loop().sleep(SAMPLE_S)
    own = (_used_s(kernel) - own_before) / SAMPLE_S
    computing = (sum(map(_used_s, children(kernel))) - children_before) / SAMPLE_S
    if own + computing < _IDLE:
        return "it is stopped, or the machine gives it no time"
    if computing > own:
        return "a process in it computes without end, so that virtual time stands still"
    return "virtual time races on, and everything in it waits for what does not come"


def computes(pid: int) -> bool:
    """Whether process `pid`, or what it started, uses a processor. Takes `SAMPLE_S` seconds to find
    out.
    """
    before = sum(map(_used_s, _descent(pid)))
    loop.Loop().sleep(SAMPLE_S)
    return sum(map(_used_s, _descent(pid))) - before > _IDLE * SAMPLE_S


def _descent(pid: int) -> list[int]:
    return [pid, *(below for child in children(pid) for below in _descent(child))]


def children(pid: int) -> list[int]:
    """The children of process `pid`; none when it is gone, or where the kernel does not tell."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _used_s(pid: int) -> float:
    """Processor time that process `pid` has used, in seconds."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
