"""Tells from outside why a guest is silent: by processor time and its clock.

The lab kernel is one process of the host, and each process of the guest another, a child of it. The
ways to hang look different. A guest process that computes without end burns the child's time, and
virtual time stands still. A kernel in which segments answer each other for ever burns its own time
alone, and virtual time stands still as well. A guest in which everything waits for what never comes
burns the kernel's time too, but leaps from timer to timer. One that is stopped burns none.

A guest under a heavy load also computes for seconds in which its clock hardly moves; but whenever
all of it waits, the clock leaps to the next timer. Without a leap it moves by readings alone, each
of which takes the same time. So a guest whose clock is whole readings away from where it was has
not waited since.

The guest's clock is a variable of its kernel, `time_travel_time` (arch/um/kernel/time.c), in ns.
The build notes its address.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from twlab import loop
from twlab.errors import EngineError

SAMPLE_S = 0.3
# Processor time that a judgement needs: the host counts it in ticks of 10 ms, and on a busy machine
# a sample may hold one or none of them.
ENOUGH_S = 0.1
SAMPLES = 10  # at most; a guest that has not used that much by then does nothing
QUIET_S = 10.0  # of real time without an event, after which that is said; again after twice as long
# Processor time of the kernel alone at one instant, after which it storms. Nothing that Linux does
# by itself takes a tenth of it.
STORM_S = 3.0
# Of virtual time: in a storm hardly a process comes to read the clock. Each of many connects does.
STORM_STILL_NS = 100_000
SPIN_S = 4.0  # processor time of kernel and processes at one instant, without an event
# Of virtual time, within which it counts as one instant, where the clock moves by readings alone.
STILL_NS = 500_000_000
READING_NS = 256  # TIMER_MULTIPLIER, arch/um/include/linux/time-internal.h
_IDLE = 0.05  # share of a core below which nothing runs
# Share of the processor time below which the guest's processes do nothing but record: in a storm,
# the capture of it. A process that computes or polls has more than half.
_ALONE = 0.1


def pulse(kernel: int, clock: int | None = None) -> str:
    """Say in words what a guest is doing.

    Takes `SAMPLE_S` seconds to find out, and up to `SAMPLES` times that if it gets little time.

    Args:
        kernel: process of the guest's kernel.
        clock: address of its clock; None: unknown.
    """
    before, began_ns = used(kernel), time_ns(kernel, clock)
    for _ in range(SAMPLES):
        loop.Loop().sleep(SAMPLE_S)
        spent = used(kernel) - before
        if spent.own_s + spent.processes_s >= ENOUGH_S:
            break
    else:
        return "it is stopped, or the machine gives it no time"
    ended_ns = time_ns(kernel, clock)
    passed_ns = None if began_ns is None or ended_ns is None else ended_ns - began_ns
    if passed_ns is not None and passed_ns % READING_NS and passed_ns < STILL_NS:
        return "virtual time goes on slowly, since much is to be computed at each instant of it"
    if spent.processes_s > spent.own_s and (passed_ns is None or passed_ns < STILL_NS):
        return "a process in it computes without end, so that virtual time stands still"
    if passed_ns is not None and passed_ns < STILL_NS:
        return "virtual time stands still while its kernel computes, or a process in it polls"
    return "virtual time races on, and everything in it waits for what does not come"


def computes(pid: int) -> bool:
    """Return whether process `pid`, or what it started, uses a processor.

    Takes `SAMPLE_S` seconds to find out.
    """
    before = sum(map(_used_s, _descent(pid)))
    loop.Loop().sleep(SAMPLE_S)
    return sum(map(_used_s, _descent(pid))) - before > _IDLE * SAMPLE_S


def _descent(pid: int) -> list[int]:
    return [pid, *(below for child in children(pid) for below in _descent(child))]


@dataclass(frozen=True)
class Used:
    """Processor time in seconds: the kernel's own, and that of the guest's processes."""

    own_s: float
    processes_s: float

    def __sub__(self, before: Used) -> Used:
        return Used(
            self.own_s - before.own_s, max(0.0, self.processes_s - before.processes_s)
        )  # a process that ended is not counted


class StandstillWatch:
    """Watches for a guest that computes at one instant of virtual time.

    As far as can be seen from outside, such a guest does so without end: it has not waited since.

    Args:
        kernel: process of the guest's kernel.
        clock: address of its clock.
    """

    def __init__(self, kernel: int, clock: int):
        self._kernel, self._clock = kernel, clock
        # At the first look since the guest waited last, or an event came.
        self._at_ns, self._heard, self._since = 0, -1, Used(0.0, 0.0)

    def look(self, heard: int, within_steps: bool) -> EngineError | None:
        """Return the error to end the guest with, if it stands still.

        Args:
            heard: anything that changes with each event.
            within_steps: the guest carries out the steps of an arm. What is before and after, an
                import for instance, may take its time.
        """
        at_ns, now = time_ns(self._kernel, self._clock), used(self._kernel)
        if at_ns is None:
            return None
        moved_ns = at_ns - self._at_ns
        if heard != self._heard or moved_ns >= STILL_NS or moved_ns % READING_NS:
            self._at_ns, self._heard, self._since = at_ns, heard, now
            return None
        spent = now - self._since
        alone = spent.processes_s <= _ALONE * spent.own_s and moved_ns < STORM_STILL_NS
        if alone and spent.own_s >= STORM_S:
            return EngineError(
                f"the guest storms: {spent.own_s:.0f} s of its kernel's own processor time at one instant of virtual "
                "time, while processes in it hardly run; segments answer each other for ever",
                "see the last step; a least time between answers ends an ACK storm: invalid_ratelimit_ms of 1 or more",
                "guest-storms",
            )
        if within_steps and spent.own_s + spent.processes_s >= SPIN_S:
            return EngineError(
                f"the guest spins: {spent.own_s + spent.processes_s:.0f} s of processor time at one instant of "
                "virtual time, which stands "
                "still while a process in it computes or polls, or while segments that cross the wire answer "
                "each other for ever",
                "wait with lab.sleep() or lab.wait_until(), which let virtual time go on; a least time between "
                "answers ends an ACK storm: "
                "invalid_ratelimit_ms of 1 or more",
                "guest-spins",
            )
        return None


def children(pid: int) -> list[int]:
    """Return the children of process `pid`.

    The list is empty if the process is gone, or the kernel does not tell.
    """
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def used(kernel: int) -> Used:
    """Return the processor time that the guest has used up to now."""
    return Used(_used_s(kernel), sum(map(_used_s, children(kernel))))


def time_ns(kernel: int, clock: int | None) -> int | None:
    """Return the guest's time in ns since its boot; None if it cannot be read."""
    if clock is None:
        return None
    try:
        fd = os.open(f"/proc/{kernel}/mem", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return int.from_bytes(os.pread(fd, 8, clock), "little")
        finally:
            os.close(fd)
    except OSError:
        return None


def _used_s(pid: int) -> float:
    """Return the processor time that process `pid` has used, in seconds."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
