"""Diagnoses a guest: why it ended, and why it is silent.

`fault` reads a finished guest's console and exit status. `pulse` looks at a silent guest from
outside. The lab kernel is one process of the host, each process of the guest is a child of it, and
the ways to hang differ in who uses the processor:

- A process in the guest computes without end: the child's time grows, virtual time stands still.
- Everything in the guest waits for an event that never comes: the kernel's time grows, since it
  advances from timer to timer.
- The guest is stopped: no time grows.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from twlab import loop
from twlab.engines.guest.init import AGENT_BEGINS

SAMPLE_S = 0.3
QUIET_S = 10.0  # of real time without an event, after which that is said; again after twice as long
_IDLE = 0.05  # share of a core below which nothing runs
_PANIC = re.compile(r"Kernel panic - not syncing: (?P<reason>.*)")
_INIT_DIED = re.compile(r"Attempted to kill init! exitcode=0x(?P<code>[0-9a-f]+)")
_OUT_OF_MEMORY = re.compile(r"deadlocked on memory|[Oo]ut of memory|MemoryError")
_NO_PAGE = re.compile(
    r"Kernel mode signal 7\b"
)  # SIGBUS: the guest's memory is a file, and the file system has no page for it
_FAREWELL = ("reboot: ", "remove_umid_dir")


@dataclass(frozen=True)
class Fault:
    """Why a run of the guest is no result: the slug of an `EngineError` and its message."""

    slug: str
    message: str


def fault(text: str, status: int, *, garbled: str, ended: bool) -> Fault | None:
    """The fault of a guest that is gone; None when it ended as it should.

    Args:
        text: its console.
        status: exit status of the process.
        garbled: beginning of the first line among its events that was none; empty when there was no
            such line.
        ended: whether its last event was ``end``.
    """
    if panic := _PANIC.search(text):
        reason = panic["reason"].strip()
        if died := _INIT_DIED.search(reason):
            return Fault("guest-ended-early", f"the agent in the guest died ({_in_words(int(died['code'], 16))})")
        if _NO_PAGE.search(reason):
            return Fault("guest-out-of-memory", "the machine had no memory left for the guest, or its /dev/shm is full")
        if _OUT_OF_MEMORY.search(reason):
            return Fault("guest-out-of-memory", f"the guest ran out of memory: {reason}")
        return Fault("guest-panicked", f"the lab kernel panicked: {reason}")
    if garbled:
        return Fault("guest-garbled", f"the guest reported something that is no event: {garbled!r}")
    if not ended:
        last = "".join(said(text)[-1:]).strip()
        slug = "guest-out-of-memory" if _OUT_OF_MEMORY.match(last) else "guest-ended-early"
        return Fault(
            slug, f"the guest ended before its work was done, with status {status}{': ' + last if last else ''}"
        )
    if status != 0:
        return Fault("guest-ended-early", f"the guest ended with status {status} after its work was done")
    return None


def _in_words(wait_status: int) -> str:
    return f"signal {wait_status & 0x7F}" if wait_status & 0x7F else f"exit status {wait_status >> 8 & 0xFF}"


def said(text: str) -> list[str]:
    """What the agent in the guest said on the console: its lines, without what every lab kernel
    says before and after.
    """
    return [
        line
        for line in text.rpartition(AGENT_BEGINS)[2].splitlines()
        if line.strip() and not line.startswith(_FAREWELL)
    ]


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
