"""HTTP/1.1 at both ends of a proxy: a server, and clients at a chosen rate.

Only as much of HTTP (RFC 9112) as a proxy between the two needs: GET, a length, and whether the
connection is kept.
"""

from __future__ import annotations

import errno
import re
import socket
import ssl
from collections import Counter
from typing import TYPE_CHECKING

from twlab.loop import Loop, Timer
from twlab.traffic.listener import END, LENGTH, HttpListener, received
from twlab.traffic.options import bind_address_only

if TYPE_CHECKING:
    from twlab.network import Node

_CLOSEST = 0.87  # between two requests, in intervals of the rate
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)


class WebServer(HttpListener):
    """Answers every request with 200 and `body`, until `close`.

    Args:
        node: where it listens, on its main address.
        family: 4 or 6: of that address.
        port: to listen on.
        body: of each answer.
        hangs_up: whether it closes first where a request wants the connection closed, as most
            servers do; False: the other end closes, and then has the TIME_WAIT.

    Attributes:
        connections, resets, address: see `HttpListener`.
        requests: answered so far.
        sources: connections by the address that they came from.
    """

    def __init__(
        self,
        node: Node,
        loop: Loop,
        port: int = 80,
        *,
        body: bytes = b"hello\n",
        hangs_up: bool = True,
        family: int = 4,
    ):
        self.requests = 0
        self.sources: Counter[str] = Counter()
        self._hangs_up = hangs_up
        self._body = body
        super().__init__(node, loop, (node.address(family), port))

    def _accepted(self, source: str) -> None:
        super()._accepted(source)
        self.sources[source] += 1

    def _answer(self, sock: socket.socket, head: bytes, nth: int) -> bool:
        last = wants_close(head)
        closes = last and self._hangs_up
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n%s"
        self._send(sock, answer % (len(self._body), b"Connection: close\r\n" * last, self._body), closes=closes)
        self.requests += 1
        return not closes


