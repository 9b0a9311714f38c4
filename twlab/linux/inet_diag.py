"""Lists, looks up and ends TCP sockets over inet_diag.

It does what `ss` does, in this process. A netlink socket belongs to the network namespace in which
it was made: one made inside a node reads that node's table from anywhere. sock_diag answers while
the request is being sent, so all answers can be read as soon as `send` returns.

A TIME_WAIT socket is a mini-socket: it has no owner and no buffers, and its timer is 3. A
mini-socket can be in the state FIN_WAIT2, too, if the peer has not closed yet. The kernel shows
that state, so a request for TIME_WAIT alone leaves those out.

Source: Linux include/uapi/linux/inet_diag.h, net/ipv4/inet_diag.c.
"""

from __future__ import annotations

import itertools
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple

from twlab.linux import netlink

STATES = (  # include/net/tcp_states.h
    *("", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT"),
    *("CLOSE", "CLOSE_WAIT", "LAST_ACK", "LISTEN", "CLOSING", "NEW_SYN_RECV"),
)
TIME_WAIT, LISTEN, NEW_SYN_RECV = map(STATES.index, ("TIME_WAIT", "LISTEN", "NEW_SYN_RECV"))
ALL_STATES = (1 << len(STATES)) - 1
MINI_SOCKET = 3  # idiag_timer of a socket that is only remembered

_TCPDIAG_GETSOCK, _SOCK_DIAG_BY_FAMILY, _SOCK_DESTROY = 18, 20, 21
_REQUEST_ALL = struct.Struct("=4x48sII")  # inet_diag_req: family and such, socket id, states, minor
_REQUEST_ONE = struct.Struct("=BBBxI48s")  # inet_diag_req_v2: family, protocol, extensions, states, socket id
_MESSAGE = "=I12xBBBB48sIIIII"  # nlmsghdr with its length, then inet_diag_msg; attributes may follow
_SHORTEST = struct.Struct(_MESSAGE)
_SOCKET_ID = struct.Struct(">HH16s16s4x8s")  # inet_diag_sockid: ports, addresses, any interface, cookie
_ANY_COOKIE = b"\xff" * 8  # INET_DIAG_NOCOOKIE
_INFO, _RTO_US = 2, 8  # attribute INET_DIAG_INFO, and where tcpi_rto stands in the struct tcp_info that it holds
# Requests in one send. Their answers, 1 kB each in the kernel's accounting, must fit into the
# receive buffer.
_BATCH = 100


class Record(NamedTuple):
    """One inet_diag_msg.

    `id` is the kernel's inet_diag_sockid as it stands (48 bytes): ports, addresses, interface,
    cookie. It names the socket in later requests. The cookie makes sure that it is still the same
    socket.
    """

    length: int
    family: int
    state: int
    timer: int
    retransmits: int
    id: bytes
    expires_ms: int
    receive_queue: int
    send_queue: int
    uid: int
    inode: int


def open_socket() -> socket.socket:
    """Open a netlink socket to the table of this thread's network namespace.

    The caller closes it. Raises OSError.
    """
    diag = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, netlink.SOCK_DIAG)
    diag.bind((0, 0))
    return diag


def dump(diag: socket.socket, states: int) -> list[Record]:
    """List all sockets in one of `states`, IPv4 and IPv6.

    `states` has a bit for each state. Raises OSError.
    """
    return [record for part in dump_in_parts(diag, states) for record in part]


def dump_in_parts(diag: socket.socket, states: int) -> Iterator[list[Record]]:
    """Yield the same list in parts of some 300 sockets.

    The caller may do other work in between, but not on this netlink socket. Raises OSError.
    """
    # The older of the two requests is the only one that walks the kernel's hash table once for both
    # families.
    body = _REQUEST_ALL.pack(b"", states, 0)
    diag.send(netlink.message(_TCPDIAG_GETSOCK, body, netlink.DUMP))
    done = False
    while not done:
        found, done = _parse(diag.recv(1 << 17))
        yield found


