"""Lists, counts and deletes the connections that a NAT gateway tracks.

Over ctnetlink, in-process, IPv4 and IPv6, TCP only. It does what conntrack(8) does, on a plain
netlink socket, which belongs to the network namespace in which it was made.

Source: Linux include/uapi/linux/netfilter/nfnetlink_conntrack.h, nf_conntrack_tcp.h,
net/netfilter/nf_conntrack_netlink.c.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from twlab.errors import CapabilityError
from twlab.linux import netlink
from twlab.linux.syscalls import enlarge_receive_buffer
from twlab.segment import Flow

if TYPE_CHECKING:
    from twlab.linux.namespace import NodeNamespace

STATES = (
    *("NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT"),
    *("CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE", "SYN_SENT2", "OFFLOAD"),
)

# NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_...
_NEW, _GET, _DELETE, _GET_STATS = (1 << 8 | kind for kind in (0, 1, 2, 5))
_GENERIC = struct.Struct("=BBH")  # nfgenmsg: family, version, resource
_TUPLE_ORIGINAL, _TUPLE_REPLY, _STATUS, _PROTOINFO, _TIMEOUT, _ID = 1, 2, 3, 4, 7, 12
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_ADDRESSES = {socket.AF_INET: (1, 2), socket.AF_INET6: (3, 4)}  # CTA_IP_...: source, destination
_PROTO_NUM, _PROTO_SOURCE_PORT, _PROTO_DESTINATION_PORT = 1, 2, 3
_PROTOINFO_TCP, _TCP_STATE = 1, 1
_STATS_ENTRIES = 1
_ASSURED, _FIXED_TIMEOUT, _OFFLOAD = 1 << 2, 1 << 10, 1 << 14  # IPS_...
_BUFFER_BYTES = 8 << 20  # of events: some 30,000 of them
_UPDATES = 1 << 1  # the group of events NF_NETLINK_CONNTRACK_UPDATE


class Entry(NamedTuple):
    """A tracked TCP connection.

    Attributes:
        state: conntrack's own idea of it, one of `STATES`: ``TIME_WAIT`` from the last ACK of the
            close on, ``CLOSE`` after a RST; ``OFFLOAD`` while a flow table has it, which tells
            neither state nor time.
        original: the four-tuple of its first segment, as it came to the gateway.
        reply: the four-tuple of an answer, as it comes: its destination is the outside address and
            port.
        remaining_s: whole seconds until it is forgotten, if no segment comes.
        assured: traffic was seen both ways; it is not thrown out when the table is full.
        name: how the kernel knows it: the original four-tuple and an id.
        status: its IPS_... bits.
    """

    state: str
    original: Flow
    reply: Flow
    remaining_s: int
    assured: bool
    name: bytes
    status: int = 0

    @property
    def outside(self) -> tuple[str, int]:
        """Address and port of the connection on the outside."""
        return self.reply.destination, self.reply.destination_port

    @property
    def fixed(self) -> bool:
        """Whether the entry keeps its timer and its place until that ends."""
        return bool(self.status & _FIXED_TIMEOUT)

    def words(self) -> str:
        """Return one line: ``10.0.1.1:40000 > 10.2.1.1:80 as 10.1.1.1:40000 TIME_WAIT``."""
        shown = self.as_dict()
        return f"{shown['inside']} > {shown['to']} as {shown['outside']} {self.state}"

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values for the evidence."""
        return {
            "state": self.state,
            "inside": _place(self.original.source, self.original.source_port),
            "to": _place(self.original.destination, self.original.destination_port),
            "outside": _place(*self.outside),
            "remaining_s": self.remaining_s,
        }


def table(node: NodeNamespace) -> list[Entry]:
    """List the TCP connections that `node` tracks, by inside address and port.

    Raises:
        CapabilityError: the kernel has no ctnetlink (``no-conntrack-netlink``).
    """
    with _channel(node) as channel:
        _send(channel, _GET, netlink.DUMP)
        entries = [
            entry for kind, family, data in _answers(channel) if kind == _NEW and (entry := _parse(family, data))
        ]
    return sorted(entries, key=lambda entry: entry.original)


def count(node: NodeNamespace) -> int:
    """Count the connections that `node` tracks, of any protocol.

    It is the kernel's count, without a list. Raises as `table`.
    """
    with _channel(node) as channel:
        _send(channel, _GET_STATS, 0)
        ((_, _, data),) = _answers(channel, until_done=False)
    return int.from_bytes(dict(netlink.attributes(data)).get(_STATS_ENTRIES, b""), "big")


def delete(node: NodeNamespace, entries: Iterable[Entry]) -> int:
    """Delete these connections from the table of `node`, as ``conntrack -D`` does.

    Returns how many the table still had.

    Raises:
        CapabilityError: as `table`.
        OSError: EPERM without CAP_NET_ADMIN.
    """
    forgotten = 0
    with _channel(node) as channel:
        for entry in entries:
            _send(channel, _DELETE, netlink.ACK, _family(entry), entry.name)
            try:
                list(_answers(channel, until_done=False))
                forgotten += 1
            except FileNotFoundError:  # ENOENT
                continue
    return forgotten