class WebClients:
    """Clients that ask for one page at a steady rate, until `done`.

    An open loop: requests do not wait for the answers to earlier ones. Where the machine is late,
    the rate is caught up with gently, at 1.15 times as many a second: a burst would need ports back
    sooner than the rate does.

    Args:
        node: where they are.
        address: (IP address, port) of the server.
        rate_per_s, duration_s: requests a second, and for how many seconds.
        keep_alive: a connection is used again once it is idle; False: every request opens one, and
            closes it when it has its answer.
        patience_s: seconds after which a request counts as ``timeout``.
        request: the bytes of one; empty: a GET.
        source: address to connect from; empty: the kernel's choice.
        tls: context of the client's side, and the server's name; None: plain HTTP.

    Attributes:
        answers: requests by outcome: the status code as text, the name of an error, ``closed`` or
            ``timeout``.
        first_failure_s: seconds from the beginning to the first request that was sent and not
            answered with 200; None without one.
        last_failure_s: the same to the last of them.
        first_refusal: the answer to the first, e.g. the body of an error page.
        connections: opened so far.
        asked: requests that have arrived so far.
    """

    def __init__(
        self,
        node: Node,
        loop: Loop,
        address: tuple[str, int],
        *,
        rate_per_s: float,
        duration_s: float,
        keep_alive: bool = True,
        patience_s: float = 10.0,
        request: bytes = b"",
        tls: tuple[ssl.SSLContext, str] | None = None,
        source: str = "",
    ):
        self.node = node
        self.answers: Counter[str] = Counter()
        self.first_failure_s: float | None = None
        self.last_failure_s: float | None = None
        self.first_refusal = b""
        self.patience_s = patience_s
        self.connections = self.asked = 0
        self._loop = loop
        self._address = address
        self._rate_per_s, self._total = rate_per_s, round(rate_per_s * duration_s)
        self._keep_alive = keep_alive
        self._idle: list[_Ask] = []
        self._under_way: dict[_Ask, None] = {}
        self._source = source
        self._request, self._tls = request or request_of("GET"), tls
        self._began_s = loop.now_s
        self._arrive()

    @property
    def done(self) -> bool:
        """Whether every request has been sent, and answered or given up."""
        return self.asked == self._total and not self._under_way

    def close(self) -> None:
        """Send no more requests, and close every connection."""
        self.asked = self._total
        for ask in [*self._under_way, *self._idle]:
            self._drop(ask)
        self._under_way.clear()
        self._idle.clear()

    def _arrive(self) -> None:
        """Send one request, and set the time of the next one."""
        if self.asked == self._total:
            return
        self.asked += 1
        now_s = self._loop.now_s - self._began_s
        number = 0
        while self._idle:
            ask = self._idle.pop()
            ask.begin(now_s)
            try:
                ask.sock.send(self._request)
                break
            except OSError:  # the server has just ended it
                self._drop(ask)
        else:
            ask, number = self._connect(now_s)
        self._under_way[ask] = None
        ask.timer = self._loop.call_later(self.patience_s, lambda: self._end(ask, "timeout"))
        if number:
            self._end(ask, errno.errorcode.get(number, str(number)))
        due_s = max(self.asked, now_s * self._rate_per_s + _CLOSEST) / self._rate_per_s
        self._loop.call_at(self._began_s + due_s, self._arrive)

    def _connect(self, now_s: float) -> tuple[_Ask, int]:
        """Open a connection; return it with 0, or with the error number.

        The clients' ports may be used up, too.
        """
        self.connections += 1
        sock = self.node.socket(socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET)
        sock.setblocking(False)
        ask = _Ask(sock, now_s)
        if self._source:
            bind_address_only(sock)
            sock.bind((self._source, 0))
        number = sock.connect_ex(self._address)
        if number in (0, errno.EINPROGRESS):
            self._loop.watch(sock, None, lambda: self._connected(ask))
            return ask, 0
        return ask, number

    def _connected(self, ask: _Ask) -> None:
        if number := ask.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._end(ask, errno.errorcode.get(number, str(number)))
            return
        if self._tls:
            context, name = self._tls
            self._loop.forget(ask.sock)
            ask.sock = context.wrap_socket(ask.sock, server_hostname=name, do_handshake_on_connect=False)
            self._loop.watch(ask.sock, lambda: self._shake_hands(ask))
            self._shake_hands(ask)
            return
        ask.sock.send(self._request)
        self._loop.watch(ask.sock, lambda: self._read(ask))

    def _shake_hands(self, ask: _Ask) -> None:
        """Go on with the handshake of TLS; once it is done, send the request."""
        assert isinstance(ask.sock, ssl.SSLSocket)
        try:
            ask.sock.do_handshake()
            ask.sock.send(self._request)
        except ssl.SSLWantReadError:
            return
        except OSError as error:
            self._end(ask, "TLS: " + (getattr(error, "reason", "") or str(error)))
            return
        self._loop.watch(ask.sock, lambda: self._read(ask))

    def _read(self, ask: _Ask) -> None:
        failure = ""
        try:
            data = received(ask.sock)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError as error:
            data, failure = b"", errno.errorcode.get(error.errno or 0, str(error))
        if ask not in self._under_way:  # an idle connection: the server has ended it, or says what was not asked
            self._idle.remove(ask)
            self._drop(ask)
            return
        if failure:
            self._end(ask, failure)
            return
        ask.unread += data
        end = ask.unread.find(END)
        head = bytes(ask.unread[: max(end, 0)])
        length = LENGTH.search(head)
        if length and len(ask.unread) >= end + len(END) + int(length[1]):
            self._end(
                ask, head.split(maxsplit=2)[1].decode(), keep=bool(data) and self._keep_alive and not wants_close(head)
            )
        elif not data:
            self._end(ask, head.split(maxsplit=2)[1].decode() if head and not length else "closed")

    def _end(self, ask: _Ask, answer: str, keep: bool = False) -> None:
        """Count a request that has been answered or has failed."""
        self.answers[answer] += 1
        if answer != "200":
            self.last_failure_s = max(ask.asked_s, self.last_failure_s or 0.0)
        if answer != "200" and (self.first_failure_s is None or ask.asked_s < self.first_failure_s):
            self.first_failure_s, self.first_refusal = ask.asked_s, bytes(ask.unread)
        del self._under_way[ask]
        ask.timer.cancel()
        if keep:
            self._idle.append(ask)
        else:
            self._drop(ask)

    def _drop(self, ask: _Ask) -> None:
        ask.timer.cancel()
        self._loop.forget(ask.sock)
        ask.sock.close()


class _Ask:
    """A client's connection, with the request under way on it.

    `timer` ends the request when its time is over.
    """

    timer: Timer

    def __init__(self, sock: socket.socket, asked_s: float):
        self.sock = sock
        self.begin(asked_s)

    def begin(self, asked_s: float) -> None:
        self.asked_s = asked_s
        self.unread = bytearray()


def request_of(method: str) -> bytes:
    """Return a request of `method`, with a short body where it is POST."""
    body = b"hello" if method == "POST" else b""
    length = b"Content-Length: %d\r\n" % len(body) if body else b""
    return b"%s / HTTP/1.1\r\nHost: origin\r\n%s\r\n%s" % (method.encode(), length, body)


def wants_close(head: bytes) -> bool:
    """Return whether the sender of `head` wants the connection closed afterwards.

    RFC 9112 section 9.3.

    Args:
        head: of a request or an answer, without the empty line.
    """
    first = head.split(b"\r\n", 1)[0]
    return bool(_CLOSE.search(head)) or (
        (first.startswith(b"HTTP/1.0") or first.endswith(b"HTTP/1.0")) and b"keep-alive" not in head.lower()
    )
