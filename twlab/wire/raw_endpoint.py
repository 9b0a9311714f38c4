"""A TCP endpoint that twlab plays segment by segment: no kernel answers for it.

An address and port of a node are claimed. A firewall rule in the node's namespace drops segments
for them before connection tracking and TCP see them. A packet socket, which comes before the
firewall, shows them to twlab. Sent segments go straight onto the link. An unused claim costs the
kernel one rule.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from itertools import count
from struct import unpack_from
from typing import TYPE_CHECKING, Any

from twlab.linux import bpf, nftables
from twlab.linux.syscalls import enlarge_receive_buffer
from twlab.loop import Loop
from twlab.results.packet_comments import Mark, text
from twlab.results.transcript import Transcript
from twlab.segment import Flow, Segment, parse
from twlab.wire import canary, craft
from twlab.wire.sender import PacketSender

if TYPE_CHECKING:
    from twlab.network import Node
    from twlab.wire.capture import Capture

_ETH_P_IP, _ETH_P_IPV6 = 0x0800, 0x86DD
_SOL_PACKET, _PACKET_STATISTICS = 263, 6  # linux/if_packet.h
_BUFFER_BYTES = 8 << 20
_numbers = count(1)


class RawEndpoint:
    """A claimed (address, port) at a node, as a context manager.

    Args:
        node: where segments for the endpoint arrive. The address need not be the node's: it may
            forward for it.
        port: its port.
        address: its address; None: the node's main one of `family`.
        family: 4 or 6.
        names: address to the name that the transcript uses for it.

    Attributes:
        seen: segments that have arrived and that `expect` has not yet looked at, oldest first.

    Raises:
        CapabilityError: no nftables (``no-nftables``, ``no-libnftables``).
        EngineError: it does not see a canary (``blind-lab``).
    """

    def __init__(
        self,
        node: Node,
        port: int,
        loop: Loop,
        transcript: Transcript,
        capture: Capture | None = None,
        *,
        address: str | None = None,
        family: int = 4,
        names: dict[str, str] | None = None,
    ):
        craft.load()
        self.node = node
        self.address = address or node.address(family)
        self.port = port
        self.seen: deque[Segment] = deque()
        self._names = names
        self._loop = loop
        self._transcript = transcript
        self._capture = capture
        self._lost = 0
        self._canaries = 0
        self._sender = PacketSender(node)
        self._table = f"inet twlab_claim_{next(_numbers)}"
        ip, version, protocol = ("ip6", 6, _ETH_P_IPV6) if ":" in self.address else ("ip", 4, _ETH_P_IP)
        with node.inside():
            nftables.apply(
                f"table {self._table} {{ chain claim {{ type filter hook prerouting priority raw - 10; "
                f"{ip} daddr {self.address} tcp dport {port} drop; }}; }}"
            )
        # A socket for one protocol is shown what arrives and not what is sent.
        self._socket = node.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(protocol))
        self._socket.setblocking(False)
        bpf.attach(self._socket, bpf.tcp_to_port(port, version))
        enlarge_receive_buffer(self._socket, _BUFFER_BYTES)
        loop.watch(self._socket, self._arrivals)
        self._prove()

    def __enter__(self) -> RawEndpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the address and port back to the kernel. May be called again."""
        if self._socket.fileno() < 0:
            return
        self._loop.forget(self._socket)
        self._socket.close()
        self._sender.close()
        with self.node.inside():
            nftables.apply(f"delete table {self._table}")

    @property
    def lost(self) -> int:
        """Segments that the socket's buffer had no room for."""
        self._lost += unpack_from("=I", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8), 4)[0]
        return self._lost

    def send(self, to: tuple[str, int], flags: str, **fields: Any) -> Segment:
        """Send one segment.

        Args:
            to: address and port.
            flags, fields: as for `twlab.wire.craft.craft`: seq, ack, payload, window, timestamp,
                options.

        Returns:
            The segment; `at_s` is when it was sent.
        """
        segment = craft.craft(self._loop.now_s, flow=Flow(self.address, self.port, *to), flags=flags, **fields)
        self.put(segment)
        return segment

    def put(self, segment: Segment) -> float:
        """Send a segment made before, by one system call; return when it was sent."""
        link = self._sender.to(segment.destination)
        if self._capture:
            self._capture.send(link, segment.raw, text(Mark.SENT))
        else:
            link.send(segment.raw)
        self._transcript.record("verb", f"sends {segment.words(self._names)}", self.node.name)
        return self._loop.now_s

    def expect(self, predicate: Callable[[Segment], bool], timeout_s: float = 1.0) -> Segment | None:
        """Return the next segment that arrives and matches; None: there was none in time.

        Segments that arrived before it are forgotten.

        Args:
            timeout_s: seconds to wait for it.

        Raises:
            EngineError: none came, and none could have been seen (``blind-lab``).
        """
        found: list[Segment] = []

        def look() -> bool:
            while self.seen and not found:
                if predicate(segment := self.seen.popleft()):
                    found.append(segment)
            return bool(found)

        if not self._loop.wait_until(look, timeout_s):
            self._prove()
        what = found[0].words(self._names) if found else f"nothing of {predicate} for {timeout_s:g} s"
        self._transcript.record("verb", f"receives {what}", self.node.name)
        return found[0] if found else None

    def expect_nothing(self, for_s: float) -> bool:
        """Return whether nothing arrives for `for_s` seconds and nothing was waiting.

        All of that time passes.

        Raises:
            EngineError: a segment could not have been seen (``blind-lab``).
        """
        self._loop.sleep(for_s)
        if not self.seen:
            self._prove()
        what = f"{len(self.seen)} segments" if self.seen else "nothing"
        self._transcript.record("verb", f"receives {what} in {for_s:g} s", self.node.name)
        return not self.seen

    def _prove(self) -> None:
        """See a canary arrive.

        Raises:
            EngineError: no canary arrives (``blind-lab``).
        """
        interface = self.node.interfaces[0]
        source = (interface.peer.all6 if ":" in self.address else interface.peer.all4)[0]
        wanted = self._canaries + 1

        def seen() -> bool:
            self._arrivals()
            return self._canaries >= wanted

        self._sender.at(interface).send(canary.make(source, self.address, self.port))
        if not canary.await_sight(seen) or self.lost:
            raise canary.blind(f"the endpoint at {self.node.name} port {self.port} does not see what arrives")

    def _arrivals(self) -> None:
        while True:
            try:
                segment = parse(self._socket.recv(65535), self._loop.now_s)
            except BlockingIOError:
                return
            if segment and segment.destination == self.address and segment.destination_port == self.port:
                if segment.source_port == 0 and canary.is_canary(segment.raw):
                    self._canaries += 1
                else:
                    self.seen.append(segment)
