"""Lists, counts and ends the TIME_WAIT sockets of a node.

Over inet_diag, without a subprocess.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from twlab.linux import inet_diag
from twlab.linux.syscalls import inside_network_namespace, new_network_namespace

if TYPE_CHECKING:
    from twlab.linux.namespace import Namespace, TcpNamespace

_SOCKET_ID = struct.Struct(">HH16s16s")
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1


class TimeWait(NamedTuple):
    """A socket in TIME_WAIT.

    Attributes:
        family: 4 or 6, of the socket; an IPv6 socket may well hold a connection over IPv4.
        remaining_s: seconds left on the kernel's timer, to the millisecond. Where a reaper ends
            TIME_WAIT early, the kernel's timer still starts from 60 s, and the socket ends before
            the timer does.
        id: the kernel's name for the socket, see `inet_diag.Record`.
    """

    family: int
    local: str
    local_port: int
    remote: str
    remote_port: int
    remaining_s: float
    id: bytes

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values for the evidence."""
        return {
            "local": f"{self.local}:{self.local_port}",
            "remote": f"{self.remote}:{self.remote_port}",
            "remaining_s": self.remaining_s,
        }


class Socket(NamedTuple):
    """A TCP socket in any state.

    `mini`: only the mini-socket is left (TIME_WAIT, or FIN_WAIT2 after close).
    """

    state: str
    local: str
    local_port: int
    remote: str
    remote_port: int
    send_queue: int
    receive_queue: int
    retransmits: int
    mini: bool


def table(node: TcpNamespace) -> list[TimeWait]:
    """List the sockets of `node` in TIME_WAIT proper, in the kernel's order.

    Mini-sockets in FIN_WAIT2 are not among them.
    """
    return [
        TimeWait(_family(record), *_addresses(record), record.expires_ms / 1000, record.id)
        for record in _dump(node, 1 << inet_diag.TIME_WAIT)
    ]


def count(node: TcpNamespace) -> int:
    """Count the sockets of `node` in TIME_WAIT proper."""
    return len(_dump(node, 1 << inet_diag.TIME_WAIT))


def sockets(node: TcpNamespace) -> list[Socket]:
    """List all TCP sockets of `node`."""
    return [
        Socket(
            inet_diag.STATES[record.state],
            *_addresses(record),
            record.send_queue,
            record.receive_queue,
            record.retransmits,
            record.timer == inet_diag.MINI_SOCKET,
        )
        for record in _dump(node, inet_diag.ALL_STATES)
    ]


def state(node: TcpNamespace, local: str, local_port: int, remote: str, remote_port: int) -> str:
    """Return the state of the socket with this four-tuple; empty without one.

    A mini-socket in FIN_WAIT2 is in FIN_WAIT2. It is looked up, where `sockets` has the kernel walk
    its whole table, which is all namespaces'.
    """
    one = inet_diag.socket_id(local, local_port, remote, remote_port)
    with _asking(node) as diag:
        found = inet_diag.look_up(diag, [one])
    states = (inet_diag.STATES[record.state] for record in found)
    return next((each for each in states if each != "LISTEN"), "")  # a listener is met where there is no connection


def left(node: TcpNamespace, entries: Iterable[TimeWait]) -> int:
    """Count those of `entries` that still exist; each is looked up, as in `state`."""
    with _asking(node) as diag:
        return len(inet_diag.look_up(diag, map(_wanted, entries)))


def destroy(node: Namespace, entries: Iterable[TimeWait]) -> int:
    """End TIME_WAIT sockets of `node` at once, as ``ss -K`` does.

    No packet is sent. Returns how many still existed.

    Raises:
        OSError: EOPNOTSUPP where the kernel cannot (see `destroyable`), EPERM without
            CAP_NET_ADMIN.
    """
    wanted = list(map(_wanted, entries))
    with node.inside(), inet_diag.open_socket() as diag:
        errors = inet_diag.destroy(diag, wanted)
    for error in errors:
        if error.errno not in (errno.ENOENT, errno.ESTALE):
            raise error
    return len(wanted) - len(errors)


@cache
def destroyable() -> bool:
    """Return whether this kernel ends TIME_WAIT sockets on request.

    Linux 6.0 and later can (commit af9784d007d8), with INET_DIAG_DESTROY. This is tried, not looked
    up: distributions carry the change in older kernels, and leave the option out of newer ones.
    """
    namespace = new_network_namespace()
    try:
        with inside_network_namespace(namespace), inet_diag.open_socket() as diag:
            _make_one_time_wait()
            found = inet_diag.dump(diag, 1 << inet_diag.TIME_WAIT)
            return bool(found) and not inet_diag.destroy(diag, [(record.family, record.id) for record in found])
    finally:
        os.close(namespace)


def _make_one_time_wait() -> None:
    """Close one connection over the loopback interface, which leaves a TIME_WAIT."""
    with socket.socket() as listener:
        fcntl.ioctl(listener, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with socket.create_connection(listener.getsockname()) as first:
            second, _ = listener.accept()
            first.close()
            second.close()


def _dump(node: TcpNamespace, states: int) -> list[inet_diag.Record]:
    with _asking(node) as diag:
        return inet_diag.dump(diag, states)


@contextmanager
def _asking(node: TcpNamespace) -> Iterator[socket.socket]:
    """Yield the netlink socket that `node` keeps, for one question."""
    try:
        yield node.diag
    except BaseException:  # what is left of the answer would be taken for the next one
        node.close_diag()
        raise


def _wanted(entry: TimeWait) -> tuple[int, bytes]:
    return socket.AF_INET if entry.family == 4 else socket.AF_INET6, entry.id


def _family(record: inet_diag.Record) -> int:
    return 4 if record.family == socket.AF_INET else 6


def _addresses(record: inet_diag.Record) -> tuple[str, int, str, int]:
    local_port, remote_port, local, remote = _SOCKET_ID.unpack_from(record.id)
    return _address(record.family, local), local_port, _address(record.family, remote), remote_port


@lru_cache(maxsize=4096)
def _address(family: int, packed: bytes) -> str:
    return socket.inet_ntop(family, packed[:4] if family == socket.AF_INET else packed).removeprefix("::ffff:")
