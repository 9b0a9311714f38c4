"""A listener for HTTP/1.1, which hands over one request after the other."""

from __future__ import annotations

import re
import socket
import ssl
from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING

from twlab.loop import Loop

if TYPE_CHECKING:
    from twlab.network import Node

_CHUNK = 1 << 16
END = b"\r\n\r\n"  # of a head
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class HttpListener(ABC):
    """Serves HTTP requests at one address, until `close`.

    Args:
        node: where it listens.
        address: (IP address, port).
        tls: context of the server's side; None: plain HTTP.

    Attributes:
        address: of it.
        connections: accepted so far.
        resets: connections that ended in a RST from the other end.
    """

    def __init__(self, node: Node, loop: Loop, address: tuple[str, int], *, tls: ssl.SSLContext | None = None):
        self.connections = self.resets = 0
        self._loop, self._tls = loop, tls
        self._open: dict[socket.socket, _Conversation] = {}
        self._listener = node.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        self._listener.setblocking(False)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if ":" in address[0]:
            self._listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self._listener.bind(address)
        self._listener.listen(4096)
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        loop.watch(self._listener, self._arrivals)

    def close(self) -> None:
        """Stop listening, and close every connection."""
        for sock in (self._listener, *self._open):
            self._loop.forget(sock)
            sock.close()
        self._open.clear()

    @abstractmethod
    def _answer(self, sock: socket.socket, head: bytes, nth: int) -> bool:
        """Answer a request; return whether the connection stays open.

        Args:
            head: of the request, without the empty line.
            nth: of it on the connection, from 1.
        """

    def _send(self, sock: socket.socket, answer: bytes, *, closes: bool) -> None:
        """Send an answer; where this end then closes, its last segment bears the FIN.

        If the FIN came behind it, a proxy that knows the answer's length could close first.
        """
        if closes:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        self._open[sock].unsent = answer
        self._push(sock)

    def _push(self, sock: socket.socket) -> None:
        """Send as much of an answer as the kernel takes now."""
        conversation = self._open[sock]
        try:
            while conversation.unsent:
                conversation.unsent = conversation.unsent[sock.send(conversation.unsent) :]
        except (BlockingIOError, ssl.SSLWantWriteError):
            return

    def _accepted(self, source: str) -> None:
        """Note that a connection from `source` has been accepted."""
        self.connections += 1

    def _arrivals(self) -> None:
        while True:
            try:
                sock, (source, *_) = self._listener.accept()
            except BlockingIOError:
                return
            self._accepted(source)
            sock.setblocking(False)
            if self._tls:
                sock = self._tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
            self._open[sock] = _Conversation()
            self._loop.watch(sock, partial(self._serve, sock))

    def _serve(self, sock: socket.socket) -> None:
        data = self._read(sock)
        if data is None:
            return
        conversation = self._open[sock]
        conversation.unread += data
        conversation.over = not data
        self._go_on(sock)

    def _go_on(self, sock: socket.socket) -> None:
        """Send what is to be sent, answer what has been asked; close the connection at its end.

        While an answer does not go out whole, nothing more is read.
        """
        conversation = self._open[sock]
        try:
            self._push(sock)
            while not (conversation.unsent or conversation.over) and (head := _taken(conversation.unread)):
                conversation.served += 1
                conversation.over = not self._answer(sock, head, conversation.served)
        except OSError:
            self.resets += 1
            conversation.over, conversation.unsent = True, b""
        if conversation.unsent:
            self._loop.watch(sock, None, partial(self._writable, sock))
        elif conversation.over:
            self._loop.forget(sock)
            del self._open[sock]
            sock.close()

    def _writable(self, sock: socket.socket) -> None:
        self._loop.watch(sock, partial(self._serve, sock))
        self._go_on(sock)

    def _read(self, sock: socket.socket) -> bytes | None:
        """Return what has arrived; empty at the connection's end, None where it is nothing yet."""
        try:
            return received(sock)
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        except OSError:
            self.resets += 1
            return b""


def received(sock: socket.socket) -> bytes:
    """Return what has arrived, all that TLS has decrypted of it; empty at the end."""
    data = sock.recv(_CHUNK)
    while data and isinstance(sock, ssl.SSLSocket) and sock.pending():
        data += sock.recv(_CHUNK)
    return data


class _Conversation:
    """A connection's requests and answers, as far as they are under way."""

    def __init__(self) -> None:
        self.unread = bytearray()
        self.unsent = b""
        self.served = 0
        self.over = False


def _taken(unread: bytearray) -> bytes:
    """Take a request out of `unread`; return its head, or nothing where it is not whole."""
    end = unread.find(END)
    if end < 0:
        return b""
    head = bytes(unread[:end])
    length = LENGTH.search(head)
    whole = end + len(END) + (int(length[1]) if length else 0)
    if len(unread) < whole:
        return b""
    del unread[:whole]
    return head
