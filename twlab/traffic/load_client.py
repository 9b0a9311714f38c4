"""Opens and closes connections at a chosen rate, from one node, on the lab's loop.

How it is fast, in the lab kernel above all, where a system call costs as much as a hundred lines of
Python: what arrives in one tick is opened together. Between neighbours a handshake is over when
connect() returns, so one poll() tells of all of them, and one close_range() closes them; only what
is not done by then (a longer path, a request to be answered) is watched by an epoll of our own, one
call for each connection.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import math
import resource
import select
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from twlab.linux.sockstat import Sockstat
from twlab.loop import Loop, Timer, cpu_s
from twlab.ports import PortChoice
from twlab.traffic.load import Load, Tally
from twlab.traffic.load_server import Origin, close_all, ready

if TYPE_CHECKING:
    from twlab.network import Node

__all__ = ["Churn", "Load", "Origin", "PortChoice", "Tally"]

IP_BIND_ADDRESS_NO_PORT, IP_LOCAL_PORT_RANGE = (
    24,
    51,
)  # include/uapi/linux/in.h; Python has no names for them before 3.12
_AT_ONCE = 200  # connections opened together at most, so that the accept queue of the other end has room for them
_FULL = 1 << 16
_BUFFER = bytearray(_FULL)
_LINGER_0 = struct.pack("ii", 1, 0)
_TO_READ = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
_EVENTS = _TO_READ | select.EPOLLOUT


class Churn:
    """Puts `load` on `node`, from being made until `done`; the other end is an `Origin`, or any
    server.

    Attributes:
        tally: what has become of it so far.
        done: all that arrived has been dealt with, or `stop` was called.
    """

    def __init__(self, node: Node, loop: Loop, load: Load):
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
        self.node = node
        self.load = load
        self.tally = Tally()
        self.done = False
        self._loop = loop
        self._family = socket.AF_INET6 if ":" in load.targets[0][0] else socket.AF_INET
        self._prepare = _preparation(load, node.address(6 if self._family == socket.AF_INET6 else 4))
        self._targets = itertools.cycle(load.targets)
        self._issued = 0
        self._open: dict[int, _End] = {}
        self._idle: deque[_End] = deque()
        self._epoll = select.epoll()
        self._sockets = Sockstat(node)
        self._began_s = loop.now_s
        self._began_cpu_s = cpu_s()
        self._timer: Timer | None = None
        loop.watch(self._epoll, self._events)
        self._tick()

    def run(self) -> Tally:
        """Serve the loop until all is done."""
        self._loop.wait_until(lambda: self.done)
        return self.tally

    def stop(self) -> None:
        """Nothing more is opened, and what is open is closed."""
        if self.done:
            return
        self.done = True
        if self._timer:
            self._timer.cancel()
        for end in list(self._open.values()):
            self._drop(end)
        self._end_second()
        self._loop.forget(self._epoll)
        self._epoll.close()
        self._sockets.close()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the load began."""
        return self._loop.now_s - self._began_s

    # arrivals

    def _tick(self) -> None:
        """Deal with what has arrived, and come back."""
        now_s = self.elapsed_s
        if int(now_s) > self.tally.now.at_s:
            self._end_second()
            self.tally.open_second(int(now_s))
        self._give_up(now_s)
        over = now_s >= self.load.duration_s
        arrived = min(self.load.arrived(now_s), self._issued if over and self.load.rate_per_s == math.inf else math.inf)
        while (count := int(min(arrived - self._issued, self._room()))) > 0 and not self.done:
            if self.load.rate_per_s < math.inf:
                self.tally.worst_late_s = max(
                    self.tally.worst_late_s, self.elapsed_s - self._issued / self.load.rate_per_s - self.load.tick_s
                )
            self._issued += count
            self._arrive(count, now_s)
            if self.load.rate_per_s == math.inf:
                break
        if self.done:
            return
        if over and self._issued >= arrived and len(self._open) == len(self._idle):
            self.stop()
            return
        self._timer = self._loop.call_at(self._began_s + self._next_tick_s(now_s), self._tick)

    def _next_tick_s(self, now_s: float) -> float:
        if self.load.rate_per_s == math.inf:
            return (
                now_s if self._room() > 0 else now_s + self.load.tick_s
            )  # what is answered meanwhile makes room by itself
        return (math.floor(now_s / self.load.tick_s + 1e-6) + 1) * self.load.tick_s

    def _room(self) -> int:
        return min(_AT_ONCE, self.load.most_open - len(self._open) + len(self._idle))

    def _arrive(self, count: int, now_s: float) -> None:
        while self._idle and count:
            self._ask(end := self._idle.popleft(), now_s)
            if end.unsent:
                self._epoll.modify(end.sock, _EVENTS)
            count -= 1
        if count:
            self._connect(count, now_s)

    # opening

    def _connect(self, count: int, now_s: float) -> None:
        """Open `count` connections; whatever can be settled at once is."""
        self.tally.now.attempted += count
        with self.node.inside():
            socks = [socket.SocketType(self._family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) for _ in range(count)]
        begun: dict[int, _End] = {}
        timed, began_s, took_s = self.load.timed, now_s, 0.0
        for sock in socks:
            try:
                self._prepare(sock)
            except OSError as error:
                self._fail("bind", error.errno or 0, now_s)
                continue
            if timed:
                began_s = self.elapsed_s
            number = sock.connect_ex(next(self._targets))
            if timed:
                took_s = self.elapsed_s - began_s
            if number in (0, errno.EINPROGRESS):
                begun[sock.fileno()] = _End(sock, began_s, took_s)
            else:
                self._fail("connect", number, now_s)
        self._open |= begun
        done = []
        for fd, events in ready(begun, select.POLLOUT):
            end = begun.pop(fd)
            if events & select.POLLERR:
                begun[fd] = end
            elif self._established(end, end.took_s):
                done.append(end)
            elif not end.closed:
                self._epoll.register(fd, _EVENTS if end.unsent else _TO_READ)
        for fd in begun:
            self._epoll.register(fd, _EVENTS)
        self._close(done)

    def _established(self, end: _End, took_s: float) -> bool:
        """A connection came about; whether it is to be closed again at once."""
        end.connected = True
        self.tally.now.connected += 1
        if self.load.timed:
            self.tally.connect_took(took_s)
        if self.load.request:
            self._ask(end, end.began_s)
            return False
        self.tally.now.answered += 1
        return self.load.opener_closes

    # requests

    def _ask(self, end: _End, now_s: float) -> None:
        """Send a request."""
        end.owed_since_s = now_s
        end.unsent = self.load.request
        self._push(end)

    def _push(self, end: _End) -> None:
        try:
            sent = end.sock.send(end.unsent)
            end.unsent = end.unsent[sent:] if sent < len(end.unsent) else b""
        except BlockingIOError:
            pass
        except OSError as error:
            self._broke(end, "send", error.errno or 0)

    def _events(self) -> None:
        """Something happened at connections that were not settled at once."""
        done = []
        for fd, events in self._epoll.poll(0):
            if (end := self._open.get(fd)) and self._event(end, events):
                done.append(end)
        self._close(done)
        if (
            self.load.rate_per_s == math.inf
            and not self.done
            and self._room() > 0
            and self.elapsed_s < self.load.duration_s
        ):
            self._issued += (count := self._room())
            self._arrive(count, self.elapsed_s)

    def _event(self, end: _End, events: int) -> bool:
        """Go on with a connection; whether it is to be closed."""
        if not end.connected:
            if number := end.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._broke(end, "connect", number)
                return False
            if not events & select.EPOLLOUT:
                return False
            if self._established(end, self.elapsed_s - end.began_s if self.load.timed else 0.0):
                return True
        if end.unsent:
            self._push(end)
        return (
            bool(events & (select.EPOLLIN | select.EPOLLRDHUP))
            and not end.closed
            and self._read(end, bool(events & select.EPOLLRDHUP))
        )

    def _read(self, end: _End, closed: bool) -> bool:
        """Read what there is; `closed`: the other end has closed. Whether the connection is to be
        closed here, too.
        """
        try:
            count = _FULL
            while count == _FULL:  # a read that does not fill the buffer has emptied the socket (epoll(7))
                count = end.sock.recv_into(_BUFFER)
                end.received += count
        except BlockingIOError:
            pass
        except OSError as error:
            self._broke(end, "recv", error.errno or 0)
            return False
        if not self.load.request:
            return closed
        wanted = self.load.response_bytes
        if end.owed_since_s is not None and (end.received >= wanted if wanted else closed and end.received):
            self.tally.now.answered += 1
            end.received, end.owed_since_s, end.requests = 0, None, end.requests + 1
            if end.requests >= self.load.requests_per_connection:
                return closed or self.load.opener_closes or not wanted
            if not closed:
                self._idle.append(end)
        elif closed and end.owed_since_s is not None:
            self.tally.fail("recv", "EOF", self.elapsed_s)
        if closed and end in self._idle:
            self._idle.remove(end)
        return closed

    # closing

    def _close(self, ends: list[_End]) -> None:
        """Close connections that went well."""
        for end in ends:
            end.closed = True
            del self._open[end.sock.fileno()]
            if self.load.linger_0:
                end.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
        close_all(end.sock.detach() for end in ends)

    def _drop(self, end: _End) -> None:
        end.closed = True
        self._open.pop(end.sock.fileno(), None)
        with contextlib.suppress(ValueError):
            self._idle.remove(end)
        end.sock.close()

    def _broke(self, end: _End, call: str, number: int) -> None:
        self._fail(call, number, self.elapsed_s)
        self._drop(end)

    def _fail(self, call: str, number: int, at_s: float) -> None:
        self.tally.fail(call, errno.errorcode.get(number, str(number)), at_s)

    def _give_up(self, now_s: float) -> None:
        """Connections that are waited for too long. The oldest stand first."""
        late = []
        for end in self._open.values():
            if now_s - end.began_s <= self.load.patience_s:
                break
            if end.owed_since_s is not None and now_s - end.owed_since_s > self.load.patience_s:
                late.append(end)
        for end in late:
            self._broke(end, "recv" if end.connected else "connect", errno.ETIMEDOUT)

    def _end_second(self) -> None:
        spent_s = cpu_s()
        self.tally.close_second(
            in_time_wait=self._sockets.time_wait(), still_open=len(self._open), cpu_s=spent_s - self._began_cpu_s
        )
        self._began_cpu_s = spent_s


