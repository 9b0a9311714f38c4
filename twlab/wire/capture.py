"""Captures the nodes' interfaces in one pcapng file, with comments on packets.

Each packet that the lab held, copied, dropped or made has a comment. The wire says at which
interface, which bytes, and whether it means the last such packet so far or the next one. The
number of packets that the kernel had seen by then settles which of several equal ones is meant.
No clock is used, so this holds in the lab kernel too, where virtual time stands still.

A capture proves that it sees. Canaries cross every watched node when it begins and before it
ends. Each packet that the lab sends has to be found at its link.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from twlab import lab_kernel
from twlab.errors import EngineError, LabError
from twlab.linux.packet_ring import Ring, Taken
from twlab.loop import Loop, wall_s
from twlab.results import pcapng
from twlab.results.files import replacing
from twlab.results.packet_comments import joined
from twlab.results.pcapng import Captured
from twlab.segment import parse
from twlab.wire import canary, merging
from twlab.wire.sender import ETHERTYPE_IPV4

if TYPE_CHECKING:
    from twlab.network import Interface, Node
    from twlab.wire.sender import LinkSender

_ETHERNET_BYTES = 14
_NO_MAC = bytes.fromhex("02000000ffff")
_NEAR = 4096  # packets among which the one that a comment is about must be


class _Comment(NamedTuple):
    position: int
    forward: bool
    interface: int
    packet: bytes
    text: str
    must_be: bool


class Capture:
    """A capture at all interfaces of some nodes, while it is entered.

    It writes the file on leaving.

    Args:
        nodes: in the order in which their interfaces shall stand in the file.
        path: the pcapng file.
        loop: takes packets out of the rings meanwhile.
        full_up_to: bytes up to which a frame is kept whole.
        bulk: bytes kept of a longer frame, enough for all headers; 65535 keeps everything.
        ring_bytes: memory for packets that come while the loop is busy, for each node.

    Attributes:
        written: packets in the file.
        lost: packets that came while a ring was full; the file lacks them.
        fault: once it is over, the error (``blind-lab``, ``sent-not-seen``) if it has missed what
            it must have seen.

    Raises:
        CapabilityError: on entering, when there is no memory or no right to capture
            (``no-capture``).
        EngineError: on entering, when it does not see a canary (``blind-lab``).
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
        self.fault: LabError | None = None
        self._closed = False
        self._seen = 0
        self._nodes = {node.name: node for node in nodes}
        self._loop = loop
        self._sizes = (full_up_to, bulk, ring_bytes)
        self._rings: dict[str, Ring] = {}
        self._comments: dict[str, list[_Comment]] = {name: [] for name in self._nodes}
        self._missed: list[tuple[str, _Comment]] = []

    def __enter__(self) -> Capture:
        for name, node in self._nodes.items():
            self._rings[name] = ring = Ring(node, *self._sizes)
            self._loop.watch(ring, ring.take)
        for name in self._nodes:
            if not self._sees_canaries(name):
                raise canary.blind(f"the capture at {name} does not see what crosses it")
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the capture and write the file. May be called again. Raises OSError."""
        if self._closed:
            return
        self._closed = True
        closed = [name for name in self._nodes if not self._sees_canaries(name)]
        for ring in self._rings.values():
            self._loop.forget(ring)
        rings, self._seen, self._rings = self._rings, self.seen, {}
        self._write(self._packets({name: ring.close() for name, ring in rings.items()}))
        self.lost = sum(ring.lost for ring in rings.values())
        if closed:
            self.fault = canary.blind(f"the capture at {closed[0]} no longer saw what crossed it when it ended")
        elif self._missed and not self.lost:
            self.fault = _not_seen(self._missed[0])

    def save(self) -> list[Captured]:
        """Write the file as of now, and go on.

        Returns:
            The packets in it, in its order.

        Raises:
            OSError: the file cannot be written.
        """
        packets = self._packets({name: ring.seen() for name, ring in self._rings.items()})
        self._write(packets)
        return packets

    def _packets(self, taken: Mapping[str, Iterable[Taken]]) -> list[Captured]:
        nodes: list[list[Captured]] = []
        sightings: list[list[merging.Sighted]] = []
        first = 0
        self._missed = []
        for name, found in taken.items():
            interfaces = self._nodes[name].interfaces
            numbers = {interface.index: first + number for number, interface in enumerate(interfaces)}
            first += len(interfaces)
            seen = [
                Captured(at_ns, numbers.get(index, -1), outbound, frame, length)
                for at_ns, index, outbound, frame, length in found
            ]
            self._missed += [
                (name, comment) for comment in _attach(self._comments[name], numbers, seen) if comment.must_be
            ]
            shown = [
                packet
                for packet in seen
                if packet.interface >= 0 and not canary.is_canary(packet.frame[_ETHERNET_BYTES:])
            ]
            nodes.append(sorted(shown, key=lambda packet: packet.at_ns))
            places = {numbers[interface.index]: self._place(interface) for interface in interfaces}
            sightings.append(
                [] if len(taken) == 1 else [_sighted(packet, places[packet.interface]) for packet in nodes[-1]]
            )
        return nodes[0] if len(nodes) == 1 else [nodes[node][index] for node, index in merging.merged(sightings)]

    def _place(self, interface: Interface) -> Hashable:
        """Return what `interface` leads to.

        If the other end is watched, that is its link; else the unwatched nodes beyond it.
        """
        if interface.peer.node.name in self._nodes:
            return frozenset((interface.name, interface.peer.name))
        beyond, ahead = {interface.peer.node.name}, [interface.peer.node]
        while ahead:
            for other in (each.peer.node for each in ahead.pop().interfaces):
                if other.name not in self._nodes and other.name not in beyond:
                    beyond.add(other.name)
                    ahead.append(other)
        return frozenset(beyond)

    def _write(self, packets: list[Captured]) -> None:
        names = [interface.name for node in self._nodes.values() for interface in node.interfaces]
        with replacing(self.path) as file:
            about = {"hardware": os.uname().machine, "system": " ".join(os.uname()[0:3:2]), "application": "twlab"}
            self.written = pcapng.write(
                file, names, packets, **about, comment=f"t=0 is {wall_s() - self._loop.now_s:.6f} s since 1970"
            )

    @property
    def seen(self) -> int:
        """Packets seen so far, at all interfaces together."""
        return self._seen + sum(ring.position for ring in self._rings.values())

    def send(self, link: LinkSender, packet: bytes, text: str) -> None:
        """Send an IP packet, comment on it at both ends of its link, and see it set out.

        Raises:
            EngineError: the ring at the link has not seen it (``sent-not-seen``).
            OSError: as `twlab.wire.sender.LinkSender.send`; there is no comment then.
        """
        ends = [interface for interface in (link.target.peer, link.target) if interface.node.name in self._rings]
        before = {interface.node.name: self._rings[interface.node.name].position for interface in ends}
        link.send(packet)
        for interface in ends:
            name = interface.node.name
            comment = _Comment(before[name], True, interface.index, packet, text, True)
            self._comments[name].append(comment)
            ring = self._rings[name]
            if interface is link.target.peer and ring.position == before[name] and not ring.dropped():
                raise _not_seen((name, comment))

    def comment_last(self, interface: Interface, packet: bytes, text: str) -> None:
        """Comment on the last packet that `interface` received, equal to `packet`.

        Args:
            packet: an IP packet.
            text: a comment of `twlab.results.packet_comments`.
        """
        if ring := self._rings.get(interface.node.name):
            comment = _Comment(ring.position, False, interface.index, packet, text, False)
            self._comments[interface.node.name].append(comment)

    def _sees_canaries(self, name: str) -> bool:
        """Send canaries out of a node and into it; return whether its ring sees both.

        Where all its links are down, nothing can be shown, and the answer is yes.
        """
        ring = self._rings[name]
        ring.take()  # so that there is room
        for interface in self._nodes[name].interfaces:
            start = ring.position
            packet = canary.make(interface.all4[0], interface.peer.all4[0])
            try:
                for end in (interface, interface.peer):
                    with end.node.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
                        # To a MAC address that is not there, so that no kernel looks at it
                        # (PACKET_OTHERHOST, net/ipv4/ip_input.c).
                        sender.sendto(_NO_MAC + _NO_MAC + ETHERTYPE_IPV4 + packet, (end.name, 0))
            except OSError:  # the link has been set down
                continue
            return canary.await_sight(lambda start=start: ring.position >= start + 2)  # type: ignore[misc]
        return True


def _not_seen(missed: tuple[str, _Comment]) -> LabError:
    name, comment = missed
    segment = parse(comment.packet, 0.0)
    what = segment.words() if segment else f"{len(comment.packet)} bytes"
    remedy = lab_kernel.or_guest("check that the link is up and that no firewall drops it")
    return EngineError(f"what the lab sent was not seen at {name}: {what} ({comment.text})", remedy, "sent-not-seen")


def _sighted(packet: Captured, place: Hashable) -> merging.Sighted:
    return merging.Sighted(packet.at_ns, packet.outbound, place, _constant_part(packet.frame[_ETHERNET_BYTES:]))


def _attach(comments: list[_Comment], numbers: dict[int, int], seen: list[Captured]) -> list[_Comment]:
    """Put each comment on the nearest packet that it can be about.

    A packet takes one comment of each direction.

    Args:
        comments: in the order in which they were made.
        numbers: the kernel's index of an interface to that in `Captured.interface`.
        seen: what the ring saw, in its order.

    Returns:
        The comments for which there is no such packet.
    """
    taken: set[tuple[int, bool]] = set()
    missed = []
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
                packet.comment = joined((packet.comment, comment.text))
                break
        else:
            missed.append(comment)
    return missed


def _constant_part(packet: bytes) -> bytes:
    """Return a packet without what routers and network cards change.

    That is the hop limit and the checksums. The packet may be cut short.
    """
    if packet[0] >> 4 == 4:
        header = (packet[0] & 15) * 4
        return packet[:8] + packet[9:10] + packet[12 : header + 16] + packet[header + 18 :]
    return packet[:7] + packet[8:56] + packet[58:]
