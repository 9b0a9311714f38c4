"""Reads the kernel's table of TCP sockets as columns of numpy.

It only asks for dumps, and changes nothing. (Linux include/uapi/linux/inet_diag.h,
net/ipv4/inet_diag.c)
"""

from __future__ import annotations

import errno
import mmap
import socket
import struct

import numpy as np
from numpy.typing import NDArray

from twlab.diagnose.snapshot import MAPPED, UNKNOWN, Sockets
from twlab.linux import inet_diag

_HEADER = struct.Struct("=IHHII")  # nlmsghdr
_REQUEST = struct.Struct("=BBBxI48s")  # inet_diag_req_v2
_REQUEST_ALL = struct.Struct("=4s48xII")  # inet_diag_req
_GETSOCK, _BY_FAMILY, _DUMP, _ERROR, _DONE = 18, 20, 0x301, 2, 3
_AT_FIRST = 1 << 25  # bytes, of address space and not of memory
_PIECE = 1 << 16  # a datagram of a dump has at most 32 KB
_MESSAGE = np.dtype(  # nlmsghdr and inet_diag_msg
    [
        *(("length", "<u4"), ("type", "<u2"), ("skip", "V10")),
        *(("family", "u1"), ("state", "u1"), ("timer", "u1"), ("retries", "u1")),
        *(("local_port", ">u2"), ("remote_port", ">u2"), ("local", "<u4", 4), ("remote", "<u4", 4), ("id", "V12")),
        *(("expires", "<u4"), ("rqueue", "<u4"), ("wqueue", "<u4"), ("uid", "<u4"), ("inode", "<u4")),
    ]
)
_INFO, _SOCKOPT = 2, 22  # attributes: INET_DIAG_INFO, INET_DIAG_SOCKOPT
_TIMESTAMPS_ON = 1  # TCPI_OPT_TIMESTAMPS, include/uapi/linux/tcp.h
_OPTIONS_AT = 5  # tcpi_options in struct tcp_info
_MAPPED_PREFIX = np.uint32(0xFFFF0000)  # the bytes 00 00 ff ff, read as a little-endian word
_SAMPLE = 16  # live sockets of a destination that are asked for their options
_STEP = 0x9E3779B97F4A7C15  # odd, from the golden ratio: spreads addresses over 64 bits
_MIXED = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))  # of splitmix64


def dump() -> Sockets:
    """List all TCP sockets of this thread's network namespace.

    Raises:
        OSError: the kernel has no inet_diag for TCP.
    """
    time_wait = 1 << inet_diag.TIME_WAIT
    with inet_diag.open_socket() as diag:
        # Two dumps, because messages of one length are decoded at once.
        return Sockets.joined(
            [decode(_answers(diag, states)) for states in (time_wait, inet_diag.ALL_STATES & ~time_wait)]
        )


def sample_timestamps(sockets: Sockets) -> None:
    """Ask some connections to each peer whether they use timestamps.

    The answers go into the column `timestamps`.

    Raises:
        OSError: the kernel does not answer.
    """
    live = np.flatnonzero(sockets.state == inet_diag.STATES.index("ESTABLISHED"))
    if not len(live):
        return
    key = peer_key(sockets.remote[live], sockets.remote_port[live])
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    rank = np.arange(len(ordered)) - np.repeat(starts, np.diff(np.append(starts, len(ordered))))
    chosen = live[order[rank < _SAMPLE]][: 200 * _SAMPLE]
    with inet_diag.open_socket() as diag:
        for index in chosen:
            sockets.timestamps[index] = _timestamps(diag, sockets, int(index))


def peer_key(address: NDArray[np.uint64], port: NDArray[np.uint16]) -> NDArray[np.uint64]:
    """Hash each (address, port) to 64 bits.

    Equal peers have equal keys; that two of 100,000 peers share one has a chance of 1 in 10^9.
    """
    key: NDArray[np.uint64] = address[:, 0] * np.uint64(0xC2B2AE3D27D4EB4F)
    key ^= key >> np.uint64(29)
    key += address[:, 1]
    key *= np.uint64(_STEP)
    key ^= key >> np.uint64(32)
    key += port
    # The last steps of splitmix64: keys are combined, and those of near addresses would cancel out.
    for shift, factor in _MIXED:
        key ^= key >> np.uint64(shift)
        key *= np.uint64(factor)
    key ^= key >> np.uint64(31)
    return key


