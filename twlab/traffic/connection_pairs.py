"""Connections between a client and a server by the thousand, cheaply.

The verbs of `twlab.traffic.applications` serve the lab's loop while they wait, which a story of a
few connections can afford. Here every call blocks. Between two nodes of one machine a segment has
arrived when the call that sends it returns, so there is hardly anything to wait for. A connection
that is opened, used and closed takes some twenty system calls. The wire arms nothing: a packet
socket copies what crosses it, with a filter that the kernel runs.
"""

from __future__ import annotations

import errno
import socket
from collections import defaultdict, deque
from struct import pack
from typing import TYPE_CHECKING, Literal

from twlab.errors import ScenarioError
from twlab.linux import bpf
from twlab.results.connect_facts import ConnectFact
from twlab.results.transcript import Transcript
from twlab.segment import Segment, parse
from twlab.traffic.options import abort_on_close

if TYPE_CHECKING:
    from twlab.loop import Loop
    from twlab.network import Node

Side = Literal["client", "server"]

_ETHERTYPES = {4: 0x0800, 6: 0x86DD}
_PATIENCE = pack("ll", 10, 0)  # s and us for which a socket's call may block
_BATCH = 64  # sockets made at a time: to make one in another namespace takes six system calls more
_COPIED = (100, 1000)  # bytes of the IP packets that the tap sees: none without data, no bulk


class ConnectionPair:
    """One connection, with both ends in one process.

    Attributes:
        error: name of the first error at either end; empty without one.
    """

    def __init__(self, pairs: ConnectionPairs, near: socket.socket, far: socket.socket):
        self.error = ""
        self._near, self._far = near, far
        self._pairs = pairs

    def send(self, data: bytes) -> None:
        """Send `data` from the client.

        It must fit into the two kernels' buffers (about 100 KB).
        """
        try:
            self._near.sendall(data)
            self._pairs.tell("client", f"sends {len(data)} bytes")
        except OSError as error:
            self._fail("client", error)

    def receive(self, count: int) -> bytes:
        """Return the next `count` bytes at the server.

        Fewer when the connection broke or nothing came for 10 s.
        """
        data = b""
        try:
            while len(data) < count and (more := self._far.recv(count - len(data), socket.MSG_WAITALL)):
                data += more
        except OSError as error:
            self._fail("server", error)
        self._pairs.tell("server", f"receives {len(data)} of {count} bytes")
        return data

    def close(self) -> None:
        """Close it, the client first, which then has the TIME_WAIT."""
        self._pairs.tell("client", "closes, and then the server")
        self._near.close()
        self._far.close()

    def abort(self) -> None:
        """End it by a RST of the client, without TIME_WAIT."""
        self._pairs.tell("client", "aborts (SO_LINGER 0)")
        abort_on_close(self._near)
        self._near.close()
        self._far.close()

    def _fail(self, side: Side, error: OSError) -> None:
        name = errno.errorcode.get(error.errno or 0, str(error))
        self.error = self.error or name
        self._pairs.tell(side, f"gets {name}")


class ConnectionPairs:
    """A client, a server that listens on `port`, and a tap at the wire between them.

    Args:
        family: 4 or 6.
    """

    def __init__(
        self, client: Node, server: Node, wire: Node, port: int, loop: Loop, transcript: Transcript, family: int = 4
    ):
        self._client, self._server = client, server
        self._family = socket.AF_INET6 if family == 6 else socket.AF_INET
        self._loop = loop
        self._transcript = transcript
        self._from, self._to = client.address(family), (server.address(family), port)
        self._made: list[socket.socket] = []
        self._copies: defaultdict[int, deque[Segment]] = defaultdict(deque)
        self._seen: set[tuple[int, int]] = set()  # source port and sequence number
        self._listener = server.socket(self._family)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _PATIENCE)  # what it accepts inherits that
        self._listener.bind(self._to)
        self._listener.listen(4096)
        # A packet socket of one protocol sees what comes in at the wire and not what goes out
        # again: each segment once.
        self._tap = wire.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETHERTYPES[family]))
        bpf.attach(self._tap, bpf.sized(*_COPIED, bpf.tcp_to_port(port, family)))

    def connect(self, source_port: int) -> ConnectionPair:
        """Open a connection from `source_port`.

        Raises:
            ScenarioError: it does not come about (``connect-failed``).
        """
        if trip := self.try_connect(source_port):
            return trip
        raise self._failed(source_port, "EADDRNOTAVAIL")

    def try_connect(self, source_port: int) -> ConnectionPair | None:
        """Open a connection from `source_port`; return None if TIME_WAIT prevents it.

        That is where the kernel refuses the four-tuple with EADDRNOTAVAIL.

        Raises:
            ScenarioError: it fails for another reason (``connect-failed``).
        """
        near = self._socket()
        try:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as `twlab.traffic.applications.Host` does
            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            near.bind((self._from, source_port))
            near.connect(self._to)
            far, _ = self._listener.accept()
        except OSError as error:
            near.close()
            name = errno.errorcode.get(error.errno or 0, str(error))
            self._note(ConnectFact(name), source_port)
            if error.errno == errno.EADDRNOTAVAIL:
                return None
            raise self._failed(source_port, name) from error
        self._note(ConnectFact(), source_port)
        return ConnectionPair(self, near, far)

    def copied(self, source_port: int) -> Segment:
        """Return the next segment from `source_port` that the wire has seen.

        Only segments with some 100 to 900 bytes of data count; each call returns the next one. One
        that is sent again counts once: on a busy machine an ACK is easily 4 ms late, and then Linux
        sends the last of several segments again (tail loss probe, RFC 8985 section 7).

        Raises:
            ScenarioError: the wire has seen no further one (``nothing-seen``).
        """
        now_s = self._loop.now_s
        while not self._copies[source_port]:
            try:
                packet = self._tap.recv(_COPIED[1], socket.MSG_DONTWAIT)
            except BlockingIOError:
                raise ScenarioError(
                    f"the wire has seen no further data from port {source_port}", slug="nothing-seen"
                ) from None
            segment = parse(packet, now_s)
            if segment and (segment.source_port, segment.seq) not in self._seen:
                self._seen.add((segment.source_port, segment.seq))
                self._copies[segment.source_port].append(segment)
        return self._copies[source_port].popleft()

    def close(self) -> None:
        """Stop listening, and close everything but the connections."""
        for sock in (self._listener, self._tap, *self._made):
            sock.close()

    def tell(self, side: Side, text: str) -> None:
        """Record in the transcript what one side does."""
        self._transcript.record("verb", text, self._client.name if side == "client" else self._server.name)

    def _note(self, fact: ConnectFact, source_port: int) -> None:
        text = fact.text(self._server.name, source_port)
        self._transcript.record("verb", text, self._client.name, **fact.details())

    def _socket(self) -> socket.socket:
        if not self._made:
            with self._client.inside():
                self._made = [socket.socket(self._family) for _ in range(_BATCH)]
        return self._made.pop()

    def _failed(self, source_port: int, error: str) -> ScenarioError:
        message = f"{self._client.name} cannot connect to {self._server.name} from port {source_port}: {error}"
        return ScenarioError(message, slug="connect-failed")
