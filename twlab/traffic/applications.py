"""Applications on the nodes: servers that accept, clients that connect.

Real sockets, one thread. Sockets are non-blocking; a verb that has to wait serves the lab's loop
meanwhile, so the wire and the other end go on.
"""

from __future__ import annotations

import errno
import socket
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from twlab.errors import ScenarioError
from twlab.loop import Loop
from twlab.results.connect_facts import PENDING, ConnectFact
from twlab.results.transcript import Transcript
from twlab.traffic.connection import Connection
from twlab.traffic.options import allow_foreign_addresses, bind_address_only

if TYPE_CHECKING:
    from twlab.network import Node


@dataclass(frozen=True, slots=True)
class Attempt:
    """The outcome of one connect().

    Attributes:
        connection: the connection, or None.
        error: name of the error, e.g. ``EADDRNOTAVAIL``; ``pending``: no answer in time; empty:
            connected.
        call: the system call that failed: ``bind`` or ``connect``; empty on success.
        took_s: seconds from the call to its outcome.
    """

    connection: Connection | None
    error: str
    call: str
    took_s: float

    def __bool__(self) -> bool:
        return self.connection is not None


class Connecting:
    """A connect() under way; `attempt` is its outcome, None until it is known."""

    def __init__(self, host: Host, sock: socket.socket, to: str, loop: Loop, transcript: Transcript):
        self.attempt: Attempt | None = None
        self._host, self._sock, self._to = host, sock, to
        self._loop, self._transcript = loop, transcript
        self._started_s = loop.now_s

    def start(self, bind_to: tuple[str, int] | None, target: tuple[str, int]) -> None:
        """Call bind(), if there is an address or port to bind, and connect()."""
        call = "bind"
        try:
            if bind_to:
                self._sock.bind(bind_to)
            call = "connect"
            self._sock.connect(target)
        except BlockingIOError:
            self._loop.watch(self._sock, writable=self._decide)
        except OSError as error:
            self._end(None, errno.errorcode.get(error.errno or 0, str(error)), call)
        else:
            self._decide()

    def wait(self, timeout_s: float) -> Attempt:
        """Let time pass until the outcome is known, at most `timeout_s`; return it."""
        self._loop.wait_until(lambda: self.attempt is not None, timeout_s)
        if self.attempt is None:
            self._end(None, PENDING, "connect")
        assert self.attempt is not None
        return self.attempt

    def _decide(self) -> None:
        self._loop.forget(self._sock)
        number = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        try:
            if number:
                raise OSError(number, "connect")
            connection = Connection(self._host.node, self._sock, self._loop, self._transcript)
        except OSError as error:
            self._end(None, errno.errorcode.get(error.errno or 0, str(error)), "connect")
        else:
            self._end(connection, "", "")

    def _end(self, connection: Connection | None, error: str, call: str) -> None:
        self.attempt = Attempt(connection, error, call, self._loop.now_s - self._started_s)
        if not connection:
            self._loop.forget(self._sock)
            self._sock.close()
        fact = ConnectFact(error, call or "connect", self.attempt.took_s)
        text = fact.text(self._to, connection.flow.source_port if connection else 0)
        self._transcript.record("verb", text, self._host.name, **fact.details())


class Listener:
    """A listening socket that accepts at once.

    `accept` returns the connections in order of arrival.
    """

    def __init__(self, node: Node, sock: socket.socket, loop: Loop, transcript: Transcript):
        self.node = node
        self.address, self.port = sock.getsockname()[:2]
        self.family = 6 if ":" in self.address else 4
        self._sock = sock
        self._loop = loop
        self._transcript = transcript
        self._waiting: deque[Connection] = deque()
        loop.watch(sock, self._arrivals)

    def peer_of(self, connection: Connection) -> Connection | None:
        """Return the waiting connection whose other end is `connection`; None: none waits.

        Where a gateway has changed the ports, it is the first that waits.
        """
        flow = connection.flow.reversed()
        by_likeness = sorted(
            self._waiting, key=lambda one: (one.flow != flow, one.flow.destination_port != flow.destination_port)
        )
        if by_likeness:
            self._waiting.remove(by_likeness[0])
        return next(iter(by_likeness), None)

    def accept(self, timeout_s: float = 10.0) -> Connection:
        """Return the next connection.

        Raises:
            ScenarioError: no client connected within `timeout_s` (``nobody-came``).
        """
        if not self._loop.wait_until(lambda: self._waiting, timeout_s):
            raise ScenarioError(
                f"{self.node.name} port {self.port}: no connection within {timeout_s:g} s", slug="nobody-came"
            )
        return self._waiting.popleft()

    @property
    def waiting(self) -> int:
        """Connections that have arrived and that `accept` has not returned."""
        return len(self._waiting)

    def close(self) -> None:
        """Stop listening."""
        self._loop.forget(self._sock)
        self._sock.close()

    def _arrivals(self) -> None:
        while True:
            try:
                sock, _ = self._sock.accept()
            except BlockingIOError:
                return
            sock.setblocking(False)
            try:
                self._waiting.append(Connection(self.node, sock, self._loop, self._transcript))
            except OSError:  # reset before we got to it
                sock.close()