def look_up(diag: socket.socket, sockets: Iterable[tuple[int, bytes]]) -> list[Record]:
    """Return the records of those `sockets` that still exist, in the order given.

    Each of `sockets` is a family and an id. Raises OSError.
    """
    return [
        Record._make(_SHORTEST.unpack_from(data))
        for asked in _ask(diag, _SOCK_DIAG_BY_FAMILY, sockets)
        for data in itertools.islice(_answers(diag), asked)  # each has one: its record, or an error
        if netlink.HEADER.unpack_from(data)[1] == _SOCK_DIAG_BY_FAMILY
    ]


def socket_id(local: str, local_port: int, peer: str, peer_port: int) -> tuple[int, bytes]:
    """Return family and id of the socket that a segment with these addresses meets.

    That is its connection, or else the listener.
    """
    family = socket.AF_INET6 if ":" in local else socket.AF_INET
    return family, _SOCKET_ID.pack(
        local_port, peer_port, socket.inet_pton(family, local), socket.inet_pton(family, peer), _ANY_COOKIE
    )


def retransmission_timeout_s(diag: socket.socket, one: tuple[int, bytes]) -> float | None:
    """Return the RTO of the connection `one`; None if only a mini-socket is left.

    Raises OSError.
    """
    request = _REQUEST_ONE.pack(one[0], socket.IPPROTO_TCP, 1 << (_INFO - 1), ALL_STATES, one[1])
    diag.send(netlink.message(_SOCK_DIAG_BY_FAMILY, request))
    data = diag.recv(1 << 16)
    for kind, value in netlink.attributes(data, _SHORTEST.size):
        if kind == _INFO:
            return struct.unpack_from("=I", value, _RTO_US)[0] / 1e6
    return None


def destroy(diag: socket.socket, sockets: Iterable[tuple[int, bytes]]) -> list[OSError]:
    """End `sockets`, each a family and an id.

    A TIME_WAIT socket ends without a packet; any other is aborted with a RST.

    Returns:
        One error for each that was not ended: ENOENT or ESTALE when it was gone already, EOPNOTSUPP
            when the kernel cannot.
    """
    return [_error(data) for _ in _ask(diag, _SOCK_DESTROY, sockets) for data in _answers(diag)]


def _ask(diag: socket.socket, kind: int, sockets: Iterable[tuple[int, bytes]]) -> Iterator[int]:
    """Ask about some of `sockets` at a time; yield how many, once their answers can be received."""
    waiting = [_REQUEST_ONE.pack(family, socket.IPPROTO_TCP, 0, ALL_STATES, name) for family, name in sockets]
    header = netlink.header(kind, _REQUEST_ONE.size)
    for start in range(0, len(waiting), _BATCH):
        batch = waiting[start : start + _BATCH]
        diag.send(header + header.join(batch))
        yield len(batch)


def _answers(diag: socket.socket) -> Iterator[bytes]:
    """Yield the answers that have come."""
    with suppress(BlockingIOError):
        while True:
            yield diag.recv(4096, socket.MSG_DONTWAIT)


def _parse(data: bytes) -> tuple[list[Record], bool]:
    """Read the records of one datagram of a dump; True if the dump ends with it."""
    length, kind = struct.unpack_from("=IH", data)
    # Mini-sockets answer in records of one length: nearly every datagram is parsed in one go.
    if kind in (_SOCK_DIAG_BY_FAMILY, _TCPDIAG_GETSOCK) and len(data) % length == 0:
        found = list(map(Record._make, _layout(length).iter_unpack(data)))
        if all(record.length == length for record in found):
            return found, False
    found, offset, done = [], 0, False
    while offset < len(data) and not done:
        length, kind = struct.unpack_from("=IH", data, offset)
        if kind == netlink.ERROR:
            raise _error(data[offset:])
        if kind == netlink.DONE:
            done = True
        else:
            found.append(Record._make(_SHORTEST.unpack_from(data, offset)))
        offset += (length + 3) & ~3
    return found, done


@lru_cache
def _layout(length: int) -> struct.Struct:
    return struct.Struct(f"{_MESSAGE}{length - _SHORTEST.size}x")


def _error(data: bytes) -> OSError:
    return OSError(netlink.error_number(data[netlink.HEADER.size :]), "inet_diag")
