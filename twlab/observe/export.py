"""Writes the flows that have late packets as pcapng.

The verdicts become comments of packets. The captures are read a second time.
"""

from __future__ import annotations

import heapq
import os
import re
from collections.abc import Iterator
from itertools import chain, count
from operator import itemgetter
from pathlib import Path
from struct import pack

import numpy as np

from twlab import __version__
from twlab.observe import headers
from twlab.observe.anonymize import Anonymizer
from twlab.observe.captures import open_reader
from twlab.observe.files import DamagedError, Stream
from twlab.observe.findings import Findings, Frame, Late
from twlab.observe.frames import Frames
from twlab.observe.packets import SIX, Array, Packets
from twlab.results.files import cannot_write
from twlab.results.pcapng import interface, packet, section

MOST_FLOWS = 10_000
_NOP = b"\x01"
_KEPT_OPTIONS = {1: (1,), 2: (4,), 3: (3,), 4: (2,), 5: (10, 18, 26, 34), 8: (10,)}  # kind: lengths
_RAW = 101  # LINKTYPE_RAW: packets that begin with their IP header


def write(found: Findings, folder: Path, titles: set[str], names: Anonymizer | None = None) -> list[Path]:
    """Write one file for each class of late packets that was found.

    Args:
        found: findings of captures that can be read a second time.
        titles: those of the files of other findings; one that repeats gets a number.
        names: replaces addresses. Frames are then cut down to their IP and TCP headers, and payload
            is dropped.

    Returns:
        The paths of the files.

    Raises:
        CapabilityError: `folder` takes no files (``cannot-write``).
    """
    made: list[Path] = []
    kinds: dict[str, list[Late]] = {}
    for late in found.late:
        kinds.setdefault(late.kind, []).append(late)
    title = re.sub(r"[^\w.-]+", "-", Path(found.title).name or "capture").strip("-")[:60] if not names else "capture"
    variants = chain([title], (f"{title}-{number}" for number in count(2)))
    title = next(variant for variant in variants if variant not in titles)
    titles.add(title)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for kind, listed in kinds.items():
            path = folder / f"{title}-{kind}.pcapng"
            partial = path.with_suffix(".part")
            with partial.open("wb") as file:
                for block in _blocks(found, listed, names):
                    file.write(block)
            os.replace(partial, path)
            made.append(path)
    except OSError as fault:
        raise cannot_write(folder, fault) from fault
    return made


def _blocks(found: Findings, listed: list[Late], names: Anonymizer | None) -> Iterator[bytes]:
    """Make the blocks of the file with the flows of `listed`."""
    keys = np.array(sorted({late.key for late in listed}), np.uint64)[:MOST_FLOWS]
    comments: dict[Frame, list[str]] = {}
    for late in listed:
        comments.setdefault(late.frame, []).append(comment(late))
        for frame in late.against:
            comments.setdefault(frame, []).append(f"compared with #{late.frame.number}: {late.kind}")
    yield section(f"flows with late packets, by twlab observe {__version__}", application="twlab")
    numbers: dict[int, int] = {}
    files = [_chosen(found, number, keys, comments, names) for number in range(len(found.files))]
    for _, place, made in heapq.merge(*files, key=itemgetter(0)):
        if place not in numbers:
            numbers[place] = len(numbers)
            one = found.interfaces[place]
            yield interface(f"interface-{place + 1}", link=_RAW) if names else interface(one.name, link=one.link)
        yield packet(numbers[place], *made[:3], comment=made[3])


def _chosen(
    found: Findings, number: int, keys: Array, comments: dict[Frame, list[str]], names: Anonymizer | None
) -> Iterator[tuple[int, int, tuple[int, bytes, int, str]]]:
    """Choose the frames of a file that belong to the flows of `keys`.

    Yields:
        Where each stands among those of all files: the latest time so far. The number of its
        interface. Its time, its bytes, its length, and its comment.
    """
    path, latest, tables = found.files[number][0], 0, found.addresses
    for frames, located in packets_of(path, tables):
        packets = located.packets
        chosen = {int(located.frame[row]): row for row in np.nonzero(np.isin(packets.key, keys))[0].tolist()}
        behind = {} if names else {frame: -1 for head in chosen for frame in located.behind.get(head, ())}
        for index, row in sorted({**behind, **chosen}.items()):
            words = "; ".join(comments.get(Frame(path, int(frames.n[index]) + 1), []))
            start, end = int(frames.start[index]), int(frames.start[index] + frames.kept[index])
            if names:
                columns, six = (packets.src, packets.dst), bool(packets.bits[row] & SIX)
                ends = [names.packed(tables.packed(int(column[row]), six)) for column in columns]
                data, length = _rebuilt(frames.data, packets, row, int(located.tcp[row]), end, ends)
            else:
                data, length = bytes(frames.data[start:end]), int(frames.length[index])
            latest = max(latest, int(frames.t[index]))
            yield latest, found.places[number][frames.place[index]], (int(frames.t[index]), data, length, words)


def packets_of(path: str, tables: headers.Tables) -> Iterator[tuple[Frames, headers.Located]]:
    """Read a capture a second time; yield its frames and the TCP packets in them."""
    stream = Stream(path)
    try:
        reader = open_reader(stream)
        for frames in reader:
            yield frames, headers.locate(frames, tables, np.arange(len(reader.interfaces), dtype=np.uint16))
    except DamagedError:
        pass  # the first pass has reported it
    finally:
        stream.close()


def _rebuilt(data: bytearray, packets: Packets, row: int, tcp: int, end: int, ends: list[bytes]) -> tuple[bytes, int]:
    """Make a packet of its IP and TCP headers, with other addresses and without checksums.

    Returns:
        The bytes of the packet; its length with the payload.
    """
    size = max(20, (data[tcp + 12] >> 4) * 4)
    head = data[tcp : min(tcp + size, end)]
    head[16:18] = bytes(len(head[16:18]))
    head[20:] = harmless(head[20:])
    length = size + int(packets.ln[row])
    if packets.bits[row] & SIX:
        ip = pack("!IHBB", 6 << 28, min(length, 65_535), 6, int(packets.ttl[row]))
    else:
        identity, ttl = int(packets.ipid[row]), int(packets.ttl[row])
        ip = pack("!BBHHHBBH", 0x45, 0, min(20 + length, 65_535), identity, 0, ttl, 6, 0)
    ip += b"".join(ends)
    return ip + head, len(ip) + length


def harmless(options: bytes | bytearray) -> bytes:
    """Replace the TCP options that may hold an address or a secret by NOPs.

    Those of RFC 9293, RFC 7323 and RFC 2018 stay, with the lengths that they have there.
    """
    left, at = bytearray(_NOP * len(options)), 0
    while at < len(options) and options[at]:
        nop = options[at] == _NOP[0]
        size = 1 if nop else options[at + 1] if at + 1 < len(options) else 0
        if at + size > len(options) or size < 2 - nop:
            return bytes(left)
        if size in _KEPT_OPTIONS.get(options[at], ()):
            left[at : at + size] = options[at : at + size]
        at += size
    left[at:] = bytes(len(options) - at)
    return bytes(left)


def comment(late: Late) -> str:
    """Return the comment of a late packet."""
    text = f"{late.kind}: {late.rule}"
    if late.against:
        text += f" (compared with #{', #'.join(str(frame.number) for frame in late.against)} of the capture)"
    if late.late_s is not None:
        text += f"; {late.late_s:.6f} s after the close"
    if late.met:
        text += f"; met the next connection: {'harm' if late.harmed else 'no harm'}, {late.why}"
    return f"#{late.frame.number} of the capture: {text}"
