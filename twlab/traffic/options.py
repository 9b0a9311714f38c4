"""Socket options that Python has no name or no short form for."""

from __future__ import annotations

import socket
import struct

# include/uapi/linux/in.h; Python names the first from 3.12 on.
IP_BIND_ADDRESS_NO_PORT, IP_LOCAL_PORT_RANGE = 24, 51
_IP_TRANSPARENT, _IPV6_TRANSPARENT = 19, 75  # in.h, in6.h
_ON_FOR_0_S = struct.pack("ii", 1, 0)  # struct linger, include/linux/socket.h


def abort_on_close(sock: socket.SocketType) -> None:
    """Set SO_LINGER to 0 s: close() sends RST and leaves no TIME_WAIT (socket(7))."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ON_FOR_0_S)


def bind_address_only(sock: socket.SocketType) -> None:
    """Set IP_BIND_ADDRESS_NO_PORT: bind() takes no port, connect() does (ip(7))."""
    sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)


def allow_foreign_addresses(sock: socket.SocketType) -> None:
    """Set IP_TRANSPARENT: the socket may have foreign addresses (ip(7))."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_TRANSPARENT, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_TRANSPARENT, 1)


def limit_ports(sock: socket.SocketType, low: int, high: int) -> None:
    """Set IP_LOCAL_PORT_RANGE: the kernel takes a port from `low` to `high` (ip(7)).

    From Linux 6.3 on.
    """
    sock.setsockopt(socket.IPPROTO_IP, IP_LOCAL_PORT_RANGE, struct.pack("=I", high << 16 | low))
