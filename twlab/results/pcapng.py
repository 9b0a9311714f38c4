"""Writes and reads pcapng files, the format that Wireshark opens.

Each packet can carry a comment. Format: IETF draft-ietf-opsawg-pcapng; option codes in its
sections 3.5, 4.1, 4.2, 4.3. All fields are little-endian, the link type is Ethernet, times are
nanoseconds since 1970.

`read_capture` reads files that twlab has written, or that Wireshark's tools have made of one. It
passes over blocks and options of other kinds, as the format demands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import Struct, error, pack, unpack_from
from typing import BinaryIO

from twlab.errors import UsageError
from twlab.results.packet_comments import Mark, marks
from twlab.segment import Segment, parse

_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_COMMENT, _HARDWARE, _SYSTEM, _APPLICATION = 1, 2, 3, 4
_NAME, _RESOLUTION, _FLAGS = 2, 9, 2
_ETHERNET, _ETHERNET_BYTES = 1, 14
_INBOUND, _OUTBOUND = 1, 2
_HEADER_BYTES = 160  # more than the headers of a segment take
_LONGEST = 1 << 20  # bytes of a packet: twice the longest of Linux (GSO_MAX_SIZE); a damaged length is far above
_BEFORE = Struct("<IIIIIII")  # a packet's block as far as its frame
_DIRECTION, _SIZE = Struct("<HHI"), Struct("<I")
_PADDING = (b"", bytes(3), bytes(2), bytes(1))  # by the remainder of a length divided by four
_ORIGIN = re.compile(r"t=0 is (\d+)\.(\d{6}) s since 1970")


@dataclass(frozen=True, slots=True)
class Sighting:
    """A TCP segment at one interface, as read.

    Attributes:
        number: of the packet in the file, counted from 1, as Wireshark does.
        interface: its name, ``<node>-<peer>``.
        outbound: the interface sent it; otherwise received it.
        segment: without its bytes; `at_s` is in seconds since the arm began.
        ip_id: the identification in the IPv4 header; 0 for IPv6.
        comment: what the lab did to it, see `twlab.results.packet_comments`.
    """

    number: int
    interface: str
    outbound: bool
    segment: Segment
    ip_id: int
    comment: str

    @property
    def marks(self) -> frozenset[Mark]:
        """The marks for what the lab did to it."""
        return marks(self.comment)


@dataclass(slots=True)
class Captured:
    """A packet to be written.

    Attributes:
        at_ns: nanoseconds since 1970.
        interface: index into the file's interfaces.
        outbound: the interface sent it; otherwise received it.
        frame: the Ethernet frame, as far as it was kept.
        length: of the whole frame in bytes.
        comment: what the lab did to it, see `twlab.results.packet_comments`.
    """

    at_ns: int
    interface: int
    outbound: bool
    frame: bytes
    length: int
    comment: str = ""


def write(
    file: BinaryIO,
    interfaces: Iterable[str],
    packets: Iterable[Captured],
    *,
    hardware: str,
    system: str,
    application: str,
    comment: str = "",
) -> int:
    """Write a whole file, packets in the order given.

    Args:
        interfaces: their names.
        hardware, system, application: the machine and the program that made the file.
        comment: on the file as a whole.

    Returns:
        The number of packets.
    """
    blocks = [section(comment, hardware=hardware, system=system, application=application), *map(interface, interfaces)]
    count = 0
    for each in packets:
        count += 1
        direction = _OUTBOUND if each.outbound else _INBOUND
        blocks.append(
            packet(each.interface, each.at_ns, each.frame, each.length, direction=direction, comment=each.comment)
        )
    # At once: in the lab kernel a call is dear, and a capture has hundreds of thousands of blocks.
    file.write(b"".join(blocks))
    return count


def section(comment: str = "", *, hardware: str = "", system: str = "", application: str = "") -> bytes:
    """The block that begins a file, with what the file says about itself as a whole."""
    named = ((_COMMENT, comment), (_HARDWARE, hardware), (_SYSTEM, system), (_APPLICATION, application))
    about = b"".join(_option(code, text.encode()) for code, text in named if text)
    return _block(_SECTION, pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + _options(about))


def interface(name: str, *, link: int = _ETHERNET) -> bytes:
    """Return the block of an interface whose times are in nanoseconds.

    Args:
        link: tcpdump.org's LINKTYPE number.
    """
    about = (_option(_NAME, name.encode()) if name else b"") + _option(_RESOLUTION, b"\x09")
    return _block(_INTERFACE, pack("<HHI", link, 0, 0) + _options(about))


def packet(number: int, at_ns: int, frame: bytes, length: int, *, direction: int = 0, comment: str = "") -> bytes:
    """Return the block of a packet at the interface `number`.

    Args:
        direction: 1 for inbound, 2 for outbound, 0 if it is not known.
    """
    kept = len(frame)
    options = _DIRECTION.pack(_FLAGS, 4, direction) if direction else b""
    if comment:
        options += _option(_COMMENT, comment.encode())
    if options:
        options = _options(options)
    size = _BEFORE.size + kept + -kept % 4 + len(options) + _SIZE.size
    before = _BEFORE.pack(_PACKET, size, number, at_ns >> 32, at_ns & 0xFFFFFFFF, kept, length)
    return before + frame + _PADDING[kept % 4] + options + _SIZE.pack(size)


def _block(kind: int, body: bytes) -> bytes:
    size = len(body) + 12
    return pack("<II", kind, size) + body + pack("<I", size)


def _options(options: bytes) -> bytes:
    return options + bytes(4)  # opt_endofopt


def _option(code: int, value: bytes) -> bytes:
    return pack("<HH", code, len(value)) + _padded(value)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def read_capture(path: Path) -> list[Sighting]:
    """Return the TCP segments in the file at `path`, in its order.

    Fragments and other protocols are passed over.

    Raises:
        UsageError: there is no such file (``no-capture-file``), it is cut short or damaged
            (``broken-capture``), or it is no capture of twlab (``foreign-capture``).
    """
    try:
        data = path.read_bytes()
    except OSError as fault:
        raise UsageError(
            f"there is no capture at {path}: {fault.strerror}",
            "keep the pcapng files beside result.json",
            "no-capture-file",
        ) from fault
    if data[:4] != _SECTION.to_bytes(4, "big") or (len(data) >= 12 and data[8:12] != b"\x4d\x3c\x2b\x1a"):
        raise _foreign(path)
    try:
        return list(_sightings(path, data))
    except (error, IndexError, UnicodeDecodeError) as fault:
        raise _broken(path, str(fault)) from fault


def _sightings(path: Path, data: bytes) -> Iterator[Sighting]:
    names: list[str] = []
    origin_ns = number = 0
    for kind, body in _blocks(path, data):
        if kind == _SECTION:
            options = dict(_parsed_options(body, 16))
            origin = _ORIGIN.search(options.get(_COMMENT, b"").decode())
            if not origin or b"twlab" not in options.get(_APPLICATION, b"twlab"):
                raise _foreign(path)
            origin_ns = int(origin[1]) * 1_000_000_000 + int(origin[2]) * 1000
        elif kind == _INTERFACE:
            names.append(_name(body))
        elif kind == _PACKET:
            number += 1
            interface, high, low, kept, length = unpack_from("<IIIII", body)
            if not kept <= length <= _LONGEST:
                raise _broken(path, f"packet {number} says that it is {length} bytes long, {kept} of them kept")
            packet = body[20 + _ETHERNET_BYTES : 20 + kept]
            cut = length - kept
            header = min(cut, _HEADER_BYTES)  # a header that was cut reads as zeros
            segment = parse(packet + bytes(header), ((high << 32 | low) - origin_ns) / 1e9, cut - header)
            if segment is None:
                continue
            options = dict(_parsed_options(body, 20 + kept + -kept % 4))
            outbound = options.get(_FLAGS, b"\1")[0] & 3 == _OUTBOUND
            ip_id = unpack_from("!H", packet, 4)[0] if packet[0] >> 4 == 4 else 0
            yield Sighting(
                number, names[interface], outbound, _without_bytes(segment), ip_id, options.get(_COMMENT, b"").decode()
            )


def _without_bytes(s: Segment) -> Segment:
    """Return a segment without its bytes.

    Field by field, because `dataclasses.replace` takes as long as the rest of reading.
    """
    return Segment(
        s.at_s,
        s.source,
        s.destination,
        s.source_port,
        s.destination_port,
        s.seq,
        s.ack,
        s.flags,
        s.window,
        s.timestamp,
        s.length,
        b"",
        s.header,
    )


def _blocks(path: Path, data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and body of each block."""
    at = 0
    while at < len(data):
        if at + 12 > len(data):
            raise _broken(path, f"it ends in the middle of a block, at byte {at}")
        kind, size = unpack_from("<II", data, at)
        if size < 12 or size % 4 or at + size > len(data) or data[at + size - 4 : at + size] != data[at + 4 : at + 8]:
            raise _broken(
                path,
                f"it ends in the middle of a block, at byte {at}"
                if at + size > len(data)
                else f"the block at byte {at} is damaged",
            )
        yield kind, data[at + 8 : at + size - 4]
        at += size


def _parsed_options(body: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    while at + 4 <= len(body):
        code, size = unpack_from("<HH", body, at)
        if code == 0:
            return
        yield code, body[at + 4 : at + 4 + size]
        at += 4 + size + -size % 4


def _name(body: bytes) -> str:
    return dict(_parsed_options(body, 8)).get(_NAME, b"").decode()


def _broken(path: Path, why: str) -> UsageError:
    return UsageError(f"{path} cannot be read as a capture: {why}", "run the scenario again", "broken-capture")


def _foreign(path: Path) -> UsageError:
    return UsageError(
        f"{path} is not a capture that twlab has made",
        "name a folder that twlab run has made, e.g. runs/...",
        "foreign-capture",
    )
