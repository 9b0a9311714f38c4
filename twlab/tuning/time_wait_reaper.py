"""Keeps TIME_WAIT short on a kernel that has no knob for it: ends each of a node's TIME_WAIT
sockets at the asked age.

How it works. The kernel starts every TIME_WAIT with 60 s on its timer, and tells over inet_diag
what is left of it; so the age of a socket is known whenever it is looked at, and a timer that was
re-armed (by a bare ACK, say) shows as an age that fell back. The keeper lists the sockets often
enough to see each before its end, remembers when each is due, looks those that are due up once
more, ends the ones that are really of age, and puts the others off. Listing costs 1 to 2
microseconds a socket; while there is no socket in TIME_WAIT at all, which one line of /proc tells,
nothing is listed.

It is a process of its own, so that a scenario busy with its own segments cannot make a TIME_WAIT
last longer. It has the kernel end it when its parent dies, holds nothing but its own descriptors,
and has ended when `Keeper.stop` returns.
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
from twlab.loop import cpu_s, monotonic_s

if TYPE_CHECKING:
    from twlab.network import Node

_CONSTANT_MS = 60_000  # what the kernel's timer starts from (include/net/tcp.h, TCP_TIMEWAIT_LEN)
_TICK_S = 0.01  # sockets due within one tick are ended together
_SHORTEST_PERIOD_S, _LONGEST_PERIOD_S = 0.02, 5.0  # between two listings
_BATCH = 500  # sockets ended in one go
_COUNT = b" tw "  # in /proc/net/sockstat, before the number of mini-sockets


@dataclass
class Report:
    """How a keeper did. `worst_late_ms`: most by which a socket outlived its age, to the kernel's
    tick. `busy`: share of one core.
    """

    ended: int = 0
    worst_late_ms: int = 0
    busy: float = 0.0

    def __str__(self) -> str:
        return f"{self.ended} ended, at most {self.worst_late_ms} ms late, {self.busy:.1%} of a core"


class Keeper:
    """Ends the TIME_WAIT sockets of `node` once they are `age_s` old, from being made until `stop`.

    Args:
        age_s: at most 60; within 50 ms, never early. Re-arming starts it anew, as in the kernel.

    Raises:
        OSError: no netlink socket, or no process.
    """

    def __init__(self, node: Node, age_s: float):
        ours, theirs = socket.socketpair()
        with node.inside():
            lister, ender = inet_diag.open_socket(), inet_diag.open_socket()
            sockstat = os.open("/proc/thread-self/net/sockstat", os.O_RDONLY | os.O_CLOEXEC)
        with lister, ender, theirs:
            self._line = ours
            self._pid = os.fork()
            if self._pid == 0:
                _child(
                    _Sockets(lister, ender, round(age_s * 1000)), {lister.fileno(), ender.fileno()}, sockstat, theirs
                )
        os.close(sockstat)
        ours.recv(1)  # ready; or gone already, which `stop` will tell

    def stop(self) -> Report:
        """Have it finish, and how it did.

        Raises:
            EngineError: it had ended before (``keeper-ended-early``); TIME_WAIT was not kept short
                to the end.
        """
        with self._line:
            self._line.shutdown(socket.SHUT_WR)
            told = self._line.recv(4096)
        _, status = os.waitpid(self._pid, 0)
        if status or not told:
            ended = f"the keeper of TIME_WAIT ended early, with status {os.waitstatus_to_exitcode(status)}"
            raise EngineError(ended, "run it again", "keeper-ended-early")
        return Report(**json.loads(told))


def _child(sockets: _Sockets, needed: set[int], sockstat: int, line: socket.socket) -> None:
    """The keeper's process: never returns."""
    status = 1
    try:
        syscalls.die_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, who stops us
        syscalls.be_prompt()
        gc.freeze()  # the parent's objects are not ours to collect
        kept = sorted(needed | {2, sockstat, line.fileno()})
        for low, high in zip([-1, *kept], [*kept, os.sysconf("SC_OPEN_MAX")], strict=True):
            os.closerange(low + 1, high)
        line.send(b"!")
        report = sockets.keep(sockstat, line)
        line.send(json.dumps(asdict(report)).encode())
        status = 0
    finally:
        os._exit(status)


class _Sockets:
    """The TIME_WAIT sockets that the keeper knows, and when each is due."""

    def __init__(self, lister: socket.socket, ender: socket.socket, age_ms: int):
        self._lister = lister
        self._ender = ender
        self._age_ms = age_ms
        self._known: set[bytes] = set()
        self._due: list[tuple[float, int, bytes]] = []  # a heap: when, family, id
        self._report = Report()

    def keep(self, sockstat: int, line: socket.socket) -> Report:
        """Work until the other end of `line` is shut."""
        began_s = monotonic_s()
        period_s = min(max(self._age_ms / 2000, _SHORTEST_PERIOD_S), _LONGEST_PERIOD_S)
        listing_s = began_s
        while True:
            now = monotonic_s()
            if now >= listing_s:
                if _any_mini_socket(sockstat):
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
                    self._put_off(record, now)
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
                    self._put_off(record, now)
            self._report.ended += len(of_age) - len(
                inet_diag.destroy(self._ender, [(record.family, record.id) for record in of_age])
            )
            self._report.worst_late_ms = max([self._report.worst_late_ms, *map(self._late_ms, of_age)])

    def _next_batch(self) -> list[tuple[int, bytes]]:
        """Family and id of sockets that are due, no longer known from here on: what becomes of them
        is seen when they are looked up.
        """
        now = monotonic_s()
        batch: list[tuple[int, bytes]] = []
        while self._due and self._due[0][0] <= now and len(batch) < _BATCH:
            batch.append(heapq.heappop(self._due)[1:])
        self._known.difference_update(name for _, name in batch)
        return batch

    def _put_off(self, record: inet_diag.Record, now_s: float) -> None:
        heapq.heappush(self._due, (now_s - self._late_ms(record) / 1000, record.family, record.id))

    def _late_ms(self, record: inet_diag.Record) -> int:
        """By how much the socket has outlived its age, at the time of `record`; negative before."""
        return _CONSTANT_MS - record.expires_ms - self._age_ms


def _any_mini_socket(sockstat: int) -> bool:
    _, _, rest = os.pread(sockstat, 4096, 0).partition(_COUNT)
    return int(rest.split(maxsplit=1)[0]) > 0
