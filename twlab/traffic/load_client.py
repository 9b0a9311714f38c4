"""Opens and closes connections at a chosen rate, from one node, on the lab's loop.

In the lab kernel a system call costs as much as a hundred lines of Python, so the arrivals of one
tick are opened together. Between neighbours a handshake is over when connect() returns: one poll()
finds all of them, and one close_range() closes them. An epoll watches only those that take longer
(a longer path, a request to be answered), one call for each connection.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import math
import resource
import select
import socket
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from twlab.linux.sockstat import Sockstat
from twlab.loop import Loop, Timer, cpu_s
from twlab.ports import PortChoice
from twlab.traffic.load import Load, LoadCounts
from twlab.traffic.load_server import LoadServer, close_all, ready
from twlab.traffic.options import abort_on_close, bind_address_only, limit_ports

if TYPE_CHECKING:
    from twlab.network import Node

__all__ = ["Load", "LoadClient", "LoadCounts", "LoadServer", "PortChoice"]

_AT_ONCE = 200  # connections opened together at most, so that the accept queue of the other end has room for them
_AHEAD = 64  # sockets made ahead: to make some in another namespace takes two system calls more
_FULL = 1 << 16
_BUFFER = bytearray(_FULL)
_TO_READ = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
_EVENTS = _TO_READ | select.EPOLLOUT


class LoadClient:
    """Puts `load` on `node` until `done`; the peer is a `LoadServer` or any server.

    It begins when it is made.

    Attributes:
        counts: the outcome so far.
        done: all arrivals have been dealt with, the load has ended with its first failure, or `stop`
            was called.
    """

    def __init__(self, node: Node, loop: Loop, load: Load):
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
        self.node = node
        self.load = load
        self.counts = LoadCounts()
        self.done = False
        self._loop = loop
        self._family = socket.AF_INET6 if ":" in load.targets[0][0] else socket.AF_INET
        self._prepare = _preparation(load, node.address(6 if self._family == socket.AF_INET6 else 4))
        self._targets = itertools.cycle(load.targets)
        self._closes_at_once = load.opener_closes and not load.request
        self._issued = 0
        self._made: deque[socket.SocketType] = deque()
        self._open: dict[int, _Opened] = {}
        self._idle: deque[_Opened] = deque()
        self._epoll = select.epoll()
        self._sockets = Sockstat(node)
        self._began_s = loop.now_s
        self._began_cpu_s = cpu_s()
        self._timer: Timer | None = None
        loop.watch(self._epoll, self._events)
        self._tick()

    def run(self) -> LoadCounts:
        """Serve the loop until all is done; return the counts."""
        self._loop.wait_until(lambda: self.done or self._failed)  # and what its last tick has sent has been served
        self.stop()
        return self.counts

    def stop(self) -> None:
        """Open nothing more, and close what is open."""
        if self.done:
            return
        self.done = True
        if self._timer:
            self._timer.cancel()
        for connection in list(self._open.values()):
            self._drop(connection)
        for sock in self._made:
            sock.close()
        self._made.clear()
        self._end_second()
        self._loop.forget(self._epoll)
        self._epoll.close()
        self._sockets.close()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the load began."""
        return self._loop.now_s - self._began_s

    @property
    def _failed(self) -> bool:
        """Whether a failure has ended the load."""
        return self.load.to_first_failure and self.counts.first_failure_s is not None

    # arrivals

    def _tick(self) -> None:
        """Open what has arrived, and set the next tick."""
        now_s = self.elapsed_s
        if int(now_s) > self.counts.now.at_s:
            self._end_second()
            self.counts.open_second(int(now_s))
        self._give_up(now_s)
        if self._failed:
            self.stop()
            return
        over = now_s >= self.load.duration_s
        arrived = min(self.load.arrived(now_s), self._issued if over and self.load.rate_per_s == math.inf else math.inf)
        first = True
        while (count := int(min(arrived - self._issued, self._room()))) > 0 and not (self.done or self._failed):
            if self.load.rate_per_s < math.inf:
                at_s, first = now_s if first else self.elapsed_s, False
                late_s = at_s - self._issued / self.load.rate_per_s - self.load.tick_s
                self.counts.worst_late_s = max(self.counts.worst_late_s, late_s)
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
            self._ask(connection := self._idle.popleft(), now_s)
            if connection.unsent:
                self._epoll.modify(connection.sock, _EVENTS)
            count -= 1
        if count:
            self._connect(count, now_s)

    # opening

    def _connect(self, count: int, now_s: float) -> None:
        """Open `count` connections, and finish those that are established at once."""
        if count > len(self._made):
            self._make(max(count - len(self._made), int(min(_AHEAD, self.load.total - self._issued))))
        begun: dict[int, tuple[socket.SocketType, float, float]] = {}  # its connect began then, and took so long
        timed, began_s, took_s = self.load.timed, now_s, 0.0
        tried = 0
        for _ in range(count):
            tried += 1
            sock = self._made.popleft()
            try:
                self._prepare(sock)
            except OSError as error:
                self._fail("bind", error.errno or 0, now_s)
            else:
                if timed:
                    began_s = self.elapsed_s
                number = sock.connect_ex(next(self._targets))
                if timed:
                    took_s = self.elapsed_s - began_s
                if number in (0, errno.EINPROGRESS):
                    begun[sock.fileno()] = sock, began_s, took_s
                    continue
                self._fail("connect", number, now_s)
            if self._failed:
                break
        self.counts.now.attempted += tried
        at_once = [begun.pop(fd) for fd, events in ready(begun, select.POLLOUT) if not events & select.POLLERR]
        for fd, (sock, began_s, _) in begun.items():
            self._open[fd] = _Opened(sock, began_s)
            self._epoll.register(fd, _EVENTS)
        self._count_established([took_s for _, _, took_s in at_once])
        if self._closes_at_once:
            self._close(sock for sock, _, _ in at_once)
        else:
            for sock, began_s, _ in at_once:
                self._keep(_Opened(sock, began_s))

    def _make(self, count: int) -> None:
        kind = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
        with self.node.inside():
            self._made.extend(socket.SocketType(self._family, kind) for _ in range(count))

    def _count_established(self, took_s: list[float]) -> None:
        """Count connections, by the times that their connects took."""
        self.counts.now.connected += len(took_s)
        if not self.load.request:
            self.counts.now.answered += len(took_s)
        if self.load.timed:
            for each_s in took_s:
                self.counts.connect_took(each_s)

    def _keep(self, connection: _Opened) -> None:
        """Go on with a connection that was established at once, and is not closed so."""
        fd = connection.sock.fileno()
        self._open[fd] = connection
        connection.connected = True
        if self.load.request:
            self._ask(connection, connection.began_s)
        if not connection.closed:
            self._epoll.register(fd, _EVENTS if connection.unsent else _TO_READ)

    # requests

    def _ask(self, connection: _Opened, now_s: float) -> None:
        """Send a request."""
        connection.owed_since_s = now_s
        connection.unsent = self.load.request
        self._push(connection)

    def _push(self, connection: _Opened) -> None:
        try:
            sent = connection.sock.send(connection.unsent)
            connection.unsent = connection.unsent[sent:] if sent < len(connection.unsent) else b""
        except BlockingIOError:
            pass
        except OSError as error:
            self._broke(connection, "send", error.errno or 0)

    def _events(self) -> None:
        """Go on with the connections at which something happened."""
        done = []
        for fd, events in self._epoll.poll(0):
            if (connection := self._open.get(fd)) and self._event(connection, events):
                done.append(connection)
        for connection in done:
            connection.closed = True
            del self._open[connection.sock.fileno()]
        self._close(connection.sock for connection in done)
        if (
            self.load.rate_per_s == math.inf
            and not (self.done or self._failed)
            and self._room() > 0
            and self.elapsed_s < self.load.duration_s
        ):
            self._issued += (count := self._room())
            self._arrive(count, self.elapsed_s)

    def _event(self, connection: _Opened, events: int) -> bool:
        """Go on with a connection; return whether to close it."""
        if not connection.connected:
            if number := connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._broke(connection, "connect", number)
                return False
            if not events & select.EPOLLOUT:
                return False
            connection.connected = True
            self._count_established([self.elapsed_s - connection.began_s if self.load.timed else 0.0])
            if self._closes_at_once:
                return True
            if self.load.request:
                self._ask(connection, connection.began_s)
        if connection.unsent:
            self._push(connection)
        return (
            bool(events & (select.EPOLLIN | select.EPOLLRDHUP))
            and not connection.closed
            and self._read(connection, bool(events & select.EPOLLRDHUP))
        )

    def _read(self, connection: _Opened, closed: bool) -> bool:
        """Read all that is there; return whether to close the connection.

        Args:
            closed: the other end has closed.
        """
        try:
            count = _FULL
            while count == _FULL:  # a read that does not fill the buffer has emptied the socket (epoll(7))
                count = connection.sock.recv_into(_BUFFER)
                connection.received += count
        except BlockingIOError:
            pass
        except OSError as error:
            if connection.owed_since_s is None:  # idle: the other end may reset it, as it may close it
                self._drop(connection)
            else:
                self._broke(connection, "recv", error.errno or 0)
            return False
        if not self.load.request:
            return closed
        wanted, most = self.load.response_bytes, self.load.requests_per_connection
        if connection.requests == most:
            return closed
        if connection.owed_since_s is not None and (
            connection.received >= wanted if wanted else closed and connection.received
        ):
            self.counts.now.answered += 1
            connection.received, connection.owed_since_s, connection.requests = 0, None, connection.requests + 1
            if connection.requests == most:
                connection.owed_since_s = self.elapsed_s  # the other end's close
                return closed or self.load.opener_closes or not wanted
            if not closed:
                self._idle.append(connection)
        elif closed and connection.owed_since_s is not None:
            self.counts.fail("recv", "EOF", self.elapsed_s)
        if closed and connection in self._idle:
            self._idle.remove(connection)
        return closed

    # closing

    def _close(self, socks: Iterable[socket.SocketType]) -> None:
        """Close connections that went well."""
        if self.load.linger_0:
            socks = list(socks)
            for sock in socks:
                abort_on_close(sock)
        close_all(sock.detach() for sock in socks)

    def _drop(self, connection: _Opened) -> None:
        connection.closed, connection.unsent = True, b""
        self._open.pop(connection.sock.fileno(), None)
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)
        connection.sock.close()

    def _broke(self, connection: _Opened, call: str, number: int) -> None:
        self._fail(call, number, self.elapsed_s)
        self._drop(connection)

    def _fail(self, call: str, number: int, at_s: float) -> None:
        self.counts.fail(call, errno.errorcode.get(number, str(number)), at_s)

    def _give_up(self, now_s: float) -> None:
        """Fail connections that are overdue; the oldest stand first."""
        late = []
        for connection in self._open.values():
            if now_s - connection.began_s <= self.load.patience_s:
                break
            if connection.owed_since_s is not None and now_s - connection.owed_since_s > self.load.patience_s:
                late.append(connection)
        for connection in late:
            self._broke(connection, "recv" if connection.connected else "connect", errno.ETIMEDOUT)

    def _end_second(self) -> None:
        spent_s = cpu_s()
        self.counts.close_second(
            in_time_wait=self._sockets.time_wait(), still_open=len(self._open), cpu_s=spent_s - self._began_cpu_s
        )
        self._began_cpu_s = spent_s


