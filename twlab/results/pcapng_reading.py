"""Reads a capture of twlab back: pcapng blocks into sightings of TCP segments. Pure but for the one
file.

Format: see `twlab.results.pcapng`. Read are little-endian files with nanoseconds that twlab has
written, or that Wireshark's tools have made of one; whatever else a file holds is passed over, as
the format wants it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import error, unpack_from

from twlab.errors import UsageError
from twlab.segment import Segment, parse

_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_COMMENT, _APPLICATION, _NAME, _FLAGS = 1, 4, 2, 2
_ETHERNET_BYTES = 14
_ORIGIN = re.compile(r"t=0 is (\d+)\.(\d{6}) s since 1970")


@dataclass(frozen=True, slots=True)
class Sighting:
    """A TCP segment at one interface.

    Attributes:
        number: of the packet in the file, counted from 1, as Wireshark does.
        interface: its name, ``<node>-<peer>``.
        outbound: the interface sent it; otherwise received it.
        segment: without its bytes; `at_s` is in seconds since the arm began.
        ip_id: the identification in the IPv4 header; 0 for IPv6.
        comment: what the lab did to it.
    """

    number: int
    interface: str
    outbound: bool
    segment: Segment
    ip_id: int
    comment: str


def read_capture(path: Path) -> list[Sighting]:
    """The TCP segments in the file at `path`, in its order. Fragments and other protocols are
    passed over.

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
            options = dict(_options(body, 16))
            origin = _ORIGIN.search(options.get(_COMMENT, b"").decode())
            if not origin or b"twlab" not in options.get(_APPLICATION, b"twlab"):
                raise _foreign(path)
            origin_ns = int(origin[1]) * 1_000_000_000 + int(origin[2]) * 1000
        elif kind == _INTERFACE:
            names.append(_name(body))
        elif kind == _PACKET:
            number += 1
            interface, high, low, kept, length = unpack_from("<IIIII", body)
            packet = body[20 + _ETHERNET_BYTES : 20 + kept]
            segment = parse(packet + bytes(length - kept), ((high << 32 | low) - origin_ns) / 1e9)
            if segment is None:
                continue
            options = dict(_options(body, 20 + kept + -kept % 4))
            outbound = options.get(_FLAGS, b"\1")[0] & 3 == 2
            ip_id = unpack_from("!H", packet, 4)[0] if packet[0] >> 4 == 4 else 0
            yield Sighting(
                number, names[interface], outbound, _without_bytes(segment), ip_id, options.get(_COMMENT, b"").decode()
            )


def _without_bytes(s: Segment) -> Segment:
    """Written out, because `dataclasses.replace` takes as long as all the rest of reading."""
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
    """Type and body of each block."""
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


def _options(body: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    while at + 4 <= len(body):
        code, size = unpack_from("<HH", body, at)
        if code == 0:
            return
        yield code, body[at + 4 : at + 4 + size]
        at += 4 + size + -size % 4


def _name(body: bytes) -> str:
    return dict(_options(body, 8)).get(_NAME, b"").decode()


def _broken(path: Path, why: str) -> UsageError:
    return UsageError(f"{path} cannot be read as a capture: {why}", "run the scenario again", "broken-capture")


def _foreign(path: Path) -> UsageError:
    return UsageError(
        f"{path} is not a capture that twlab has made",
        "name a folder that twlab run has made, e.g. runs/...",
        "foreign-capture",
    )