def decode(data: NDArray[np.uint8]) -> Sockets:
    """Decode consecutive netlink messages, each an inet_diag_msg with attributes."""
    parts, offset = [], 0
    while offset + _MESSAGE.itemsize <= len(data):
        length = int(data[offset : offset + 4].view("<u4")[0])
        step = (length + 3) & ~3
        if length < _MESSAGE.itemsize or offset + step > len(data):
            break
        rows = data[offset : offset + (len(data) - offset) // step * step].reshape(-1, step)
        same = rows[:, :4].copy().view("<u4")[:, 0] == length
        count = len(rows) if same.all() else int(np.argmin(same))
        rows = rows[:count]
        parts.append(_columns(rows))
        offset += count * step
    return Sockets.joined(parts)


def _columns(rows: NDArray[np.uint8]) -> Sockets:
    fields = np.ndarray(len(rows), _MESSAGE, rows, strides=(rows.strides[0],))
    mini = fields["timer"] == inet_diag.MINI_SOCKET
    if mini.all():
        return _mini_sockets(fields)
    four = fields["family"] == socket.AF_INET
    return Sockets(
        fields["state"].copy(),
        _addresses(fields["local"], four),
        fields["local_port"].astype(np.uint16),
        _addresses(fields["remote"], four),
        fields["remote_port"].astype(np.uint16),
        np.where(mini, fields["expires"], np.uint32(0xFFFFFFFF)).astype(np.int32),
        mini.astype(np.int8),
        fields["inode"].copy(),
        _no_port(rows),
        np.full(len(rows), UNKNOWN, np.int8),
    )


def _mini_sockets(fields: NDArray[np.void]) -> Sockets:
    """Decode messages that are all mini-sockets.

    Most of their columns hold the same value for all.
    """
    count = len(fields)
    four = fields["family"] == socket.AF_INET
    unknown = np.broadcast_to(np.int8(UNKNOWN), count)
    return Sockets(
        fields["state"].copy(),
        _addresses(fields["local"], four),
        fields["local_port"].astype(np.uint16),
        _addresses(fields["remote"], four),
        fields["remote_port"].astype(np.uint16),
        fields["expires"].astype(np.int32),
        np.broadcast_to(np.int8(1), count),
        np.broadcast_to(np.uint32(0), count),
        unknown,
        unknown,
    )


def _addresses(raw: NDArray[np.uint32], four: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Return two 64-bit words for each address; IPv4 in its v4-mapped form."""
    if not four.any():
        return np.ascontiguousarray(raw).view(np.uint64)
    made = np.zeros((len(raw), 4), np.uint32)
    made[:, 2] = _MAPPED_PREFIX
    made[:, 3] = raw[:, 0]
    if not four.all():
        made[~four] = raw[~four]
    return made.view(np.uint64)


def _no_port(rows: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Read IP_BIND_ADDRESS_NO_PORT of each.

    Attributes stand at one place in messages of one length; that is checked.
    """
    answer = np.full(len(rows), UNKNOWN, np.int8)
    offset, end = _MESSAGE.itemsize, rows.shape[1]
    while offset + 6 <= end:
        length, kind = (int(word) for word in rows[0, offset : offset + 4].copy().view("<u2"))
        if kind == _SOCKOPT:
            same = (rows[:, offset : offset + 4] == rows[0, offset : offset + 4]).all(axis=1)
            answer[same] = rows[same, offset + 5] & 1
            break
        offset += max(4, (length + 3) & ~3)
    return answer


def _answers(diag: socket.socket, states: int) -> NDArray[np.uint8]:
    """Ask for a dump, and return its messages one after the other."""
    # The older of the two requests is the only one that walks the kernel's table once for both
    # families.
    diag.send(_HEADER.pack(_HEADER.size + _REQUEST_ALL.size, _GETSOCK, _DUMP, 1, 0) + _REQUEST_ALL.pack(b"", states, 0))
    buffer, filled = _room(_AT_FIRST), 0
    while True:
        if len(buffer) - filled < _PIECE:
            larger = _room(2 * len(buffer))
            larger[:filled] = buffer[:filled]
            buffer = larger
        got = diag.recv_into(memoryview(buffer)[filled:])
        _, kind, *_ = _HEADER.unpack_from(buffer, filled)
        if kind == _ERROR:
            number = -struct.unpack_from("=i", buffer, filled + _HEADER.size)[0]
            raise OSError(number or errno.EIO, "inet_diag")
        if kind == _DONE:
            return np.frombuffer(buffer, np.uint8, filled)
        filled += got
        if filled and _ended(buffer, filled):
            return np.frombuffer(buffer, np.uint8, filled - _HEADER.size - 4)


def _room(size: int) -> mmap.mmap:
    """Reserve memory that takes up no page before it is written to."""
    return mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _ended(buffer: mmap.mmap, filled: int) -> bool:
    """Tell whether the last message is NLMSG_DONE.

    It has four bytes of payload, and may share a datagram with the last sockets.
    """
    length, kind, *_ = _HEADER.unpack_from(buffer, filled - _HEADER.size - 4)
    return kind == _DONE and length == _HEADER.size + 4


def _timestamps(diag: socket.socket, sockets: Sockets, index: int) -> int:
    local, remote = sockets.local[index].tobytes(), sockets.remote[index].tobytes()
    for family in _families(local):
        cut = slice(12, 16) if family == socket.AF_INET else slice(0, 16)
        ports = struct.pack(">HH", int(sockets.local_port[index]), int(sockets.remote_port[index]))
        name = ports + struct.pack("16s16s4x8s", local[cut], remote[cut], b"\xff" * 8)
        body = _REQUEST.pack(family, socket.IPPROTO_TCP, 1 << (_INFO - 1), inet_diag.ALL_STATES, name)
        diag.send(_HEADER.pack(_HEADER.size + len(body), _BY_FAMILY, 1, 0, 0) + body)
        found = _option(diag.recv(_PIECE))
        if found != UNKNOWN:
            return found
    return UNKNOWN


def _families(local: bytes) -> tuple[int, ...]:
    return (socket.AF_INET, socket.AF_INET6) if local.startswith(MAPPED) else (socket.AF_INET6,)


def _option(data: bytes) -> int:
    """Read from a tcp_info whether timestamps are in use."""
    if _HEADER.unpack_from(data)[1] != _BY_FAMILY:
        return UNKNOWN
    offset = _MESSAGE.itemsize
    while offset + 4 + _OPTIONS_AT < len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if kind == _INFO:
            return data[offset + 4 + _OPTIONS_AT] & _TIMESTAMPS_ON
        offset += max(4, (length + 3) & ~3)
    return UNKNOWN