class _End:
    """One connection of ours."""

    __slots__ = ("began_s", "closed", "connected", "owed_since_s", "received", "requests", "sock", "took_s", "unsent")

    def __init__(self, sock: socket.SocketType, began_s: float, took_s: float):
        self.sock = sock
        self.began_s = began_s
        self.took_s = took_s  # of connect() itself
        self.connected = self.closed = False
        self.owed_since_s: float | None = (
            began_s  # since when the other end has to do something: answer, or close; None: it has not
        )
        self.unsent = b""
        self.received = self.requests = 0


def _preparation(load: Load, main_address: str) -> Callable[[socket.SocketType], None]:
    """What is done to a socket between socket() and connect()."""
    sources = itertools.cycle(load.sources or [main_address])
    low, high = load.port_range
    ports = itertools.cycle(range(low, high + 1))
    choice = PortChoice.NO_PORT if load.sources and load.ports is PortChoice.CONNECT else load.ports
    local_range = struct.pack("=I", high << 16 | low)

    def prepare(sock: socket.SocketType) -> None:
        if load.reuse_address:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if choice is PortChoice.RANGE:
            sock.setsockopt(socket.IPPROTO_IP, IP_LOCAL_PORT_RANGE, local_range)
        if choice is PortChoice.NO_PORT or (choice is PortChoice.RANGE and load.sources):
            sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        if choice in (PortChoice.BIND, PortChoice.NO_PORT, PortChoice.EXPLICIT) or load.sources:
            sock.bind((next(sources), next(ports) if choice is PortChoice.EXPLICIT else 0))

    return prepare
