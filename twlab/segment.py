"""A TCP segment as it crossed the wire, and the arithmetic of its numbers. Pure.

Sequence numbers, acknowledgement numbers and timestamps all live on a circle of 2^32 (RFC 9293
section 3.4, RFC 7323 section 5.2). The shorter way round decides which of two is "before".
`advance`, `distance` and `before` serve all three.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from struct import Struct, error, pack_into, unpack_from
from typing import NamedTuple

_CIRCLE = 1 << 32
_HALF = 1 << 31
_TCP = Struct("!HHIIHHHH")  # ports, seq, ack, data offset and flags, window, checksum, urgent pointer
_FLAGS = ["".join(letter for bit, letter in enumerate("FSRPAU") if value >> bit & 1) for value in range(64)]
_NOP, _TIMESTAMP = 1, 8
_USUAL_TIMESTAMP = (
    b"\x01\x01\x08\x0a"  # how every stack begins the options of a data segment: two NOPs, then the timestamp
)
_EXTENSIONS = (0, 43, 60)  # IPv6 headers that may stand before TCP: hop-by-hop, routing, destination options


def advance(number: int, by: int) -> int:
    """`number` moved `by` steps up (or down, when negative) its circle of 2^32."""
    return (number + by) % _CIRCLE


def distance(a: int, b: int) -> int:
    """Return the steps from `a` to `b`, the shorter way round.

    From -2^31 up to 2^31 - 1; negative if `b` lies before `a`.
    """
    return (b - a + _HALF) % _CIRCLE - _HALF


def before(a: int, b: int) -> bool:
    """Return whether `a` is earlier than `b`, as Linux's before() does.

    Of two numbers exactly 2^31 apart, each is before the other.
    """
    return distance(b, a) < 0


class Flow(NamedTuple):
    """The four-tuple of a connection, seen from one end; addresses as text."""

    source: str
    source_port: int
    destination: str
    destination_port: int

    def reversed(self) -> Flow:
        """The same connection seen from the other end."""
        return Flow(self.destination, self.destination_port, self.source, self.source_port)


@dataclass(frozen=True, slots=True)
class Options:
    """The TCP options that are not in every segment.

    Attributes:
        mss: largest segment the sender wants to receive, in bytes (SYN only).
        window_scale: shift of the window field (SYN only).
        sack_permitted: the sender understands selective acknowledgements (SYN only).
        sack: blocks (left edge, right edge) that have arrived out of order.
        unknown: kinds of all other options, in order.
    """

    mss: int | None = None
    window_scale: int | None = None
    sack_permitted: bool = False
    sack: tuple[tuple[int, int], ...] = ()
    unknown: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Segment:
    """One TCP segment with the IP packet that carried it.

    Attributes:
        at_s: when it crossed the wire, in seconds since the arm began.
        source, destination: IP addresses as text.
        seq, ack: sequence and acknowledgement number, 0 up to 2^32 - 1.
        flags: letters of FSRPAU that are set, in this order, e.g. ``SA``, ``FA``.
        window: as it stands in the header, not scaled.
        timestamp: TSval and TSecr; None when the segment carries no timestamp.
        length: bytes of payload.
        raw: the whole IP packet.
        header: where the TCP header begins in `raw`.
    """

    at_s: float
    source: str
    destination: str
    source_port: int
    destination_port: int
    seq: int
    ack: int
    flags: str
    window: int
    timestamp: tuple[int, int] | None
    length: int
    raw: bytes
    header: int

    @property
    def flow(self) -> Flow:
        """The four-tuple, sender first."""
        return Flow(self.source, self.source_port, self.destination, self.destination_port)

    @property
    def payload(self) -> bytes:
        """The bytes it carries."""
        start = self.header + (self.raw[self.header + 12] >> 4) * 4
        return self.raw[start : start + self.length]

    @property
    def options(self) -> Options:
        """The other options; what cannot be read is left out."""
        known: dict[str, object] = {}
        unknown = []
        for kind, body in _options(self.raw, self.header):
            if kind == 2 and len(body) == 2:
                known["mss"] = int.from_bytes(body, "big")
            elif kind == 3 and len(body) == 1:
                known["window_scale"] = body[0]
            elif kind == 4 and not body:
                known["sack_permitted"] = True
            elif kind == 5 and body and len(body) % 8 == 0:
                known["sack"] = tuple(unpack_from("!II", body, at) for at in range(0, len(body), 8))
            elif kind != _TIMESTAMP:
                unknown.append(kind)
        return Options(**known, unknown=tuple(unknown))  # type: ignore[arg-type]

    @property
    def span(self) -> int:
        """The count of sequence numbers that it occupies: RFC 9293's SEG.LEN.

        That is the payload, and one each for SYN and FIN.
        """
        return self.length + ("S" in self.flags) + ("F" in self.flags)

    @property
    def end_seq(self) -> int:
        """The sequence number after its last one."""
        return advance(self.seq, self.span)

    def words(self, names: dict[str, str] | None = None, relative_to: tuple[int, int] | None = None) -> str:
        """One line: ``client:40000 > server:80 FA seq 1234 ack 99 len 0``.

        Args:
            names: address to the name to use for it.
            relative_to: initial sequence numbers of the sender and of the receiver, to be
                subtracted.
        """
        known = names or {}
        own, peer = relative_to or (0, 0)
        ack = f" ack {advance(self.ack, -peer)}" if "A" in self.flags else ""
        stamp = f" ts {self.timestamp[0]} {self.timestamp[1]}" if self.timestamp else ""
        sender, receiver = (
            known.get(address) or (f"[{address}]" if ":" in address else address)
            for address in (self.source, self.destination)
        )
        ends = f"{sender}:{self.source_port} > {receiver}:{self.destination_port}"
        return f"{ends} {self.flags or '-'} seq {advance(self.seq, -own)}{ack} len {self.length}{stamp}"


def parse(packet: bytes, at_s: float, missing: int = 0) -> Segment | None:
    """Read an IP packet that lacks `missing` bytes; None: no TCP, a fragment, cut."""
    try:
        if packet[0] >> 4 == 4:
            header = (packet[0] & 15) * 4
            if packet[9] != socket.IPPROTO_TCP or unpack_from("!H", packet, 6)[0] & 0x3FFF:
                return None
            source, destination = _address(packet[12:16]), _address(packet[16:20])
            end = unpack_from("!H", packet, 2)[0]
        elif packet[0] >> 4 == 6:
            kind, header = packet[6], 40
            while kind in _EXTENSIONS:
                kind, header = packet[header], header + packet[header + 1] * 8 + 8
            if kind != socket.IPPROTO_TCP:
                return None
            source, destination = _address(packet[8:24]), _address(packet[24:40])
            end = unpack_from("!H", packet, 4)[0] + 40
        else:
            return None
        source_port, destination_port, seq, ack, bits, window, _, _ = _TCP.unpack_from(packet, header)
    except (IndexError, ValueError, error):
        return None
    data = header + (bits >> 12) * 4
    if data < header + 20 or not data <= end <= len(packet) + missing:
        return None
    timestamp = None
    if packet[header + 20 : header + 24] == _USUAL_TIMESTAMP and data >= header + 32:
        timestamp = unpack_from("!II", packet, header + 24)
    elif data > header + 20:
        timestamp = next(
            (
                unpack_from("!II", body)
                for kind, body in _options(packet, header)
                if kind == _TIMESTAMP and len(body) == 8
            ),
            None,
        )
    flags = _FLAGS[bits & 63]
    return Segment(
        at_s,
        source,
        destination,
        source_port,
        destination_port,
        seq,
        ack,
        flags,
        window,
        timestamp,
        end - data,
        packet,
        header,
    )


class Match:
    """A predicate on segments, with words for the transcript.

    `match` makes it; ``&`` joins two.

    Attributes:
        words: what it matches, for the transcript.
        nth: of the segments that match, only this one (the first is 1); None: all of them.
    """

    def __init__(self, test: Callable[[Segment], bool], words: str, nth: int | None = None):
        self.test = test
        self.words = words
        self.nth = nth
        self._met = 0

    def __call__(self, segment: Segment) -> bool:
        if not self.test(segment):
            return False
        self._met += 1
        return self.nth is None or self._met == self.nth

    def __and__(self, other: Match | Callable[[Segment], bool]) -> Match:
        """Segments that both match. An `nth` counts what its own side matches."""
        right = other.fresh() if isinstance(other, Match) else other
        left = self.fresh()

        def both(segment: Segment) -> bool:
            first, second = left(segment), right(segment)
            return first and second

        return Match(both, f"{self} and {other if isinstance(other, Match) else other.__name__}")

    def fresh(self) -> Match:
        """The same predicate, counting from the beginning."""
        return Match(self.test, self.words, self.nth)

    def __str__(self) -> str:
        return self.words + (f", number {self.nth}" if self.nth else "")


def match(
    *,
    source: str | None = None,
    destination: str | None = None,
    source_port: int | None = None,
    destination_port: int | None = None,
    flow: Flow | None = None,
    flags: str | None = None,
    having: str | None = None,
    payload: bool | bytes | None = None,
    seq: int | tuple[int, int] | None = None,
    timestamps: bool | None = None,
    nth: int | None = None,
) -> Match:
    """The segments that meet every condition given.

    Args:
        source, destination: addresses as text.
        source_port, destination_port: ports.
        flow: the four-tuple, in this direction only.
        flags: exactly these flags, letters of FSRPAU in any order.
        having: at least these flags.
        payload: True: some payload; False: none; bytes: a payload that contains them.
        seq: this sequence number; or a range (first, last), which may pass 2^32 - 1.
        timestamps: whether it carries a timestamp.
        nth: of these, the nth only; the first is 1.
    """
    conditions: list[tuple[str, Callable[[Segment], bool]]] = []
    if flow is not None:
        source, source_port, destination, destination_port = flow
    if source is not None:
        conditions.append((f"from {source}", lambda s: s.source == source))
    if source_port is not None:
        conditions.append((f"from port {source_port}", lambda s: s.source_port == source_port))
    if destination is not None:
        conditions.append((f"to {destination}", lambda s: s.destination == destination))
    if destination_port is not None:
        conditions.append((f"to port {destination_port}", lambda s: s.destination_port == destination_port))
    if flags is not None:
        exact = "".join(letter for letter in "FSRPAU" if letter in flags)
        conditions.append((f"flags {exact}", lambda s: s.flags == exact))
    if having is not None:
        wanted = set(having)
        conditions.append((f"with {having}", lambda s: wanted.issubset(s.flags)))
    if isinstance(payload, bytes):
        conditions.append((f"containing {payload!r}", lambda s: payload in s.payload))
    elif payload is not None:
        conditions.append(("with payload" if payload else "without payload", lambda s: (s.length > 0) == payload))
    if seq is not None:
        first, last = (seq, seq) if isinstance(seq, int) else seq
        words = f"seq {first}" if first == last else f"seq {first} to {last}"
        conditions.append((words, lambda s: (s.seq - first) % _CIRCLE <= (last - first) % _CIRCLE))
    if timestamps is not None:
        conditions.append(
            ("with timestamp" if timestamps else "without timestamp", lambda s: (s.timestamp is not None) == timestamps)
        )
    tests = [test for _, test in conditions]
    return Match(
        lambda segment: all(test(segment) for test in tests),
        " ".join(words for words, _ in conditions) or "any segment",
        nth,
    )


def without_timestamp(segment: Segment) -> Segment:
    """Return the segment with NOPs for its timestamp option, as a middlebox may."""
    packet = bytearray(segment.raw)
    start = segment.header + 20
    for kind, body in _options(segment.raw, segment.header):
        if kind == _TIMESTAMP:
            at = segment.raw.index(bytes([kind, len(body) + 2]) + body, start)
            packet[at : at + len(body) + 2] = bytes([_NOP]) * (len(body) + 2)
    return replace(segment, raw=with_checksums(bytes(packet)), timestamp=None)


def renumbered(segment: Segment, *, seq: int, ack: int) -> Segment:
    """Return the segment with other numbers, modulo 2^32, and right checksums."""
    packet = bytearray(segment.raw)
    pack_into("!II", packet, segment.header + 4, seq % _CIRCLE, ack % _CIRCLE)
    return replace(segment, raw=with_checksums(bytes(packet)), seq=seq % _CIRCLE, ack=ack % _CIRCLE)


def with_checksums(packet: bytes) -> bytes:
    """The IP packet with its IPv4 header checksum and its TCP checksum made right.

    A packet seen on a virtual link may carry a partial checksum, left for hardware to complete that
    does not exist.
    """
    segment = parse(packet, 0.0)
    if segment is None:
        raise ValueError("not a whole TCP segment")
    fixed = bytearray(packet)
    if packet[0] >> 4 == 4:
        fixed[10:12] = b"\0\0"
        fixed[10:12] = _checksum(bytes(fixed[: segment.header]))
        addresses, end = packet[12:20], unpack_from("!H", packet, 2)[0]
    else:
        addresses, end = packet[8:40], unpack_from("!H", packet, 4)[0] + 40
    where = segment.header + 16
    fixed[where : where + 2] = b"\0\0"
    pseudo = addresses + (socket.IPPROTO_TCP).to_bytes(4, "big") + (end - segment.header).to_bytes(4, "big")
    fixed[where : where + 2] = _checksum(pseudo + bytes(fixed[segment.header : end]))
    return bytes(fixed)


def _checksum(data: bytes) -> bytes:
    """RFC 1071's: the one's complement sum of 16-bit words is the whole number modulo 2^16 - 1."""
    padded = data + b"\0" if len(data) % 2 else data
    return (-int.from_bytes(padded, "big") % 0xFFFF).to_bytes(2, "big")


def _options(packet: bytes, header: int) -> list[tuple[int, bytes]]:
    """Kind and body of each TCP option but padding; stops at one that is malformed."""
    at, end = header + 20, header + (packet[header + 12] >> 4) * 4
    found = []
    while at < end and packet[at] != 0:
        if packet[at] == _NOP:
            at += 1
            continue
        size = packet[at + 1] if at + 1 < end else 0
        if size < 2 or at + size > end:
            break
        found.append((packet[at], packet[at + 2 : at + size]))
        at += size
    return found


@lru_cache(maxsize=4096)
def _address(packed: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)
