"""Origins in the lab: HTTP/1.1, also over TLS, at the addresses that a file names.

They answer every request with 200, and know one more trick: to meet a request on a connection that
has been used before with its end, as an origin does whose idle timeout has just run out.
"""

from __future__ import annotations

import re
import socket
import ssl
import struct
from collections import Counter
from enum import StrEnum
from functools import partial

from twlab.loop import Loop
from twlab.network import Node
from twlab.traffic.http import wants_close

_CHUNK = 1 << 16
_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST
_BODY = b"hello\n"
# Not to be stored: where it finds no port, Squid answers from its store, and hides the shortage.
_ANSWER = b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: %d\r\n%s\r\n%s"


class Ends(StrEnum):
    """How an origin meets the second request of a connection.

    It answers, or ends the connection with FIN or RST.
    """

    ANSWERS = "answers"
    FIN = "FIN"
    RST = "RST"


class Origin:
    """Answers HTTP requests at one address, until `close`.

    Args:
        node: where it listens.
        address: (address, port).
        tls: context of the server's side; None: plain HTTP.
        closes: whether it closes first where a request wants the connection closed.

    Attributes:
        second: how it meets the second request of a connection from now on.
        connections: accepted so far.
        requests: answered so far, by method.
        raced: requests that were met by the connection's end, by method.
        resets: connections that ended in a RST from the other end.
    """

    def __init__(self, node: Node, loop: Loop, address: tuple[str, int], *, tls: ssl.SSLContext | None, closes: bool):
        self.second = Ends.ANSWERS
        self.connections = self.resets = 0
        self.requests: Counter[str] = Counter()
        self.raced: Counter[str] = Counter()
        self._loop, self._tls, self._closes = loop, tls, closes
        self._open: set[socket.socket] = set()
        self._listener = node.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        self._listener.setblocking(False)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if ":" in address[0]:
            self._listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self._listener.bind(address)
        self._listener.listen(4096)
        loop.watch(self._listener, self._arrivals)

    def close(self) -> None:
        """Stop listening, and close every connection."""
        for sock in (self._listener, *self._open):
            self._loop.forget(sock)
            sock.close()
        self._open.clear()

    def _arrivals(self) -> None:
        while True:
            try:
                sock = self._listener.accept()[0]
            except BlockingIOError:
                return
            self.connections += 1
            sock.setblocking(False)
            if self._tls:
                sock = self._tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
            self._open.add(sock)
            self._loop.watch(sock, partial(self._serve, sock, bytearray(), Counter()))

    def _serve(self, sock: socket.socket, unread: bytearray, served: Counter[str]) -> None:
        data = self._read(sock)
        if data is None:
            return
        unread += data
        while data and _END in unread:
            head, _, rest = bytes(unread).partition(_END)
            length = _LENGTH.search(head)
            if length and len(rest) < int(length[1]):
                return
            unread[:] = rest[int(length[1]) if length else 0 :]
            method = head.rpartition(b"PROXY ")[2].split(None, 1)[0].decode("ascii", "replace")
            if served.total() and self.second is not Ends.ANSWERS:
                self.raced[method] += 1
                if self.second is Ends.RST:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
                data = b""
                break
            served[method] += 1
            self.requests[method] += 1
            if self._answer(sock, wants_close(head)):
                data = b""
        if not data:
            self._loop.forget(sock)
            self._open.discard(sock)
            sock.close()

    def _read(self, sock: socket.socket) -> bytes | None:
        """Return what has arrived; empty at the connection's end, None where it is nothing yet."""
        try:
            data = sock.recv(_CHUNK)
            while data and isinstance(sock, ssl.SSLSocket) and sock.pending():
                data += sock.recv(_CHUNK)
            return data
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        except OSError:
            self.resets += 1
            return b""

    def _answer(self, sock: socket.socket, last: bool) -> bool:
        """Answer a request; return whether the connection is closed now."""
        close = b"Connection: close\r\n" * last
        try:
            sock.send(_ANSWER % (len(_BODY), close, _BODY))
        except OSError:
            return True
        return last and self._closes
