"""What crossed the nodes' interfaces, in one pcapng file, with a comment on each packet that the
lab held, copied, dropped or made.

A comment has to find its packet. The wire says at which interface, what the packet's bytes are, and
whether it is the last such packet so far or the next one from now; how many packets the kernel had
seen by then settles which of several equal ones is meant. Clocks do not come into it, so it also
holds in the lab kernel, where virtual time stands still while things happen.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from twlab.linux.packet_ring import Ring, Taken
from twlab.loop import Loop, wall_s
from twlab.results import pcapng
from twlab.results.pcapng import Captured

if TYPE_CHECKING:
    from twlab.network import Interface, Node

_ETHERNET_BYTES = 14
_NEAR = 4096  # a packet that a comment is about is at most so many packets away


class _Comment(NamedTuple):
    position: int
    forward: bool
    interface: int
    packet: bytes
    text: str


class Capture:
    """Captures at all interfaces of `nodes` while it is entered, and writes the file on leaving.

    Args:
        nodes: in the order in which their interfaces shall stand in the file.
        path: the pcapng file.
        loop: takes packets out of the rings meanwhile.
        full_up_to: frames of at most so many bytes are kept whole.
        bulk: of longer ones, the first so many bytes are kept, enough for all headers. Give 65535
            to keep everything.
        ring_bytes: memory for what comes while the loop is busy, for each node.

    Attributes:
        written: packets in the file.
        lost: packets that came while a ring was full and are missing from it.

    Raises:
        CapabilityError: on entering, when there is no memory or no right to capture
            (``no-capture``).
        OSError: on leaving, when the file cannot be written.
    """

    def __init__(
        self,
        nodes: Iterable[Node],
        path: Path,
        loop: Loop,
        *,
        full_up_to: int = 1000,
        bulk: int = 128,
        ring_bytes: int = 8 << 20,
    ):
        self.path = path
        self.written = 0
        self.lost = 0
        self._nodes = {node.name: node for node in nodes}
        self._loop = loop
        self._sizes = (full_up_to, bulk, ring_bytes)
        self._rings: dict[str, Ring] = {}
        self._comments: dict[str, list[_Comment]] = {name: [] for name in self._nodes}

    def __enter__(self) -> Capture:
        for name, node in self._nodes.items():
            self._rings[name] = ring = Ring(node, *self._sizes)
            self._loop.watch(ring, ring.take)
        return self

    def __exit__(self, *_: object) -> None:
        for ring in self._rings.values():
            self._loop.forget(ring)
        self._write(self._packets({name: ring.close() for name, ring in self._rings.items()}))
        self.lost = sum(ring.lost for ring in self._rings.values())

    def save(self) -> list[Captured]:
        """Write the file as of now, and go on; the packets in it, in its order. Raises OSError."""
        packets = self._packets({name: ring.seen() for name, ring in self._rings.items()})
        self._write(packets)
        return packets

    def _packets(self, taken: Mapping[str, Iterable[Taken]]) -> list[Captured]:
        packets: list[Captured] = []
        first = 0
        for name, found in taken.items():
            interfaces = self._nodes[name].interfaces
            numbers = {interface.index: first + number for number, interface in enumerate(interfaces)}
            first += len(interfaces)
            seen = [
                Captured(at_ns, numbers.get(index, -1), outbound, frame, length)
                for at_ns, index, outbound, frame, length in found
            ]
            _attach(self._comments[name], numbers, seen)
            packets += [packet for packet in seen if packet.interface >= 0]
        packets.sort(key=lambda packet: packet.at_ns)
        return packets

    def _write(self, packets: list[Captured]) -> None:
        names = [interface.name for node in self._nodes.values() for interface in node.interfaces]
        with self.path.open("wb") as file:
            about = {"hardware": platform.machine(), "system": " ".join(os.uname()[0:3:2]), "application": "twlab"}
            self.written = pcapng.write(
                file, names, packets, **about, comment=f"t=0 is {wall_s() - self._loop.now_s:.6f} s since 1970"
            )

    @property
    def seen(self) -> int:
        """Packets that have been seen so far, at all interfaces together."""
        return sum(ring.position for ring in self._rings.values())

    def comment_last(self, interface: Interface, packet: bytes, text: str) -> None:
        """Comment on the last packet so far that `interface` has received and that is `packet`, an
        IP packet.
        """
        self._note(False, interface, packet, text)

    def comment_next(self, interface: Interface, packet: bytes, text: str) -> None:
        """Comment on the next packet that `interface` sends or receives and that is `packet`, an IP
        packet.
        """
        self._note(True, interface, packet, text)

    def _note(self, forward: bool, interface: Interface, packet: bytes, text: str) -> None:
        if ring := self._rings.get(interface.node.name):
            self._comments[interface.node.name].append(_Comment(ring.position, forward, interface.index, packet, text))


def _attach(comments: list[_Comment], numbers: dict[int, int], seen: list[Captured]) -> None:
    """Put each comment on the nearest packet that it can be about, and that no other comment of its
    direction has taken.

    Args:
        comments: in the order in which they were made.
        numbers: the kernel's index of an interface to that in `Captured.interface`.
        seen: what the ring saw, in its order.
    """
    taken: set[tuple[int, bool]] = set()
    for comment in comments:
        wanted = _constant_part(comment.packet)
        here, end = comment.position, len(seen)
        for at in (
            range(here, min(end, here + _NEAR))
            if comment.forward
            else range(min(end, here) - 1, max(-1, here - _NEAR), -1)
        ):
            packet = seen[at]
            if packet.interface != numbers[comment.interface] or (at, comment.forward) in taken:
                continue
            if wanted.startswith(_constant_part(packet.frame[_ETHERNET_BYTES:])):
                taken.add((at, comment.forward))
                packet.comment = f"{packet.comment}; {comment.text}" if packet.comment else comment.text
                break


def _constant_part(packet: bytes) -> bytes:
    """A packet, or the first part of one, without what routers and network cards change: hop limit
    and checksums.
    """
    if packet[0] >> 4 == 4:
        header = (packet[0] & 15) * 4
        return packet[:8] + packet[9:10] + packet[12 : header + 16] + packet[header + 18 :]
    return packet[:7] + packet[8:56] + packet[58:]
