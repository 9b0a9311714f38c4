"""One end of a TCP connection, as an application holds it.

It reads promptly and keeps what arrives until the scenario asks. The socket does not block; a verb
that has to wait serves the lab's loop, so the wire and the other end go on.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from twlab.errors import ScenarioError
from twlab.loop import Loop
from twlab.results.transcript import Transcript
from twlab.segment import Flow
from twlab.traffic.options import abort_on_close

if TYPE_CHECKING:
    from twlab.network import Node

_CHUNK = 1 << 18
# One for all connections: in the lab kernel a page fault costs as much as a dozen system calls.
_BUFFER = bytearray(_CHUNK)
_STATES = (
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
)


class Connection:
    """One end of a TCP connection.

    Attributes:
        flow: the four-tuple, this end first.
        received: number of bytes that have arrived at the application.
        closed_by_peer: the peer's FIN has been read.
        error: name of the error that ended the connection, e.g. ``ECONNRESET``; empty without one.
        keep: whether received bytes are kept for the scenario; False only counts them, for bulk.
    """

    def __init__(self, node: Node, sock: socket.socket, loop: Loop, transcript: Transcript):
        self.node = node
        self.flow = Flow(*sock.getsockname()[:2], *sock.getpeername()[:2])
        self.received = 0
        self.closed_by_peer = False
        self.error = ""
        self._sock: socket.socket | None = sock
        self._loop = loop
        self._transcript = transcript
        self.keep = True
        self._unread = bytearray()
        self._paused = False
        self._push: Callable[[], None] | None = None  # of a send under way
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._watch()

    def send(self, data: bytes, total: int | None = None, timeout_s: float = 60.0) -> None:
        """Hand `data` to the kernel, all of it.

        Args:
            total: bytes to send, made by repeating `data`; None: `data` once.
            timeout_s: seconds within which the kernel must take them.

        Raises:
            ScenarioError: the connection broke, or time ran out (``send-failed``).
        """
        wanted = len(data) if total is None else total
        self._note(f"sends {wanted} bytes")
        block = memoryview(data)
        sent = 0

        def push() -> None:
            nonlocal sent
            try:
                while sent < wanted:
                    start = sent % len(block)
                    sent += self._open_socket().send(block[start : start + min(_CHUNK, wanted - sent)])
            except BlockingIOError:
                pass
            except OSError as error:
                self._fail(error)

        self._open_socket()
        self._push = push
        self._watch()
        self._loop.wait_until(lambda: sent == wanted or self._sock is None, timeout_s)
        self._push = None
        self._watch()
        if sent < wanted:
            raise ScenarioError(
                f"{self.node.name} could send {sent} of {wanted} bytes: {self.error or 'time ran out'}",
                slug="send-failed",
            )

    def receive(self, count: int, timeout_s: float = 10.0) -> bytes:
        """Return the next `count` bytes.

        Fewer when the peer closed, the connection broke, or `timeout_s` passed.
        """
        self._loop.wait_until(lambda: len(self._unread) >= count or self.ended, timeout_s)
        data = bytes(self._unread[:count])
        del self._unread[:count]
        self._note(f"receives {len(data)} of {count} bytes" + (f" ({self.error})" if self.error else ""))
        return data

    def receive_all(self, timeout_s: float = 10.0) -> bytes:
        """Return all bytes until the peer closes or the connection breaks.

        At most `timeout_s` passes.
        """
        self._loop.wait_until(lambda: self.ended, timeout_s)
        data = bytes(self._unread)
        self._unread.clear()
        self._note(f"receives {len(data)} bytes" + (f" ({self.error})" if self.error else ""))
        return data

    def wait_received(self, count: int, timeout_s: float = 60.0) -> bool:
        """Wait until `count` bytes in all have arrived; return whether they did."""
        return self._loop.wait_until(lambda: self.received >= count or self.ended, timeout_s) and self.received >= count

    def wait_closed_by_peer(self, timeout_s: float = 10.0) -> bool:
        """Wait for the peer's FIN or an error; return whether one came in `timeout_s`."""
        return self._loop.wait_until(lambda: self.ended, timeout_s)

    @property
    def unread(self) -> int:
        """Bytes that have arrived and that the scenario has not read."""
        return len(self._unread)

    @property
    def ended(self) -> bool:
        """Whether nothing more can arrive.

        The peer closed, the connection broke, or this end is closed.
        """
        return self.closed_by_peer or bool(self.error) or self._sock is None

    @property
    def state(self) -> str:
        """The kernel's TCP state of the socket (tcp_info), e.g. ``ESTABLISHED``.

        ``CLOSED`` once the application has closed it.
        """
        if self._sock is None:
            return "CLOSED"
        return _STATES[self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] - 1]

    def check(self) -> str:
        """Return the error that the application's next call would meet (SO_ERROR).

        Its name is also in `error`; empty without one.
        """
        if self._sock and (number := self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
            self._fail(OSError(number, "SO_ERROR"))
        return self.error

    def pause(self) -> None:
        """Stop reading, as a busy application does, until `resume`.

        What arrives stays with the kernel.
        """
        self._open_socket()
        self._paused = True
        self._watch()

    def resume(self) -> None:
        """Read again; harmless if nothing more can arrive."""
        self._paused = False
        self._watch()

    def keep_alive(self, every_s: int) -> None:
        """Turn keep-alive on: a probe for each `every_s` seconds of silence (tcp(7))."""
        self._note(f"turns keep-alive on, every {every_s} s")
        sock = self._open_socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL):
            sock.setsockopt(socket.IPPROTO_TCP, option, every_s)

    def finish(self) -> None:
        """Close the sending half (FIN), go on reading."""
        self._note("closes its sending half")
        try:
            self._open_socket().shutdown(socket.SHUT_WR)
        except OSError as error:
            self._fail(error)

    def close(self) -> None:
        """Close the socket, as close(2) does.

        The kernel sends FIN, or RST if it holds unread data.
        """
        if self._sock:
            self._note("closes")
            self._release()

    def abort(self) -> None:
        """Close with SO_LINGER 0: RST, and no TIME_WAIT."""
        self._note("aborts (SO_LINGER 0)")
        abort_on_close(self._open_socket())
        self._release()

    def _readable(self) -> None:
        assert self._sock
        try:
            count = self._sock.recv_into(_BUFFER)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(error)
            return
        if count:
            self.received += count
            if self.keep:
                self._unread += memoryview(_BUFFER)[:count]
        else:
            self.closed_by_peer = True
            self._watch()

    def _watch(self) -> None:
        """Watch the socket for what is to be done with it."""
        if self._sock:
            reads = not (self.closed_by_peer or self._paused)
            self._loop.watch(self._sock, self._readable if reads else None, self._push)

    def _fail(self, error: OSError) -> None:
        self.error = errno.errorcode.get(error.errno or 0, str(error))
        self._note(f"gets {self.error}")
        self._release()

    def _release(self) -> None:
        if self._sock:
            self._loop.forget(self._sock)
            self._sock.close()
            self._sock = None

    def _open_socket(self) -> socket.socket:
        if self._sock is None:
            raise ScenarioError(f"{self.node.name} uses a connection that is closed", slug="connection-closed")
        return self._sock

    def _note(self, text: str) -> None:
        self._transcript.record("verb", text, self.node.name)
