"""Writes pcapng files: the format that Wireshark reads and that can carry a comment on every
packet. Pure.

Format: IETF draft-ietf-opsawg-pcapng; option codes in its sections 3.5, 4.1, 4.2, 4.3. All fields
little-endian, link type Ethernet, time in nanoseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from struct import pack
from typing import BinaryIO

_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_COMMENT, _HARDWARE, _SYSTEM, _APPLICATION = 1, 2, 3, 4
_NAME, _RESOLUTION, _FLAGS = 2, 9, 2
_ETHERNET = 1
_INBOUND, _OUTBOUND = 1, 2


@dataclass(slots=True)
class Captured:
    """One packet.

    Attributes:
        at_ns: nanoseconds since 1970.
        interface: index into the file's interfaces.
        outbound: the interface sent it; otherwise received it.
        frame: the Ethernet frame, as far as it was kept.
        length: of the whole frame in bytes.
        comment: shown with the packet.
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
        hardware, system, application: on what, and by what, the file was made.
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
    """The block of an interface; `link` is tcpdump.org's LINKTYPE number. Times are in nanoseconds."""
    about = (_option(_NAME, name.encode()) if name else b"") + _option(_RESOLUTION, b"\x09")
    return _block(_INTERFACE, pack("<HHI", link, 0, 0) + _options(about))


def packet(number: int, at_ns: int, frame: bytes, length: int, *, direction: int = 0, comment: str = "") -> bytes:
    """The block of a packet at the interface `number`; `direction` is 1 for inbound, 2 for
    outbound, 0 where it is not known.
    """
    options = pack("<HHI", _FLAGS, 4, direction) if direction else b""
    options += _option(_COMMENT, comment.encode()) if comment else b""
    header = pack("<IIIII", number, at_ns >> 32, at_ns & 0xFFFFFFFF, len(frame), length)
    return _block(_PACKET, header + _padded(frame) + (_options(options) if options else b""))


def _block(kind: int, body: bytes) -> bytes:
    size = len(body) + 12
    return pack("<II", kind, size) + body + pack("<I", size)


def _options(options: bytes) -> bytes:
    return options + bytes(4)  # opt_endofopt


def _option(code: int, value: bytes) -> bytes:
    return pack("<HH", code, len(value)) + _padded(value)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
