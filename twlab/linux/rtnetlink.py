"""Makes links, addresses, routes and neighbours, many in one system call.

The only importer of pyroute2, whose message classes do the encoding. Sending is done here: a batch
goes to the kernel in one `sendmsg`, and only its last message asks for an acknowledgement. The
kernel works through a batch in order, reports every message that fails, and always acknowledges the
last. So one acknowledgement accounts for all.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import socket
import struct
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from twlab.errors import CapabilityError
from twlab.linux import netlink
from twlab.linux.partial_import import without_init

LOOPBACK = 1  # the index of `lo` in every network namespace

_RTM_NEWLINK, _RTM_GETLINK, _RTM_NEWADDR, _RTM_NEWROUTE, _RTM_GETROUTE, _RTM_NEWNEIGH = 16, 18, 20, 24, 26, 28
_NEW, _SET = netlink.CREATE | netlink.EXCL, netlink.CREATE | netlink.REPLACE
_IFF_UP, _IFF_NOARP, _IFF_MULTICAST = 0x1, 0x80, 0x1000
_IFA_F_NODAD, _IFA_F_PERMANENT = 0x02, 0x80
_NUD_PERMANENT = 0x80
_RTM_NEWRULE, _FRA_FWMARK, _FRA_TABLE, _FR_ACT_TO_TBL = 32, 10, 15, 1  # linux/fib_rules.h
_RT_SCOPE_HOST = 254
_RT_TABLE_MAIN, _RTPROT_STATIC, _RTN_UNICAST, _RTN_LOCAL = 254, 4, 1, 2
_IFLA_OPERSTATE, _IF_OPER_UP = 16, 6
_RTA_OIF = 4
_RTMSG_BYTES, _IFINFOMSG_BYTES = 12, 16  # struct rtmsg, struct ifinfomsg
_BATCH = 100  # messages in one sendmsg; each may be answered by an error, and all answers must fit the receive buffer
_NAP_S, _NAPS = 0.0001, 100_000  # at least 10 s in all, for what takes a millisecond
_SIOCETHTOOL, _ETHTOOL_STXCSUM = 0x8946, 0x17


@dataclass(frozen=True)
class Message:
    """A request to the kernel.

    `words` say what it is for; type and flags are those of netlink(7); the body is encoded.
    """

    words: str
    type: int
    flags: int
    body: bytes


@dataclass(frozen=True)
class End:
    """One end of a veth pair: interface name and index, MAC address.

    `namespace` is the namespace in which it is made.
    """

    name: str
    index: int
    mac: str
    namespace: int


# Messages depend on nothing but their arguments, and each arm of a scenario builds the same network
# (its namespaces mostly have the same descriptors): encoded once, kept.


@cache
def veth(one: End, other: End, mtu: int) -> Message:
    """Make a veth pair, each end in its namespace, with its final name and index.

    The ends are down: the kernel cannot make both of them up.

    The ends use no ARP, no neighbour discovery and no multicast. Who is at the other end is entered
    beforehand (`neighbour`), so that a capture holds only the experiment's segments. A frame for an
    address without an entry still travels to the other end, where packet sockets see it and the
    kernel does not answer.
    """
    peer = {"attrs": _naming(other, mtu), **_flags(other)}
    kind = {"attrs": [("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", {"attrs": [("VETH_INFO_PEER", peer)]})]}
    body = _encoded("ifinfmsg", [*_naming(one, mtu), ("IFLA_LINKINFO", kind)], **_flags(one))
    return Message(f"make the link {one.name} - {other.name}", _RTM_NEWLINK, _NEW, body)


@cache
def up(index: int) -> Message:
    """Set interface `index` up."""
    return Message(
        f"set interface {index} up",
        _RTM_NEWLINK,
        0,
        _encoded("ifinfmsg", [], index=index, flags=_IFF_UP, change=_IFF_UP),
    )


@cache
def address(index: int, ip: str, prefix: int) -> Message:
    """Add an address on interface `index`.

    An IPv6 address is usable at once, without duplicate address detection.
    """
    flags = _IFA_F_PERMANENT | (_IFA_F_NODAD if ":" in ip else 0)
    body = _encoded(
        "ifaddrmsg",
        [("IFA_ADDRESS", ip), ("IFA_LOCAL", ip)],
        family=_family(ip),
        prefixlen=prefix,
        index=index,
        flags=flags,
    )
    return Message(f"add address {ip}/{prefix}", _RTM_NEWADDR, _SET, body)


@cache
def route(index: int, destination: str, prefix: int, via: str) -> Message:
    """Add a route out of interface `index`, or replace that to the same destination.

    Prefix 0 is the default route.
    """
    attributes = [("RTA_GATEWAY", via), ("RTA_OIF", index)] + ([("RTA_DST", destination)] if prefix else [])
    fields = {
        "family": _family(destination),
        "dst_len": prefix,
        "table": _RT_TABLE_MAIN,
        "proto": _RTPROT_STATIC,
        "type": _RTN_UNICAST,
    }
    return Message(
        f"add route {destination}/{prefix} via {via}", _RTM_NEWROUTE, _SET, _encoded("rtmsg", attributes, **fields)
    )


@cache
def local_if_marked(mark: int, table: int, family: int) -> tuple[Message, Message]:
    """Have packets with `mark` delivered here, to any destination.

    That takes two requests: a rule that looks such packets up in `table`, and a route there. Each
    family has rules and tables of its own.

    Args:
        family: 4 or 6.
    """
    af = socket.AF_INET6 if family == 6 else socket.AF_INET
    attributes = netlink.attribute(_FRA_FWMARK, struct.pack("=I", mark))
    attributes += netlink.attribute(_FRA_TABLE, struct.pack("=I", table))
    rule = struct.pack("=8BI", af, 0, 0, 0, 0, 0, 0, _FR_ACT_TO_TBL, 0) + attributes
    everywhere = _encoded(
        "rtmsg",
        [("RTA_OIF", LOOPBACK)],
        family=af,
        table=table,
        proto=_RTPROT_STATIC,
        scope=_RT_SCOPE_HOST,
        type=_RTN_LOCAL,
    )
    return (
        Message(f"add an IPv{family} rule for mark {mark}", _RTM_NEWRULE, netlink.CREATE, rule),
        Message(f"add a local IPv{family} route in table {table}", _RTM_NEWROUTE, _SET, everywhere),
    )


@cache
def neighbour(index: int, ip: str, mac: str) -> Message:
    """Enter the MAC address of `ip` on interface `index`, permanently."""
    body = _encoded(
        "ndmsg", [("NDA_DST", ip), ("NDA_LLADDR", mac)], family=_family(ip), ifindex=index, state=_NUD_PERMANENT
    )
    return Message(f"add neighbour {ip}", _RTM_NEWNEIGH, _SET, body)


def carry_out(messages: Iterable[Message]) -> None:
    """Have the kernel do all `messages`, in order, in this thread's network namespace.

    Raises:
        CapabilityError: the kernel refuses one for want of a right or a feature
            (``no-network-rights``, ``no-veth``).
        OSError: it refuses one for another reason; says which message.
    """
    pending = list(messages)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as channel:
        for start in range(0, len(pending), _BATCH):
            _carry_out_batch(channel, pending[start : start + _BATCH])


def wait_ready(indices: Iterable[int], addresses6: Iterable[str]) -> None:
    """Return when these interfaces and IPv6 addresses are in use.

    Two kernel workers act a moment later. The end of a veth pair that came up learns of its
    carrier, and until then drops what it is given (net/core/link_watch.c). An IPv6 address gets its
    local route, even where nothing has to be detected first (net/ipv6/addrconf.c,
    addrconf_dad_work). A SYN lost to either would be retransmitted only after a second.

    Raises:
        OSError: one of them does not, for as long as 10 s.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as channel:
        for index in indices:
            _wait(partial(_is_running, channel, index), f"interface {index} has no carrier")
        for ip in addresses6:
            _wait(partial(_is_local, channel, ip), f"address {ip} is not in use")


