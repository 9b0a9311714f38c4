"""A server for a load, on the lab's loop: it accepts, answers by length, closes.

It makes as few system calls as that takes.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from twlab.loop import Loop

if TYPE_CHECKING:
    from twlab.network import Node

_CHUNK = 1 << 16
_EVENTS = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET


class LoadServer:
    """Answers connections to `node`, from being made until `close`.

    Args:
        ports: to listen on, each of them.
        address: to listen on; None: the node's main IPv4 address.
        request_bytes: length of a request; 0: there are none, and the server waits for the peer to
            close.
        response: the answer to each request.
        responses: number of answers after which this end closes; 0: the peer closes. Without
            requests, 1 means: close as soon as accepted.
        backlog: longest queue of connections not yet accepted.

    Attributes:
        accepted: connections so far.
        answered: requests so far.
    """

    def __init__(
        self,
        node: Node,
        loop: Loop,
        *,
        ports: Sequence[int] = (80,),
        address: str | None = None,
        request_bytes: int = 0,
        response: bytes = b"",
        responses: int = 0,
        backlog: int = 4096,
    ):
        self.node = node
        self.accepted = self.answered = 0
        self._loop = loop
        self._request_bytes, self._response, self._responses = request_bytes, response, responses
        self._open: dict[int, _Accepted] = {}
        self._epoll = select.epoll()
        self._listeners = []
        for port in ports:
            listener = node.socket(socket.AF_INET6 if ":" in (address or "") else socket.AF_INET)
            listener.setblocking(False)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address or node.address(), port))
            listener.listen(backlog)
            loop.watch(listener, partial(self._arrivals, listener))
            self._listeners.append(listener)
        loop.watch(self._epoll, self._events)

    def close(self) -> None:
        """Stop listening, and close every connection."""
        for listener in self._listeners:
            self._loop.forget(listener)
            listener.close()
        self._loop.forget(self._epoll)
        self._epoll.close()
        close_all(self._open)
        self._open.clear()

    def _arrivals(self, listener: socket.socket) -> None:
        """Accept all that have come.

        Most peers that send no request have closed already; those connections are closed at once.
        """
        fds = []
        with contextlib.suppress(BlockingIOError):
            while True:
                fds.append(listener._accept()[0])  # type: ignore[attr-defined]  # the socket object that accept() makes of it costs more than it
        self.accepted += len(fds)
        if not self._request_bytes:
            done = fds if self._responses else [fd for fd, _ in ready(fds, select.POLLRDHUP)]
            close_all(done)
            fds = sorted(set(fds) - set(done))
        for fd in fds:
            os.set_blocking(fd, False)
            self._open[fd] = _Accepted()
            self._epoll.register(fd, _EVENTS)

    def _events(self) -> None:
        done = [fd for fd, _ in self._epoll.poll(0) if fd in self._open and self._serve(fd, self._open[fd])]
        close_all(done)
        for fd in done:
            del self._open[fd]

    def _serve(self, fd: int, connection: _Accepted) -> bool:
        """Read and answer what is there; return whether the connection is finished."""
        try:
            while data := os.read(fd, _CHUNK):
                connection.received += len(data)
        except BlockingIOError:
            pass
        except OSError:  # reset
            return True
        else:
            return True
        if self._request_bytes:
            wanted, connection.received = divmod(connection.received, self._request_bytes)
            self.answered += wanted
            connection.answered += wanted
            connection.unsent += self._response * wanted
        try:
            while connection.unsent:
                connection.unsent = connection.unsent[os.write(fd, connection.unsent) :]
        except BlockingIOError:
            return False
        except OSError:
            return True
        return bool(self._responses) and connection.answered >= self._responses


class _Accepted:
    """One connection.

    It keeps the bytes of an incomplete request, the number of requests answered, and the
    answers that the kernel has not yet taken.
    """

    __slots__ = ("answered", "received", "unsent")

    def __init__(self) -> None:
        self.answered = self.received = 0
        self.unsent = b""


def ready(fds: Iterable[int], events: int) -> list[tuple[int, int]]:
    """Return those of `fds` at which one of `events` or an error has happened.

    One system call for all of them; each comes with its events.
    """
    poll = select.poll()
    for fd in fds:
        poll.register(fd, events)
    return poll.poll(0)


def close_all(fds: Iterable[int]) -> None:
    """Close file descriptors, one system call for each run of neighbours.

    Descriptors made one after the other mostly are neighbours.
    """
    ordered = sorted(fds)
    start = 0
    for position in range(1, len(ordered) + 1):
        if position == len(ordered) or ordered[position] != ordered[position - 1] + 1:
            os.closerange(ordered[start], ordered[position - 1] + 1)
            start = position
