"""Builds small captures packet by packet: an exchange that is closed by FIN, and what comes after it."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from struct import pack
from typing import NamedTuple

CLIENT, SERVER = ("10.1.0.1", "fd00::1"), ("10.2.0.1", "fd00::2")
FLAGS = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16}
START_S = 1_700_000_000
MILLISECOND = 0.001


class Sent(NamedTuple):
    """An IP packet on the wire: seconds from the beginning, its headers, its length with payload."""

    t: float
    head: bytes
    length: int

    @property
    def data(self) -> bytes:
        """The packet with its payload, which is all x."""
        return self.head.ljust(self.length, b"x")


def sent(
    forward: bool,
    flags: str,
    seq: int,
    ack: int,
    identity: int,
    t: float,
    size: int = 0,
    *,
    stamp: int | None = None,
    ttl: int = 64,
    window: int = 500,
    port: int = 40_000,
    options: bytes = b"",
    six: bool = False,
) -> Sent:
    """Make a packet of the client, or of the server where `forward` is false."""
    ends = [ip_address(name[six]).packed for name in (CLIENT, SERVER)]
    ports = [port, 80]
    if not forward:
        ends, ports = ends[::-1], ports[::-1]
    options = (b"\x01\x01\x08\x0a" + pack("!II", stamp % (1 << 32), 99) if stamp is not None else b"") + options
    options += b"\x01" * (-len(options) % 4)
    number = sum(FLAGS[letter] for letter in flags)
    tcp = pack("!HHII", *ports, seq % (1 << 32), ack % (1 << 32))
    tcp += pack("!BBHHH", (20 + len(options)) << 2, number, window, 0, 0) + options
    length = len(tcp) + size
    if six:
        ip = pack("!IHBB", 6 << 28, length, 6, ttl)
    else:
        ip = pack("!BBHHHBBH", 0x45, 0, 20 + length, identity % 65_536, 0x4000, ttl, 6, 0)
    head = ip + b"".join(ends) + tcp
    return Sent(t, head, len(head) + size)


def exchange(
    *,
    begin: float = 0.0,
    isn: int = 1000,
    identity: int = 7000,
    stamps: bool = True,
    ttl: int = 64,
    port: int = 40_000,
    six: bool = False,
) -> list[Sent]:
    """Make the packets of one connection that the server closes first, 0.07 s after its SYN.

    The client sends 600 bytes, 0.03 s after its SYN, in the fourth packet.
    """
    steps = [
        (True, "S", isn, 0, identity, 0),
        (False, "SA", 5000, isn + 1, 0, 0),
        (True, "A", isn + 1, 5001, identity + 1, 0),
        (True, "PA", isn + 1, 5001, identity + 2, 600),
        (False, "A", 5001, isn + 601, 300, 0),
        (False, "FA", 5001, isn + 601, 301, 0),
        (True, "FA", isn + 601, 5002, identity + 3, 0),
        (False, "A", 5002, isn + 602, 302, 0),
    ]
    made = []
    for number, (forward, flags, seq, ack, own, size) in enumerate(steps):
        stamp = 2000 + round(begin / MILLISECOND) + 10 * number if stamps else None
        t = begin + number * 0.01
        made.append(sent(forward, flags, seq, ack, own, t, size, stamp=stamp, ttl=ttl, port=port, six=six))
    return made


def again(packet: Sent, t: float, ttl: int | None = None) -> Sent:
    """Deliver a packet once more at `t`, perhaps with another TTL."""
    head = bytearray(packet.head)
    if ttl is not None:
        head[7 if head[0] >> 4 == 6 else 8] = ttl
    return Sent(t, bytes(head), packet.length)


def pcap(path: Path, packets: list[Sent], *, snaplen: int = 0, whole: bool = True) -> str:
    """Write packets as pcap of raw IP, in the order given.

    Args:
        snaplen: bytes that are kept of each; 0: all of them.
        whole: payloads are kept; otherwise the headers only.

    Returns:
        The path, as text.
    """
    data = [pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 101)]
    for packet in packets:
        kept = packet.data if whole else packet.head
        kept = kept[:snaplen] if snaplen else kept
        microseconds = round(packet.t * 1e6)
        times = START_S + microseconds // 10**6, microseconds % 10**6
        data.append(pack("<IIII", *times, len(kept), packet.length) + kept)
    path.write_bytes(b"".join(data))
    return str(path)


def pcapng(
    path: Path,
    packets: list[tuple[Sent, int]],
    *,
    order: str = "<",
    snaplen: int = 0,
    names: tuple[str, ...] = ("", ""),
) -> str:
    """Write packets with the numbers of their interfaces as pcapng of raw IP.

    Args:
        names: of the interfaces; empty: without a name.
    """

    def block(kind: int, body: bytes) -> bytes:
        size = len(body) + 12
        return pack(f"{order}II", kind, size) + body + pack(f"{order}I", size)

    data = block(0x0A0D0D0A, pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1))
    for name in names:
        option = pack(f"{order}HH", 2, len(name)) + name.encode() + bytes(-len(name) % 4) if name else b""
        data += block(1, pack(f"{order}HHI", 101, 0, 0) + option)
    for packet, place in packets:
        kept = packet.data[:snaplen] if snaplen else packet.data
        ticks = START_S * 10**6 + round(packet.t * 1e6)
        head = pack(f"{order}IIIII", place, ticks >> 32, ticks & 0xFFFFFFFF, len(kept), packet.length)
        data += block(6, head + kept + bytes(-len(kept) % 4))
    path.write_bytes(data)
    return str(path)
