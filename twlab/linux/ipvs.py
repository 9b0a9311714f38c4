"""Configures the kernel's load balancer, IPVS; lists its connections.

IPVS is IP Virtual Server. Over generic netlink, in-process, as ipvsadm(8) does it; IPv4 and IPv6,
TCP only. All functions work in this thread's network namespace.

pyroute2 has an encoder for these messages, too. It is not used: its service for an IPv6 address
lacks the netmask, without which the kernel answers EINVAL, and it loads asyncio, which the lab
kernel pays for in each boot.

Source: Linux include/uapi/linux/ip_vs.h, net/netfilter/ipvs/ip_vs_ctl.c; genetlink: Linux
include/uapi/linux/genetlink.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from twlab import lab_kernel
from twlab.errors import CapabilityError
from twlab.linux import netlink, syscalls

FORWARDING = {"masquerade": 0, "tunnel": 2, "direct": 3}  # IP_VS_CONN_F_...

_CONNECTIONS = "/proc/thread-self/net/ip_vs_conn"
_GENERIC = 16  # NETLINK_GENERIC
_CONTROLLER, _GET_FAMILY, _FAMILY_ID, _FAMILY_NAME = 16, 3, 1, 2  # GENL_ID_CTRL, CTRL_CMD_..., CTRL_ATTR_...
_NEW_SERVICE, _NEW_SERVER, _SET_SERVER, _DELETE_SERVER = 1, 5, 6, 7  # IPVS_CMD_...
_SERVICE, _SERVER = 1, 2  # IPVS_CMD_ATTR_...
_HEADER = struct.Struct("=BBH")  # genlmsghdr: command, version, reserved
_PERSISTENT = 1  # IP_VS_SVC_F_PERSISTENT
_ALL_FLAGS = 0xFFFFFFFF


class Service(NamedTuple):
    """A virtual TCP service: the address and port that clients connect to."""

    address: str
    port: int


class Entry(NamedTuple):
    """A connection that the balancer remembers.

    Attributes:
        client, client_port: where it comes from; port 0: a template of a persistent service.
        server: the address of the server that it was given to.
        state: the balancer's own idea of it: ``ESTABLISHED``, ``FIN_WAIT``, ``TIME_WAIT``,
            ``CLOSE`` and others.
        remaining_s: whole seconds until it is forgotten, if no segment comes.
    """

    client: str
    client_port: int
    server: str
    state: str
    remaining_s: int


def add_service(service: Service, scheduler: str, persistent_s: int = 0) -> None:
    """Have the kernel balance connections to `service`; it has no servers yet.

    Args:
        scheduler: ``rr``, ``wrr``, ``lc``, ``sh``, ``mh``, ...
        persistent_s: how long a client address stays with its server; 0: it does not.

    Raises:
        CapabilityError: the kernel has no IP Virtual Server, or not this scheduler, or takes no
            orders here (``no-ipvs``).
        OSError: it refuses.
    """
    flags = struct.pack("=II", _PERSISTENT if persistent_s else 0, _ALL_FLAGS)
    every_bit = struct.pack("=I", 128 if ":" in service.address else 0xFFFFFFFF)  # a prefix length, a mask
    with _channel() as (channel, family):
        try:
            _order(channel, family, _NEW_SERVICE, _service(service) + b"".join([
                netlink.attribute(6, scheduler.encode() + b"\0"), netlink.attribute(7, flags),
                netlink.attribute(8, struct.pack("=I", persistent_s)), netlink.attribute(9, every_bit),
            ]))  # fmt: skip
        except FileNotFoundError as error:
            raise _cannot(f"this kernel's IP Virtual Server has no scheduler {scheduler}") from error


def set_server(service: Service, server: str, weight: int, forwarding: str = "masquerade", *, new: bool) -> None:
    """Add a server to `service`, or change its weight.

    With weight 0 it gets no new connections.

    Args:
        server: its address; the port is the service's.
        forwarding: one of `FORWARDING`.
        new: it is not there yet.

    Raises as `add_service`.
    """
    body = b"".join(
        netlink.attribute(kind, struct.pack("=I", value))
        for kind, value in ((3, FORWARDING[forwarding]), (4, weight), (5, 0), (6, 0))
    )
    with _channel() as (channel, family):
        _order(channel, family, _NEW_SERVER if new else _SET_SERVER, _service(service), _server(service, server) + body)


def remove_server(service: Service, server: str) -> None:
    """Remove a server from `service`; raises as `add_service`."""
    with _channel() as (channel, family):
        _order(channel, family, _DELETE_SERVER, _service(service), _server(service, server))


def connections() -> list[Entry]:
    """List the connections that the balancer remembers, by client and port.

    Raises:
        CapabilityError: the kernel has no IP Virtual Server (``no-ipvs``).
    """
    try:
        lines = syscalls.read_file(_CONNECTIONS).decode().splitlines()[1:]
    except FileNotFoundError as error:
        raise _cannot("this kernel has no IP Virtual Server") from error
    return sorted(_parse(line.split()) for line in lines if line.startswith("TCP"))


def _parse(words: list[str]) -> Entry:
    """Read ``TCP 0A000101 9C40 0A090001 0050 0A020101 0050 ESTABLISHED 899``."""
    _, client, port, _, _, server, _, state, remaining = words[:9]
    return Entry(_address(client), int(port, 16), _address(server), state, int(remaining))


def _address(text: str) -> str:
    """Read ``0A000101`` or ``[fd00:0000:...]``."""
    return str(IPv6Address(text.strip("[]"))) if ":" in text else str(ip_address(bytes.fromhex(text)))


def _service(service: Service) -> bytes:
    family = socket.AF_INET6 if ":" in service.address else socket.AF_INET
    return b"".join(
        [
            netlink.attribute(1, struct.pack("=H", family)),
            netlink.attribute(2, struct.pack("=H", socket.IPPROTO_TCP)),
            netlink.attribute(3, socket.inet_pton(family, service.address)),
            netlink.attribute(4, struct.pack("!H", service.port)),
        ]
    )


def _server(service: Service, server: str) -> bytes:
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    return b"".join(
        [
            netlink.attribute(1, socket.inet_pton(family, server)),
            netlink.attribute(2, struct.pack("!H", service.port)),
            netlink.attribute(11, struct.pack("=H", family)),
        ]
    )


@contextmanager
def _channel() -> Iterator[tuple[socket.socket, int]]:
    """Open a generic netlink socket; yield it with the number of the kernel's IPVS family."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _GENERIC) as channel:
        question = _HEADER.pack(_GET_FAMILY, 1, 0) + netlink.attribute(_FAMILY_NAME, b"IPVS\0")
        channel.send(netlink.message(_CONTROLLER, question))
        answer = next(netlink.answers(channel.recv(1 << 16)))
        if answer.type == netlink.ERROR:
            raise _cannot("this kernel has no IP Virtual Server")
        found = dict(netlink.attributes(answer.body, _HEADER.size))
        yield channel, int.from_bytes(found[_FAMILY_ID], "little")


def _order(channel: socket.socket, family: int, command: int, service: bytes, server: bytes = b"") -> None:
    """Send a command; return when the kernel has carried it out."""
    body = netlink.attribute(_SERVICE | netlink.NESTED, service)
    body += netlink.attribute(_SERVER | netlink.NESTED, server) if server else b""
    channel.send(netlink.message(family, _HEADER.pack(command, 1, 0) + body, netlink.ACK))
    number = netlink.error_number(next(netlink.answers(channel.recv(1 << 16))).body)
    if number == errno.EPERM:  # only the machine's own root may, not that of a user namespace (GENL_ADMIN_PERM)
        raise _cannot("IP Virtual Server takes orders of the machine's own root only")
    if number:
        raise OSError(number, f"IP Virtual Server: {os.strerror(number)}")


def _cannot(message: str) -> CapabilityError:
    return CapabilityError(message, lab_kernel.remedy(), "no-ipvs")
