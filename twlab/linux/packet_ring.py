"""Captures packets through a ring in memory shared with the kernel (TPACKET_V3).

The packet socket sees every interface of one network namespace, both directions, each packet once.
Unlike a socket's receive buffer, the ring may have any size without a privilege, and taking a
packet from it costs no system call.

How it works. The ring is a row of blocks. The kernel fills one after the other with packets of any
size. It passes a full block to this process, which copies its bytes and passes it back. The block
being filled stays the kernel's, but its number of packets can be read at any time; at the end, so
can they. Nothing waits for a block to become full, and no timer runs.

Source: packet(7), Linux Documentation/networking/packet_mmap.rst.
"""

from __future__ import annotations

import mmap
import socket
from collections.abc import Iterator
from struct import Struct, pack
from typing import TYPE_CHECKING, NamedTuple

from twlab.errors import CapabilityError
from twlab.linux import bpf

if TYPE_CHECKING:
    from twlab.linux.namespace import NodeNamespace

_ETH_P_ALL = 0x0003
_SOL_PACKET, _RX_RING, _STATISTICS, _VERSION, _TPACKET_V3 = 263, 5, 6, 10, 2  # linux/if_packet.h
_BLOCK_BYTES = 1 << 18
_RETIRE_MS = 60_000  # after which the kernel passes on a block that is not full; 0 does not mean never
_STATUS, _COUNT, _FIRST = 8, 12, 16  # offsets in struct tpacket_block_desc
# struct tpacket3_hdr: next, seconds, nanoseconds, kept, length, status, mac, net. Behind it, at
# byte 48, struct sockaddr_ll: family, protocol, interface index, hardware type, packet type.
_HEADER = Struct("=IIIII4xH26xi2xB")
_OUTGOING = 4
_WORD = Struct("=I")


class Taken(NamedTuple):
    """One packet as an interface saw it.

    `frame` holds the bytes kept, `length` is the packet's whole length.
    """

    at_ns: int
    interface: int
    outbound: bool
    frame: bytes
    length: int


class Ring:
    """The packets that the interfaces of `node` send and receive, from now on.

    Args:
        full_up_to: bytes; frames up to this length are kept whole.
        bulk: bytes kept of longer ones.
        size: bytes of the ring, a multiple of 256 KiB. A packet that comes while it is full is
            lost, and counted.

    Attributes:
        lost: packets that found the ring full; complete once it is closed.

    Raises:
        CapabilityError: there is no memory for the ring, or no right to open packet sockets
            (``no-capture``).
    """

    def __init__(self, node: NodeNamespace, full_up_to: int, bulk: int, size: int):
        self.lost = 0
        self._blocks = size // _BLOCK_BYTES
        self._next = 0
        self._passed = 0
        self._copies: list[bytes] = []
        try:
            self._socket = node.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
            bpf.attach(self._socket, bpf.first_bytes_of_long(full_up_to, bulk))
            self._socket.setsockopt(_SOL_PACKET, _VERSION, _TPACKET_V3)
            frame_bytes = 1 << 11
            request = (_BLOCK_BYTES, self._blocks, frame_bytes, size // frame_bytes, _RETIRE_MS, 0, 0)
            self._socket.setsockopt(_SOL_PACKET, _RX_RING, pack("=7I", *request))
            self._memory = mmap.mmap(self._socket.fileno(), size)
            # No child of ours has a use for it, and user-mode Linux miscounts its pages when it is
            # copied: the kernel panics before long.
            self._memory.madvise(mmap.MADV_DONTFORK)
        except OSError as error:
            message = f"cannot capture at {node.name}: {error.strerror}"
            raise CapabilityError(
                message, "free some memory; outside twlab's sandbox, run as root", "no-capture"
            ) from error

    def fileno(self) -> int:
        """Readable when a block is full."""
        return self._socket.fileno()

    @property
    def position(self) -> int:
        """Number of packets seen."""
        waiting, block = 0, self._next
        for _ in range(self._blocks):
            waiting += self._word(block, _COUNT)
            if not self._word(block, _STATUS):
                break
            block = (block + 1) % self._blocks
        return self._passed + waiting

    def take(self) -> None:
        """Copy full blocks out of the ring, and pass them back to the kernel."""
        while self._word(self._next, _STATUS):
            self._copy(self._next)
            # The count of a block that the kernel has not begun to fill again must not be read as
            # packets.
            self._write(self._next, _COUNT, 0)
            self._write(self._next, _STATUS, 0)
            self._next = (self._next + 1) % self._blocks

    def dropped(self) -> int:
        """Return how many packets have found the ring full."""
        self.lost += _WORD.unpack_from(self._socket.getsockopt(_SOL_PACKET, _STATISTICS, 12), 4)[
            0
        ]  # reading sets it to 0
        return self.lost

    def seen(self) -> list[Taken]:
        """List every packet seen, in order; more may come.

        A packet that is being written at this moment may be garbled.
        """
        self.take()
        return [packet for block in [*self._copies, self._block(self._next)] for packet in _packets(block)]

    def close(self) -> Iterator[Taken]:
        """Stop, and return every packet seen, in order."""
        bpf.attach(self._socket, bpf.NOTHING)
        self.take()
        self._copy(self._next)
        self.dropped()
        self._memory.close()
        self._socket.close()
        return (packet for block in self._copies for packet in _packets(block))

    def _copy(self, block: int) -> None:
        self._passed += self._word(block, _COUNT)
        self._copies.append(self._block(block))

    def _block(self, block: int) -> bytes:
        start = block * _BLOCK_BYTES
        return self._memory[start : start + self._word(block, 20)]

    def _word(self, block: int, offset: int) -> int:
        return _WORD.unpack_from(self._memory, block * _BLOCK_BYTES + offset)[0]

    def _write(self, block: int, offset: int, value: int) -> None:
        _WORD.pack_into(self._memory, block * _BLOCK_BYTES + offset, value)


def _packets(block: bytes) -> Iterator[Taken]:
    at = _WORD.unpack_from(block, _FIRST)[0]
    for _ in range(_WORD.unpack_from(block, _COUNT)[0]):
        step, seconds, nanoseconds, kept, length, mac, index, kind = _HEADER.unpack_from(block, at)
        yield Taken(
            seconds * 1_000_000_000 + nanoseconds, index, kind == _OUTGOING, block[at + mac : at + mac + kept], length
        )
        at += step
