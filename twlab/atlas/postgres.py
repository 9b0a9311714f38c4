"""PostgreSQL's protocol, version 3.0, as far as the atlas needs it.

https://www.postgresql.org/docs/15/protocol-message-formats.html. A query counts as a request, and
one that is answered as ``200``.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from twlab.atlas.origin import Open, Origin

_VERSION, _REFUSE = 196_608, b"N"  # 3.0; no TLS and no GSSAPI here
_ENCRYPTED = (80_877_103, 80_877_104)  # SSLRequest, GSSENCRequest
_OURS = b"SELECT 'lab'"
_STATE = re.compile(rb"(?:^|\0)C([0-9A-Z]{5})\0")


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


STARTUP = struct.pack("!II", 8 + len(b"user\0lab\0database\0lab\0\0"), _VERSION) + b"user\0lab\0database\0lab\0\0"
QUERY = _message(b"Q", _OURS + b"\0")
_READY = _message(b"Z", b"I")
_PARAMETERS = {b"server_version": b"15.0", b"client_encoding": b"UTF8", b"standard_conforming_strings": b"on"}
_WELCOME = b"".join(
    [
        _message(b"R", struct.pack("!I", 0)),
        *(_message(b"S", name + b"\0" + value + b"\0") for name, value in _PARAMETERS.items()),
        _message(b"K", struct.pack("!II", 1, 1)),
        _READY,
    ]
)
_DONE = _message(b"C", b"SELECT 0\0") + _READY


def messages(unread: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and body of each whole message of a server."""
    while len(unread) >= 5 and len(unread) > (length := int.from_bytes(unread[1:5], "big")):
        yield unread[:1], unread[5 : length + 1]
        unread = unread[length + 1 :]


def outcome(unread: bytes) -> str:
    """Return how a server has answered.

    ``200`` once it is ready, or an error's SQLSTATE; an empty text before that.
    """
    for kind, body in messages(unread):
        if kind == b"E":
            state = _STATE.search(body)
            return f"error {state[1].decode()}" if state else "error"
        if kind == b"Z":
            return "200"
    return ""


class PostgresOrigin(Origin):
    """A server of PostgreSQL that has no data: each query selects nothing.

    It never says that it is about to close: ``says`` is ``keeps``. A client's Terminate closes
    nothing here: a client closes right after it, and before PostgreSQL's process has ended.
    """

    def _whole(self, end: Open) -> int:
        """Return the length of the message that has arrived; 0: it is not whole."""
        at = 1 if end.greeted else 0
        if len(end.unread) < at + 4:
            return 0
        length = at + int.from_bytes(end.unread[at : at + 4], "big")
        return length if len(end.unread) >= length else 0

    def _serve(self, end: Open, message: bytes) -> None:
        if not end.greeted:
            code = int.from_bytes(message[4:8], "big")
            end.greeted = code == _VERSION
            end.sock.send(_REFUSE if code in _ENCRYPTED else _WELCOME)
        elif message[:1] == b"Q" and _OURS in message:
            if not self._trapped(end, "GET", asks=False):
                end.sock.send(_DONE)
                if self.manner == "closes":
                    self._end(end)
        elif message[:1] == b"Q":  # a pooler's own
            end.sock.send(_DONE)
