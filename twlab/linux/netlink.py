"""Netlink messages: building requests, and walking the answers.

A message is a header (struct nlmsghdr), a body whose shape its type decides, and attributes (struct
nlattr). One datagram may hold several messages; each starts at a multiple of four bytes.

Source: netlink(7), Linux include/uapi/linux/netlink.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

SOCK_DIAG, NETFILTER = 4, 12  # protocols of a netlink socket, beside socket.NETLINK_ROUTE
ERROR, DONE = 2, 3  # types of an answer: NLMSG_ERROR (with the number 0: an acknowledgement), NLMSG_DONE
REQUEST, ACK = 0x1, 0x4  # flags of a request, NLM_F_...
REPLACE, EXCL, CREATE = 0x100, 0x200, 0x400  # flags of a request that makes something
DUMP = 0x300  # flags of a request that lists everything
NESTED = 0x8000  # flag in an attribute's type: its value is made of attributes

HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence number, port
_ATTRIBUTE = struct.Struct("=HH")  # struct nlattr: length, type
_KIND = 0x3FFF  # an attribute's type without its flags
_NUMBER = struct.Struct("=i")


class Answer(NamedTuple):
    """One message from the kernel.

    Attributes:
        type: `ERROR`, `DONE`, or one of the protocol's own.
        number: the sequence number of the request that it answers.
        body: everything after the header.
    """

    type: int
    number: int
    body: bytes


def header(kind: int, size: int, flags: int = 0, number: int = 0) -> bytes:
    """Build the header of a request of type `kind` whose body has `size` bytes."""
    return HEADER.pack(HEADER.size + size, kind, flags | REQUEST, number, 0)


def message(kind: int, body: bytes, flags: int = 0, number: int = 0) -> bytes:
    """Build a request of type `kind`: header and body."""
    return header(kind, len(body), flags, number) + body


def answers(data: bytes) -> Iterator[Answer]:
    """Walk the messages of one datagram."""
    offset = 0
    while offset < len(data):
        length, kind, _, number, _ = HEADER.unpack_from(data, offset)
        yield Answer(kind, number, data[offset + HEADER.size : offset + length])
        offset += _aligned(max(length, HEADER.size))


def error_number(body: bytes) -> int:
    """Return the errno in an answer of type `ERROR`; 0 acknowledges the request."""
    return -_NUMBER.unpack_from(body)[0]


def attribute(kind: int, value: bytes) -> bytes:
    """Build an attribute, padded to a multiple of four bytes."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def attributes(data: bytes, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """Walk the attributes of `data` from byte `start` on: type and value.

    The type comes without its flags.
    """
    offset = start
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        yield kind & _KIND, data[offset + _ATTRIBUTE.size : offset + length]
        offset += _aligned(max(length, _ATTRIBUTE.size))


def _aligned(length: int) -> int:
    return (length + 3) & ~3
