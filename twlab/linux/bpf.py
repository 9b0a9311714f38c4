"""Packet filters that the kernel runs for a socket.

A filter saves waking the lab for packets that it does not need. (classic BPF, socket(7))
"""

from __future__ import annotations

import ctypes
import socket
from struct import pack

_SO_ATTACH_FILTER = 26
_LENGTH, _GREATER, _EQUAL, _RETURN = 0x80, 0x25, 0x15, 0x06  # A = packet length; jump if A > k; jump if A = k; return k
_BYTE, _HALF_AT_X, _IP_HEADER = (
    0x30,
    0x48,
    0xB1,
)  # A = byte at k; A = two bytes at X + k; X = length of the IPv4 header at k
_HALF = 0x28  # A = two bytes at k
_ALL = 1 << 18  # more bytes than any packet has

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, k


NOTHING: list[Instruction] = [(_RETURN, 0, 0, 0)]


def first_bytes_of_long(full_up_to: int, bulk: int) -> list[Instruction]:
    """Keep packets of at most `full_up_to` bytes whole.

    Of longer ones, keep the first `bulk` bytes.
    """
    return [(_LENGTH, 0, 0, 0), (_GREATER, 1, 0, full_up_to), (_RETURN, 0, 0, _ALL), (_RETURN, 0, 0, bulk)]


def tcp_to_port(port: int, family: int) -> list[Instruction]:
    """Keep IP packets that carry TCP for `port`; `family` is 4 or 6.

    The packets have no Ethernet header.
    """
    if family == 6:
        protocol, find_port = 6, [(_HALF, 0, 0, 40 + 2)]
    else:
        protocol, find_port = 9, [(_IP_HEADER, 0, 0, 0), (_HALF_AT_X, 0, 0, 2)]
    return [
        (_BYTE, 0, 0, protocol),
        (_EQUAL, 0, len(find_port) + 2, socket.IPPROTO_TCP),
        *find_port,
        (_EQUAL, 0, 1, port),
        (_RETURN, 0, 0, _ALL),
        (_RETURN, 0, 0, 0),
    ]


def sized(least: int, most: int, program: list[Instruction]) -> list[Instruction]:
    """Keep packets of `least` to `most` bytes, of those that `program` keeps."""
    return [(_LENGTH, 0, 0, 0), (_GREATER, 0, 1, least - 1), (_GREATER, 0, 1, most), (_RETURN, 0, 0, 0), *program]


def attach(sock: socket.socket, program: list[Instruction]) -> None:
    """Have `sock` receive only what `program` keeps.

    It replaces the filter before.
    """
    code = ctypes.create_string_buffer(b"".join(pack("=HBBI", *instruction) for instruction in program))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, pack("@HP", len(program), ctypes.addressof(code)))