class PortRest:
    """Fixes each entry that comes to TIME_WAIT, so that it is not thrown out.

    Linux hands the port of such an entry on where ports are short. An entry with IPS_FIXED_TIMEOUT
    rests until its timer ends, and its own client may still come back to it. conntrack(8) cannot
    set that bit; the kernel takes it over ctnetlink (net/netfilter/nf_conntrack_netlink.c,
    ctnetlink_change_status). An entry is told by an event, for which events must be on as the
    connection begins (net.netfilter.nf_conntrack_events).

    Args:
        node: the gateway.
        rest_s: for how long, in s; 0: for as long as the gateway's own timer of TIME_WAIT has it.

    Attributes:
        channel: readable when there are events for `serve`.
        rested: how many entries have been fixed.

    Raises:
        CapabilityError: the kernel has no ctnetlink (``no-conntrack-netlink``).
    """

    def __init__(self, node: NodeNamespace, rest_s: int = 0):
        with _channel(node) as channel:
            self.channel = channel.dup()
        self.channel.bind((0, _UPDATES))
        self.channel.setblocking(False)
        enlarge_receive_buffer(self.channel, _BUFFER_BYTES)
        self.rested = 0
        self._rest_s = rest_s
        self._node = node

    def serve(self) -> None:
        """Fix the entries that the events waiting tell of."""
        lost = False
        while True:
            try:
                events = list(netlink.answers(self.channel.recv(1 << 17)))
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                lost = True
                continue
            entries = (_parse(event.body[0], event.body[_GENERIC.size :]) for event in events if event.type == _NEW)
            self._fix_all(entry for entry in entries if entry)
        if lost:
            self._fix_all(table(self._node))

    def close(self) -> None:
        """Stop; entries that are fixed stay so."""
        self.channel.close()

    def _fix_all(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            if entry.state == "TIME_WAIT" and not entry.status & _FIXED_TIMEOUT:
                self._fix(entry)

    def _fix(self, entry: Entry) -> None:
        status = (entry.status | _FIXED_TIMEOUT).to_bytes(4, "big")
        with _channel(self._node) as channel:
            body = entry.name + netlink.attribute(_STATUS, status)  # the kernel finds it by tuple and id
            if self._rest_s:  # which the kernel sets first: it refuses to for a fixed entry
                body += netlink.attribute(_TIMEOUT, self._rest_s.to_bytes(4, "big"))
            _send(channel, _NEW, netlink.ACK, _family(entry), body)
            try:
                list(_answers(channel, until_done=False))
                self.rested += 1
            except FileNotFoundError:  # thrown out before we came
                return


def by_state(entries: Iterable[Entry]) -> dict[str, int]:
    """Count `entries` by state, in the order of a connection's life."""
    counted = Counter(entry.state for entry in entries)
    return {state: counted[state] for state in STATES if counted[state]}


@contextmanager
def _channel(node: NodeNamespace) -> Iterator[socket.socket]:
    """Open a netlink socket to the connection tracking of `node`."""
    try:
        channel = node.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, netlink.NETFILTER)
    except OSError as error:
        raise _cannot(error) from error
    with channel:
        yield channel


def _send(channel: socket.socket, kind: int, flags: int, family: int = socket.AF_UNSPEC, body: bytes = b"") -> None:
    channel.send(netlink.message(kind, _GENERIC.pack(family, 0, 0) + body, flags))


def _answers(channel: socket.socket, until_done: bool = True) -> Iterator[tuple[int, int, bytes]]:
    """Yield type, family and attributes of each message of the answer.

    Raises OSError; CapabilityError where the kernel has no ctnetlink.
    """
    while True:
        for answer in netlink.answers(channel.recv(1 << 17)):
            if answer.type == netlink.DONE:
                return
            if answer.type == netlink.ERROR:
                number = netlink.error_number(answer.body)
                if number in (errno.EINVAL, errno.EOPNOTSUPP):  # the subsystem is not there
                    raise _cannot(OSError(number, os.strerror(number)))
                if number:
                    raise OSError(number, "ctnetlink")
                return
            yield answer.type, answer.body[0], answer.body[_GENERIC.size :]
        if not until_done:
            return


def _parse(family: int, data: bytes) -> Entry | None:
    """Read one connection; None if it is not of TCP."""
    found = dict(netlink.attributes(data))
    original, reply = _flow(family, found[_TUPLE_ORIGINAL]), _flow(family, found[_TUPLE_REPLY])
    if original is None or reply is None:
        return None
    protocol = dict(netlink.attributes(found.get(_PROTOINFO, b"")))
    tcp = dict(netlink.attributes(protocol.get(_PROTOINFO_TCP, b"")))
    status = int.from_bytes(found.get(_STATUS, b""), "big")
    return Entry(
        "OFFLOAD" if status & _OFFLOAD else STATES[tcp.get(_TCP_STATE, b"\0")[0]],
        original,
        reply,
        int.from_bytes(found.get(_TIMEOUT, b""), "big"),
        bool(status & _ASSURED),
        netlink.attribute(_TUPLE_ORIGINAL | netlink.NESTED, found[_TUPLE_ORIGINAL])
        + netlink.attribute(_ID, found[_ID]),
        status,
    )


def _flow(family: int, data: bytes) -> Flow | None:
    parts = dict(netlink.attributes(data))
    addresses, protocol = dict(netlink.attributes(parts[_TUPLE_IP])), dict(netlink.attributes(parts[_TUPLE_PROTO]))
    if protocol.get(_PROTO_NUM) != bytes([socket.IPPROTO_TCP]):
        return None
    source, destination = (
        socket.inet_ntop(family, addresses[kind]) for kind in _ADDRESSES[socket.AddressFamily(family)]
    )
    ports = [int.from_bytes(protocol[kind], "big") for kind in (_PROTO_SOURCE_PORT, _PROTO_DESTINATION_PORT)]
    return Flow(source, ports[0], destination, ports[1])


def _family(entry: Entry) -> int:
    return socket.AF_INET6 if ":" in entry.original.source else socket.AF_INET


def _place(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _cannot(error: OSError) -> CapabilityError:
    message = f"this kernel does not list tracked connections: {error.strerror}"
    return CapabilityError(
        message, "load the kernel's nf_conntrack_netlink: modprobe nf_conntrack_netlink", "no-conntrack-netlink"
    )
