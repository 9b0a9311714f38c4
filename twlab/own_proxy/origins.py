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

from twlab.loop import Loop
from twlab.network import Node
from twlab.traffic.http import wants_close
from twlab.traffic.listener import HttpListener

_PROXY_LINE = re.compile(rb"^PROXY [^\r\n]*\r\n")  # of HAProxy's send-proxy
_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST
_BODY = b"hello\n"
# Not to be stored: where it finds no port, Squid answers from its store, and hides the shortage.
MARK = "X-Twlab: client"  # a header of the clients' requests: those that check an origin's health lack it
_ANSWER = b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: %d\r\n%s\r\n%s"


class Ends(StrEnum):
    """How an origin meets the second request of a connection.

    It answers, or ends the connection with FIN or RST.
    """

    ANSWERS = "answers"
    FIN = "FIN"
    RST = "RST"


class Origin(HttpListener):
    """Answers HTTP requests at one address, until `close`.

    Args:
        node: where it listens.
        address: (address, port).
        tls: context of the server's side; None: plain HTTP.
        closes: whether it closes first where a request wants the connection closed.

    Attributes:
        second: how it meets the second request of a connection from now on.
        connections, resets: see `HttpListener`.
        requests: of clients, answered so far, by method.
        raced: requests of clients that were met by the connection's end, by method.
    """

    def __init__(self, node: Node, loop: Loop, address: tuple[str, int], *, tls: ssl.SSLContext | None, closes: bool):
        self.second = Ends.ANSWERS
        self.requests: Counter[str] = Counter()
        self.raced: Counter[str] = Counter()
        self._closes = closes
        super().__init__(node, loop, address, tls=tls)

    def _answer(self, sock: socket.socket, head: bytes, nth: int) -> bool:
        method = _PROXY_LINE.sub(b"", head).split(None, 1)[0].decode("ascii", "replace")
        of_client = MARK.lower().encode() in head.lower()
        if nth > 1 and of_client and self.second is not Ends.ANSWERS:
            self.raced[method] += 1
            if self.second is Ends.RST:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            return False
        self.requests[method] += of_client
        last = wants_close(head)
        closes = last and self._closes
        self._send(sock, _ANSWER % (len(_BODY), b"Connection: close\r\n" * last, _BODY), closes=closes)
        return not closes
