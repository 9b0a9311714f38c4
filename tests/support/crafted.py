"""TCP endpoints crafted by hand, on the far side of a TUN interface: they send what they are told
to, and nothing else.

The kernel under test is the server; no kernel speaks for the clients. Plain sockets and struct,
because this also runs in the lab kernel, where a library costs a second to import.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import time
from dataclasses import dataclass

FIN, SYN, RST, ACK = 1, 2, 4, 16
SERVER, SECOND = "10.0.0.1", "10.0.0.2"  # the server's addresses; every other one in 10/8 is a crafted client's


@dataclass(frozen=True, slots=True)
class Seen:
    """A segment that the kernel sent."""

    source: str
    destination: str
    sport: int
    dport: int
    seq: int
    ack: int
    flags: int
    window: int
    tsval: int | None
    tsecr: int | None
    payload: bytes

    @property
    def kind(self) -> str:
        """``SYN+ACK``, ``ACK``, ``RST+ACK`` ..."""
        return "+".join(
            name for name, bit in (("RST", RST), ("SYN", SYN), ("FIN", FIN), ("ACK", ACK)) if self.flags & bit
        )


class Wire:
    """A TUN interface with the server's two addresses on this side."""

    def __init__(self) -> None:
        self.fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(self.fd, 0x400454CA, struct.pack("16sH22x", b"tun0", 0x1001))  # TUNSETIFF: IFF_TUN | IFF_NO_PI
        with socket.socket() as control:
            for name, address in ((b"tun0", SERVER), (b"tun0:1", SECOND)):
                where = struct.pack("16sHH4s8x", name, socket.AF_INET, 0, socket.inet_aton(address))
                fcntl.ioctl(control, 0x8916, where)  # SIOCSIFADDR
                fcntl.ioctl(
                    control, 0x891C, struct.pack("16sHH4s8x", name, socket.AF_INET, 0, socket.inet_aton("255.0.0.0"))
                )  # SIOCSIFNETMASK
            for name in (b"tun0", b"lo"):
                fcntl.ioctl(control, 0x8914, struct.pack("16sH14x", name, 0x41))  # SIOCSIFFLAGS: IFF_UP | IFF_RUNNING
        self._waiting: list[Seen] = []

    def send(
        self,
        client: Client,
        flags: int,
        *,
        seq: int,
        ack: int,
        tsval: int | None,
        tsecr: int,
        payload: bytes = b"",
        window: int = 64240,
    ) -> None:
        """Send one segment from `client`."""
        options = b"" if tsval is None else struct.pack("!BBBBII", 1, 1, 8, 10, tsval % 2**32, tsecr)
        if flags & SYN:
            options = struct.pack("!BBH", 2, 4, 1460) + options
        source, destination = socket.inet_aton(client.address), socket.inet_aton(client.server)
        offset = (5 + len(options) // 4) << 4
        tcp = (
            struct.pack(
                "!HHIIBBHHH", client.port, client.server_port, seq % 2**32, ack % 2**32, offset, flags, window, 0, 0
            )
            + options
            + payload
        )
        total = _checksum(source + destination + struct.pack("!HH", 6, len(tcp)) + tcp)
        tcp = tcp[:16] + struct.pack("!H", total) + tcp[18:]
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 0, 0x4000, 64, 6, 0, source, destination)
        os.write(self.fd, ip[:10] + struct.pack("!H", _checksum(ip)) + ip[12:] + tcp)

    def receive(self, client: Client, wait_s: float = 0.25) -> Seen | None:
        """The next segment for `client`; None if none comes within `wait_s`."""
        until = time.monotonic() + wait_s
        while True:
            for seen in self._waiting:
                if (seen.destination, seen.dport) == (client.address, client.port):
                    self._waiting.remove(seen)
                    return seen
            left = until - time.monotonic()
            if left <= 0 or not select.select([self.fd], [], [], left)[0]:
                return None
            if seen := _parse(os.read(self.fd, 65536)):
                self._waiting.append(seen)

    def forget(self, client: Client) -> None:
        """Throw away what has arrived for `client`."""
        while self.receive(client, 0):
            pass


class Client:
    """One end of a connection, crafted. `tsval` is the timestamp that it sends; None: no option."""

    def __init__(
        self,
        wire: Wire,
        address: str,
        port: int,
        *,
        tsval: int | None,
        seq: int = 1_000_000,
        server: str = SERVER,
        server_port: int = 7000,
    ):
        self.wire, self.address, self.port, self.server, self.server_port = wire, address, port, server, server_port
        self.tsval, self.seq, self.ack, self.tsecr = tsval, seq, 0, 0

    def syn(self, wait_s: float = 0.25) -> Seen | None:
        """Send a SYN; the answer, if any."""
        self.wire.forget(self)
        self.wire.send(self, SYN, seq=self.seq, ack=0, tsval=self.tsval, tsecr=0)
        answer = self.wire.receive(self, wait_s)
        if answer and answer.kind == "SYN+ACK":
            self.seq += 1
            self._took(answer)
        return answer

    def send(self, flags: int = ACK, payload: bytes = b"") -> None:
        """Send a segment in sequence."""
        self.wire.send(self, flags, seq=self.seq, ack=self.ack, tsval=self.tsval, tsecr=self.tsecr, payload=payload)
        self.seq += len(payload) + bool(flags & FIN)

    def abort(self) -> None:
        """Send RST: a half-open connection is gone at the server."""
        self.wire.send(self, RST, seq=self.seq, ack=0, tsval=self.tsval, tsecr=0)

    def expect(self, kind: str, wait_s: float = 1.0) -> Seen:
        """The next segment from the server, which must be a `kind`; it is taken into account."""
        answer = self.wire.receive(self, wait_s)
        assert answer and answer.kind == kind, f"expected {kind}, got {answer}"
        self._took(answer)
        return answer

    def _took(self, seen: Seen) -> None:
        self.ack = (seen.seq + len(seen.payload) + bool(seen.flags & (SYN | FIN))) % 2**32
        self.tsecr = seen.tsval or 0


def _checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _parse(packet: bytes) -> Seen | None:
    if packet[0] != 0x45 or packet[9] != 6:
        return None
    sport, dport, seq, ack, offset, flags, window = struct.unpack_from("!HHIIBBH", packet, 20)
    end = 20 + (offset >> 4) * 4
    options, tsval, tsecr = packet[40:end], None, None
    while options and options[0]:
        length = 1 if options[0] == 1 else options[1]
        if options[0] == 8:
            tsval, tsecr = struct.unpack_from("!II", options, 2)
        options = options[length:]
    source, destination = socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20])
    return Seen(
        source,
        destination,
        sport,
        dport,
        seq,
        ack,
        flags & 0x3F,
        window,
        tsval,
        tsecr,
        packet[end : struct.unpack_from("!H", packet, 2)[0]],
    )