def is_running(index: int) -> bool:
    """Return whether interface `index` of this thread's namespace has a carrier."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as channel:
        return _is_running(channel, index)


def way_out(channel: socket.socket, destination: str) -> int:
    """Look up the interface by which the kernel sends to `destination`; 0: no route.

    Args:
        channel: a NETLINK_ROUTE socket of the namespace that is meant.
    """
    kind, answer = _ask(channel, _question(destination))
    if kind != _RTM_NEWROUTE:
        return 0
    return int.from_bytes(_attribute(answer, _RTMSG_BYTES, _RTA_OIF), sys.byteorder)


def fill_in_checksums(names: Iterable[str]) -> None:
    """Have these interfaces compute TCP checksums and cut segments before they send.

    By default veth leaves both to hardware that it does not have. Captures then show wrong
    checksums and segments of 64 KB, and a segment that is taken out of a netfilter queue and sent
    again is dropped by its receiver. Segmentation offload depends on checksum offload and goes with
    it.
    """
    value = ctypes.create_string_buffer(struct.pack("=II", _ETHTOOL_STXCSUM, 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for name in names:
            fcntl.ioctl(control, _SIOCETHTOOL, struct.pack("16sP16x", name.encode(), ctypes.addressof(value)))


def _naming(end: End, mtu: int) -> list[tuple[str, object]]:
    return [("IFLA_IFNAME", end.name), ("IFLA_ADDRESS", end.mac), ("IFLA_MTU", mtu), ("IFLA_NET_NS_FD", end.namespace)]


def _flags(end: End) -> dict[str, int]:
    return {"index": end.index, "flags": _IFF_NOARP, "change": _IFF_NOARP | _IFF_MULTICAST}


def _family(ip: str) -> int:
    return socket.AF_INET6 if ":" in ip else socket.AF_INET


def load() -> None:
    """Load now what encodes messages, so that no process forked from here has to."""
    _kinds()


@cache
def _kinds() -> dict[str, Any]:
    """Return pyroute2's classes of messages, by name.

    They are loaded by who builds a network: a command's own process only looks at topologies.
    """
    with without_init("pyroute2"):
        from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
        from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
        from pyroute2.netlink.rtnl.ndmsg import ndmsg
        from pyroute2.netlink.rtnl.rtmsg import rtmsg
    return {kind.__name__: kind for kind in (ifaddrmsg, ifinfmsg, ndmsg, rtmsg)}


def _encoded(kind: str, attributes: list[tuple[str, Any]], **fields: int) -> bytes:
    message = _kinds()[kind]()
    message["attrs"] = attributes
    for name, value in fields.items():
        message[name] = value
    message.encode()
    return bytes(message.data[netlink.HEADER.size :])


def _header(message: Message, number: int, flags: int = 0) -> bytes:
    return netlink.header(message.type, len(message.body), message.flags | flags, number)


def _carry_out_batch(channel: socket.socket, batch: list[Message]) -> None:
    last = len(batch) - 1
    channel.sendmsg(
        [
            part
            for n, message in enumerate(batch)
            for part in (_header(message, n, netlink.ACK if n == last else 0), message.body)
        ]
    )
    done = False
    while not done:
        for answer in netlink.answers(channel.recv(1 << 16)):
            if answer.type == netlink.ERROR:
                if failure := netlink.error_number(answer.body):
                    raise _failure(batch[answer.number], failure)
                done = answer.number == last


def _failure(message: Message, number: int) -> Exception:
    text = f"cannot {message.words}: {os.strerror(number)}"
    if number == errno.EPERM:
        return CapabilityError(text, "run inside the lab's sandbox, or as root", "no-network-rights")
    if number == errno.EOPNOTSUPP and message.words.startswith("make the link"):
        return CapabilityError(text, "load the kernel's veth driver: modprobe veth", "no-veth")
    return OSError(number, text)


def _wait(condition: Callable[[], bool], fault: str) -> None:
    """Return when `condition()` holds; raise OSError if it never does.

    It naps in between. The lab kernel's clock, and with it the workers that it waits for, stands
    still while a process computes.
    """
    for _ in range(_NAPS):
        if condition():
            return
        select.select([], [], [], _NAP_S)
    raise OSError(errno.ETIMEDOUT, fault)


def _is_running(channel: socket.socket, index: int) -> bool:
    _, answer = _ask(channel, Message("", _RTM_GETLINK, 0, _encoded("ifinfmsg", [], index=index)))
    return _attribute(answer, _IFINFOMSG_BYTES, _IFLA_OPERSTATE) == bytes([_IF_OPER_UP])


def _is_local(channel: socket.socket, ip: str) -> bool:
    kind, answer = _ask(channel, _question(ip))
    return kind == _RTM_NEWROUTE and answer[7] == _RTN_LOCAL


@cache
def _question(ip: str) -> Message:
    """Ask which route leads to `ip`."""
    family = _family(ip)
    body = _encoded("rtmsg", [("RTA_DST", ip)], family=family, dst_len=128 if family == socket.AF_INET6 else 32)
    return Message(f"look up the route to {ip}", _RTM_GETROUTE, 0, body)


def _attribute(answer: bytes, start: int, wanted: int) -> bytes:
    """Return the attribute `wanted` among those from byte `start` on, or no bytes."""
    return next((value for kind, value in netlink.attributes(answer, start) if kind == wanted), b"")


def _ask(channel: socket.socket, question: Message) -> tuple[int, bytes]:
    """Send `question`; return the type and the body of the kernel's answer."""
    channel.sendmsg([_header(question, 0), question.body])
    answer = next(netlink.answers(channel.recv(1 << 16)))
    return answer.type, answer.body
