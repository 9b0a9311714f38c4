"""The origin behind every program: it keeps, or ends, its connections as told."""

from __future__ import annotations

import re
import socket
import struct
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal

from twlab.atlas.subject import ORIGIN_PORT
from twlab.loop import Loop
from twlab.traffic.http import wants_close

if TYPE_CHECKING:
    from twlab.network import Node

Manner = Literal["keeps", "says", "closes"]
_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_LINGER_0 = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Request:
    """One that has arrived.

    Attributes:
        method: of it.
        connection: number of its connection, from 1.
        nth: on that connection, from 1.
        asks: whether it asks for the connection to be closed.
    """

    method: str
    connection: int
    nth: int
    asks: bool


@dataclass
class Open:
    """An open connection.

    Attributes:
        number: of it, from 1.
        sock: its socket.
        unread: what has arrived and is not yet a whole message.
        requests: that have arrived on it.
        greeted: whether a protocol that begins with a greeting is past it.
    """

    number: int
    sock: socket.socket
    unread: bytearray = field(default_factory=bytearray)
    requests: int = 0
    greeted: bool = False


class Origin:
    """A server on the node `node`.

    Attributes:
        manner: ``keeps``: a connection stays open unless the request asks otherwise; ``says``: each
            answer says ``Connection: close``, and the other end closes; ``closes``: the origin
            closes with each answer.
        trap: the next request on a connection that has served one before is met by this instead of
            an answer, once: ``FIN`` or ``RST``; empty: by an answer.
        requests: that have arrived.
        sources: address and port of each connection.
    """

    def __init__(self, node: Node, loop: Loop, manner: Manner = "keeps"):
        self.manner: Manner = manner
        self.trap: Literal["", "FIN", "RST"] = ""
        self.requests: list[Request] = []
        self.sources: list[tuple[str, int]] = []
        self._loop = loop
        self._open: dict[int, Open] = {}
        self._listener = node.socket()
        self._listener.setblocking(False)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((node.address(), ORIGIN_PORT))
        self._listener.listen(1024)
        loop.watch(self._listener, self._arrivals)

    def close(self) -> None:
        """End everything."""
        self._loop.forget(self._listener)
        self._listener.close()
        for end in list(self._open.values()):
            self._end(end)

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self._open)

    def _arrivals(self) -> None:
        while True:
            try:
                sock, source = self._listener.accept()
            except BlockingIOError:
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sources.append(source)
            end = Open(len(self.sources), sock)
            self._open[end.number] = end
            self._loop.watch(sock, partial(self._read, end))

    def _read(self, end: Open) -> None:
        try:
            data = end.sock.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._end(end)
            return
        end.unread += data
        while end.number in self._open and (length := self._whole(end)):
            message = bytes(end.unread[:length])
            del end.unread[:length]
            self._serve(end, message)

    def _whole(self, end: Open) -> int:
        return whole(end.unread)

    def _trapped(self, end: Open, method: str, *, asks: bool) -> bool:
        """Count a request; return whether it met the end of its connection."""
        end.requests += 1
        self.requests.append(Request(method, end.number, end.requests, asks))
        if not self.trap or end.requests == 1:
            return False
        if self.trap == "RST":
            end.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
        self.trap = ""
        self._end(end)
        return True

    def _serve(self, end: Open, message: bytes) -> None:
        head = message.partition(_END)[0]
        asks = wants_close(head)
        if self._trapped(end, head.split(None, 1)[0].decode("latin-1"), asks=asks):
            return
        says = asks or self.manner != "keeps"
        close = b"Connection: close\r\n" if says else b""
        end.sock.send(b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 6\r\n%s\r\nhello\n" % close)
        if self.manner == "closes" or (self.manner == "keeps" and asks):
            self._end(end)

    def _end(self, end: Open) -> None:
        self._open.pop(end.number, None)
        self._loop.forget(end.sock)
        end.sock.close()


def whole(unread: bytes | bytearray) -> int:
    """Return the length of the request that `unread` begins with; 0: it is not whole."""
    begin = unread.find(_END)
    if begin < 0:
        return 0
    head, begin = bytes(unread[:begin]), begin + len(_END)
    if _CHUNKED.search(head):
        last = unread.find(b"0" + _END, begin)
        return last + 5 if last >= 0 else 0
    length = _LENGTH.search(head)
    end = begin + (int(length[1]) if length else 0)
    return end if len(unread) >= end else 0
