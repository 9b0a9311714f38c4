"""Ends a node's TIME_WAIT sockets at a given age.

For kernels without a sysctl for it. How it works. The kernel starts every TIME_WAIT with 60 s on
its timer, and inet_diag shows how much is left; so each look at a socket gives its age. A timer
that was re-armed (by a bare ACK, say) shows as a lower age. The reaper lists the sockets often
enough to see each before its end, and notes when each is due. It looks a due socket up once more,
ends it if it has reached the age, and postpones it if not. Listing costs 1 to 2 microseconds a
socket. While /proc/net/sockstat counts no socket in TIME_WAIT, the reaper lists nothing.

It runs in a separate process, so that a scenario that is busy cannot make a TIME_WAIT last longer.
The kernel ends that process when its parent dies. It keeps only the descriptors that it needs, and
has ended when `TimeWaitReaper.stop` returns.
"""

from __future__ import annotations

import gc
import heapq
import json
import os
import select
import signal
import socket
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from twlab.errors import EngineError
from twlab.linux import inet_diag, syscalls
from twlab.linux.sockstat import Sockstat
from twlab.loop import cpu_s, monotonic_s

if TYPE_CHECKING:
    from twlab.network import Node

_CONSTANT_MS = 60_000  # what the kernel's timer starts from (include/net/tcp.h, TCP_TIMEWAIT_LEN)
_TICK_S = 0.01  # sockets due within one tick are ended together
_SHORTEST_PERIOD_S, _LONGEST_PERIOD_S = 0.02, 5.0  # between two listings
_BATCH = 500  # sockets ended in one go


@dataclass
class Report:
    """Figures of a reaper's work.

    Attributes:
        ended: sockets.
        worst_late_ms: the most by which a socket outlived its age, to the kernel's tick.
        busy: share of one core.
    """

    ended: int = 0
    worst_late_ms: int = 0
    busy: float = 0.0

    def __str__(self) -> str:
        return f"{self.ended} ended, at most {self.worst_late_ms} ms late, {self.busy:.1%} of a core"


class TimeWaitReaper:
    """Process that ends the TIME_WAIT sockets of `node` at `age_s`, until `stop`.

    Args:
        age_s: at most 60. A socket ends within 50 ms after it, never before. Re-arming starts the
            age anew, as in the kernel.

    Raises:
        OSError: the netlink sockets cannot be opened, or the process cannot be started.
    """

    def __init__(self, node: Node, age_s: float):
        ours, theirs = socket.socketpair()
        with node.inside():
            lister, ender = inet_diag.open_socket(), inet_diag.open_socket()
        counts = Sockstat(node)
        with lister, ender, theirs:
            self._line = ours
            self._pid = os.fork()
            if self._pid == 0:
                needed = {lister.fileno(), ender.fileno(), theirs.fileno(), *counts.descriptors}
                _child(_Sockets(lister, ender, round(age_s * 1000)), counts, needed, theirs)
        counts.close()
        ours.recv(1)  # ready; or it has ended already, which `stop` reports

    def stop(self) -> Report:
        """End the process, and return its figures.

        Raises:
            EngineError: the process had ended before, so that later sockets kept their 60 s
                (``keeper-ended-early``).
        """
        with self._line:
            self._line.shutdown(socket.SHUT_WR)
            report = self._line.recv(4096)
        _, status = os.waitpid(self._pid, 0)
        if status or not report:
            ended = f"the reaper of TIME_WAIT sockets ended early, with status {os.waitstatus_to_exitcode(status)}"
            raise EngineError(ended, "run it again", "keeper-ended-early")
        return Report(**json.loads(report))


def _child(sockets: _Sockets, counts: Sockstat, needed: set[int], line: socket.socket) -> None:
    """Run the reaper's process; never returns."""
    status = 1
    try:
        syscalls.die_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent, which stops this process
        syscalls.be_prompt()
        gc.freeze()  # collecting the parent's objects would copy their memory
        kept = sorted(needed | {2})
        for low, high in zip([-1, *kept], [*kept, os.sysconf("SC_OPEN_MAX")], strict=True):
            os.closerange(low + 1, high)
        line.send(b"!")
        report = sockets.reap(counts, line)
        line.send(json.dumps(asdict(report)).encode())
        status = 0
    finally:
        os._exit(status)


class _Sockets:
    """TIME_WAIT sockets that the reaper has seen, and when each is due."""

    def __init__(self, lister: socket.socket, ender: socket.socket, age_ms: int):
        self._lister = lister
        self._ender = ender
        self._age_ms = age_ms
        self._known: set[bytes] = set()
        self._due: list[tuple[float, int, bytes]] = []  # a heap: when, family, id
        self._report = Report()

    def reap(self, counts: Sockstat, line: socket.socket) -> Report:
        """End due sockets until the other end of `line` is shut."""
        began_s = monotonic_s()
        period_s = min(max(self._age_ms / 2000, _SHORTEST_PERIOD_S), _LONGEST_PERIOD_S)
        listing_s = began_s
        while True:
            now = monotonic_s()
            if now >= listing_s:
                if counts.time_wait():
                    self._learn()
                listing_s = now + period_s
            self._end_due()
            wake_s = max(min(listing_s, self._due[0][0] if self._due else listing_s), now + _TICK_S)
            if select.select([line], [], [], max(0.0, wake_s - monotonic_s()))[0]:
                break
        self._report.busy = round(cpu_s() / max(monotonic_s() - began_s, _TICK_S), 4)
        return self._report

    def _learn(self) -> None:
        for part in inet_diag.dump_in_parts(self._lister, 1 << inet_diag.TIME_WAIT):
            now = monotonic_s()
            for record in part:
                if record.id not in self._known:
                    self._known.add(record.id)
                    self._postpone(record, now)
            self._end_due()  # a long list must not make others late

    def _end_due(self) -> None:
        while batch := self._next_batch():
            now = monotonic_s()
            of_age = []
            for record in inet_diag.look_up(self._ender, batch):
                if self._late_ms(record) >= 0:
                    of_age.append(record)
                else:
                    self._known.add(record.id)
                    self._postpone(record, now)
            self._report.ended += len(of_age) - len(
                inet_diag.destroy(self._ender, [(record.family, record.id) for record in of_age])
            )
            self._report.worst_late_ms = max([self._report.worst_late_ms, *map(self._late_ms, of_age)])

    def _next_batch(self) -> list[tuple[int, bytes]]:
        """Take due sockets off the list; those that are postponed come back."""
        now = monotonic_s()
        batch: list[tuple[int, bytes]] = []
        while self._due and self._due[0][0] <= now and len(batch) < _BATCH:
            batch.append(heapq.heappop(self._due)[1:])
        self._known.difference_update(name for _, name in batch)
        return batch

    def _postpone(self, record: inet_diag.Record, now_s: float) -> None:
        heapq.heappush(self._due, (now_s - self._late_ms(record) / 1000, record.family, record.id))

    def _late_ms(self, record: inet_diag.Record) -> int:
        """Return how far the socket is past its age; negative before it.

        At the time of `record`.
        """
        return _CONSTANT_MS - record.expires_ms - self._age_ms