class Host:
    """A node as a scenario uses it: it listens and connects."""

    def __init__(self, node: Node, loop: Loop, transcript: Transcript):
        self.node = node
        self.name = node.name
        self.loop = self._loop = loop
        self._transcript = transcript

    def address(self, family: int = 4) -> str:
        """Return the node's main address, IPv4 (4) or IPv6 (6)."""
        return self.node.address(family)

    def listen(
        self,
        port: int,
        *,
        family: int = 4,
        address: str | None = None,
        backlog: int = 4096,
        transparent: bool = False,
    ) -> Listener:
        """Listen on `port`.

        Args:
            family: 4 or 6.
            address: the address to listen on; None: the node's main one.
            backlog: longest queue of connections not yet accepted.
            transparent: also for connections to others that the firewall hands over (TPROXY).
        """
        sock = self._socket(family, transparent)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address or self.address(family), port))
        sock.listen(backlog)
        return Listener(self.node, sock, self._loop, self._transcript)

    def connect(self, to: Host, port: int, **options: object) -> Connection:
        """Open a connection as `try_connect` does, where only success makes sense.

        Raises:
            ScenarioError: the connection did not come about (``connect-failed``).
        """
        attempt = self.try_connect(to, port, **options)  # type: ignore[arg-type]
        if attempt.connection is None:
            raise ScenarioError(
                f"{self.name} cannot connect to {to.name} port {port}: {attempt.call} says {attempt.error}",
                slug="connect-failed",
            )
        return attempt.connection

    def try_connect(
        self,
        to: Host,
        port: int,
        *,
        source_port: int = 0,
        source_address: str | None = None,
        family: int = 4,
        mark: int = 0,
        transparent: bool = False,
        timeout_s: float = 130.0,
    ) -> Attempt:
        """Open a connection and wait for the outcome.

        Args:
            source_port: bind to this port first, with SO_REUSEADDR, as proxies do; 0: the kernel
                chooses, as in connect() without bind().
            source_address: bind to this address first.
            mark: SO_MARK, which the node's firewall can tell it by (socket(7)); 0: none.
            transparent: `source_address` is another node's (IP_TRANSPARENT, ip(7)).
            timeout_s: seconds after which to give up; with 6 SYN retries the kernel does after 127.
        """
        return self.begin_connect(
            to,
            port,
            source_port=source_port,
            source_address=source_address,
            family=family,
            mark=mark,
            transparent=transparent,
        ).wait(timeout_s)

    def begin_connect(
        self,
        to: Host,
        port: int,
        *,
        source_port: int = 0,
        source_address: str | None = None,
        family: int = 4,
        mark: int = 0,
        transparent: bool = False,
    ) -> Connecting:
        """Begin `try_connect` without waiting for the outcome; other verbs let time pass."""
        sock = self._socket(family, transparent)
        if mark:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        if source_port:
            # Without it, bind() of older kernels refuses a port that is in TIME_WAIT towards any
            # peer (seen on 6.1, not on 6.18).
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        elif source_address:
            bind_address_only(sock)
        bind_to = (source_address or self.address(family), source_port) if source_port or source_address else None
        connecting = Connecting(self, sock, f"{to.name} port {port}", self._loop, self._transcript)
        connecting.start(bind_to, (to.address(family), port))
        return connecting

    def _socket(self, family: int, transparent: bool = False) -> socket.socket:
        sock = self.node.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, socket.SOCK_STREAM)
        if transparent:
            allow_foreign_addresses(sock)
        sock.setblocking(False)
        return sock
