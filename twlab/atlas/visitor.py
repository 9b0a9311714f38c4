"""A visitor of a proxy: asks for one page at a time, in the proxy's own protocol."""

from __future__ import annotations

import errno
import re
import socket
import ssl
from typing import TYPE_CHECKING

from twlab.atlas import postgres
from twlab.atlas.subject import PORT, Place, Speaks

if TYPE_CHECKING:
    from twlab.lab.lab import Lab
    from twlab.network import Node

_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\n(proxy-)?connection: *close", re.IGNORECASE)
_PATIENCE_S = 20.0
_TURN_S = 0.01


class Visitor:
    """Asks the proxy at `node` from the lab's client.

    Attributes:
        page: the last answer, e.g. an error page.
        ports: from which it has connected, in order.
    """

    def __init__(self, lab: Lab, node: Node, place: Place, speaks: Speaks):
        self.page = b""
        self.ports: list[int] = []
        self._lab, self._place, self._speaks = lab, place, speaks
        self._address = (node.interface_to("client").all4[0], PORT)
        self._kept: socket.socket | None = None

    def ask(self, method: str = "GET", *, keep: bool = False) -> str:
        """Ask once; return the status, or what happened instead of an answer.

        Args:
            keep: the connection is kept for the next call, where the proxy allows that.

        Returns:
            ``200``; ``closed``, ``reset``, ``refused``, ``timeout``; or how SOCKS, TLS or a query
            failed.
        """
        sock, self._kept = self._kept, None
        if sock and _has_ended(sock):
            sock.close()
            sock = None
        until_s = self._lab.now_s + _PATIENCE_S
        try:
            if sock is None:
                sock = self._connected(until_s)
            self._send(sock, self._request(method), until_s)
            answer, stays = self._answer(sock, until_s)
        except (ConnectionResetError, BrokenPipeError):
            answer, stays = "reset", False
        except (ConnectionError, ssl.SSLError) as error:
            answer, stays = {"ConnectionRefusedError": "refused"}.get(type(error).__name__, str(error)), False
        except TimeoutError:
            answer, stays = "timeout", False
        if sock and keep and stays:
            self._kept = sock
        elif sock:
            sock.close()
        return answer

    def close(self) -> None:
        """Close the connection that is kept."""
        if self._kept:
            self._kept.close()
            self._kept = None

    def _request(self, method: str) -> bytes:
        if self._speaks == "postgres":
            return postgres.QUERY
        target = self._place.url if self._speaks == "forward" else "/"
        body = b"hello\n" if method == "POST" else b""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self._place.address}"]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*lines, "", ""]).encode() + body

    def _connected(self, until_s: float) -> socket.socket:
        sock = self._lab.network["client"].socket()
        sock.setblocking(False)
        try:
            number = sock.connect_ex(self._address)
            if number != errno.EINPROGRESS and number:
                raise OSError(number, "connect")
            self._wait(lambda: _is_connected(sock), until_s)
            self.ports.append(sock.getsockname()[1])
            if self._speaks == "socks":
                self._greet(sock, until_s)
            elif self._speaks == "postgres":
                self._send(sock, postgres.STARTUP, until_s)
                answer, _ = self._result(sock, until_s)
                if answer != "200":
                    raise ConnectionError(answer)
            elif self._speaks == "tls":
                sock = _tls(sock)
                self._wait(lambda: _shaken(sock), until_s)
        except BaseException:
            sock.close()
            raise
        return sock

    def _greet(self, sock: socket.socket, until_s: float) -> None:
        """Ask a SOCKS server for a connection to the origin (RFC 1928)."""
        self._send(sock, b"\x05\x01\x00", until_s)
        self._receive(sock, 2, until_s)
        to = socket.inet_aton(self._place.origin) + self._place.port.to_bytes(2, "big")
        self._send(sock, b"\x05\x01\x00\x01" + to, until_s)
        reply = self._receive(sock, 10, until_s)
        if reply[1]:
            raise ConnectionError(f"SOCKS reply {reply[1]}")

    def _answer(self, sock: socket.socket, until_s: float) -> tuple[str, bool]:
        """Return the status, and whether the connection may be used again."""
        if self._speaks == "postgres":
            return self._result(sock, until_s)
        got = b""
        while True:
            head, found, body = got.partition(_END)
            length = _LENGTH.search(head) if found else None
            if length and len(body) >= int(length[1]):
                self.page = got
                return head.split(None, 2)[1].decode(), not _CLOSE.search(head) and not head.startswith(b"HTTP/1.0")
            data = self._some(sock, until_s)
            if not data:
                self.page = got
                return (head.split(None, 2)[1].decode() if found else "closed"), False
            got += data

    def _result(self, sock: socket.socket, until_s: float) -> tuple[str, bool]:
        """Return how a server of PostgreSQL answered, and whether the connection stays."""
        self.page = b""
        while not (found := postgres.outcome(self.page)):
            data = self._some(sock, until_s)
            if not data:
                return "closed", False
            self.page += data
        return found, found == "200"

    def _send(self, sock: socket.socket, data: bytes, until_s: float) -> None:
        def send() -> bool:
            try:
                return bool(sock.send(data))
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return False

        self._wait(send, until_s)

    def _receive(self, sock: socket.socket, count: int, until_s: float) -> bytes:
        got = b""
        while len(got) < count:
            data = self._some(sock, until_s)
            if not data:
                raise ConnectionError("closed")
            got += data
        return got

    def _some(self, sock: socket.socket, until_s: float) -> bytes:
        got: list[bytes] = []

        def receive() -> bool:
            try:
                got.append(sock.recv(1 << 16))
            except (BlockingIOError, ssl.SSLWantReadError):
                return False
            except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
                got.append(b"")
            return True

        self._wait(receive, until_s)
        return got[0]

    def _wait(self, done: object, until_s: float) -> None:
        assert callable(done)
        while not done():
            if self._lab.now_s >= until_s:
                raise TimeoutError
            self._lab.loop.sleep(_TURN_S)


def _has_ended(sock: socket.socket) -> bool:
    """Return whether the proxy has closed a connection that was kept."""
    try:
        return not sock.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True


def _is_connected(sock: socket.socket) -> bool:
    if number := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(number, "connect")
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def _tls(sock: socket.socket) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(sock, do_handshake_on_connect=False)


def _shaken(sock: socket.socket) -> bool:
    assert isinstance(sock, ssl.SSLSocket)
    try:
        sock.do_handshake()
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return False
    return True