class _Opened:
    """One connection of the load."""

    __slots__ = ("began_s", "closed", "connected", "owed_since_s", "received", "requests", "sock", "unsent")

    def __init__(self, sock: socket.SocketType, began_s: float):
        self.sock = sock
        self.began_s = began_s
        self.connected = self.closed = False
        self.owed_since_s: float | None = (
            began_s  # since when the other end has to do something: answer, or close; None: it has not
        )
        self.unsent = b""
        self.received = self.requests = 0


def _preparation(load: Load, main_address: str) -> Callable[[socket.SocketType], None]:
    """Return what is done to a socket between socket() and connect()."""
    sources = itertools.cycle(load.sources or [main_address])
    low, high = load.port_range
    ports = itertools.cycle(range(low, high + 1))
    choice = PortChoice.NO_PORT if load.sources and load.ports is PortChoice.CONNECT else load.ports
    ranged, named = choice is PortChoice.RANGE, choice is PortChoice.EXPLICIT
    no_port = choice is PortChoice.NO_PORT or (ranged and bool(load.sources))
    binds = bool(load.sources) or choice in (PortChoice.BIND, PortChoice.NO_PORT, PortChoice.EXPLICIT)

    def prepare(sock: socket.SocketType) -> None:
        if load.reuse_address:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if ranged:
            limit_ports(sock, low, high)
        if no_port:
            bind_address_only(sock)
        if binds:
            sock.bind((next(sources), next(ports) if named else 0))

    return prepare
