"""Holds what was read from a machine.

Sockets, settings, counters, owners. Sockets are columns and not objects, because a busy proxy has
300,000 of them. An address is 16 bytes. IPv4 addresses are in their v4-mapped form, so that an IPv4
connection of an IPv6 socket is in the pool whose ports it shares.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

UNKNOWN = -1
DEFAULT_RANGE = (32768, 60999)  # Linux net/ipv4/af_inet.c, inet_init_net
TIME_WAIT_S = 60.0  # TCP_TIMEWAIT_LEN, include/net/tcp.h
_LONGEST_S = 3600  # a longer TIME_WAIT is an error in the text
_DIGITS, _LARGEST = 25, 2**63 - 1
MAPPED = b"\0" * 10 + b"\xff" * 2


class Row(NamedTuple):
    """One socket as a parser found it.

    Attributes:
        state: number in `twlab.linux.inet_diag.STATES`.
        local, remote: 16 bytes, see `packed`.
        remaining_ms: of a TIME_WAIT timer; UNKNOWN where the text does not say.
        mini: a mini-socket, TIME_WAIT or FIN_WAIT2 after close().
        inode: 0 where not known.
        no_port: 1 with IP_BIND_ADDRESS_NO_PORT, 0 without, UNKNOWN.
        timestamps: 1 in use, 0 not, UNKNOWN.
    """

    state: int
    local: bytes
    local_port: int
    remote: bytes
    remote_port: int
    remaining_ms: int = UNKNOWN
    mini: int = 0
    inode: int = 0
    no_port: int = UNKNOWN
    timestamps: int = UNKNOWN


@dataclass
class Sockets:
    """TCP sockets of one network namespace.

    Each column has an element for each socket. `local` and `remote` have two 64-bit words each.
    """

    state: NDArray[np.uint8]
    local: NDArray[np.uint64]
    local_port: NDArray[np.uint16]
    remote: NDArray[np.uint64]
    remote_port: NDArray[np.uint16]
    remaining_ms: NDArray[np.int32]
    mini: NDArray[np.int8]
    inode: NDArray[np.uint32]
    no_port: NDArray[np.int8]
    timestamps: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.state)

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Sockets:
        """Make columns from `rows`."""
        columns: Any = list(zip(*rows, strict=True)) or [()] * len(Row._fields)
        (state, local, local_port, remote, remote_port, remaining_ms, mini, inode, no_port, timestamps) = columns
        return cls(
            np.array(state, np.uint8),
            words(b"".join(local)),
            np.array(local_port, np.uint16),
            words(b"".join(remote)),
            np.array(remote_port, np.uint16),
            np.array(remaining_ms, np.int32),
            np.array(mini, np.int8),
            np.array(inode, np.uint32),
            np.array(no_port, np.int8),
            np.array(timestamps, np.int8),
        )

    @classmethod
    def joined(cls, parts: Sequence[Sockets]) -> Sockets:
        """Join `parts` into one."""
        parts = [part for part in parts if len(part)]
        if len(parts) < 2:  # no need to copy
            return parts[0] if parts else cls.of([])
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))

    def where(self, chosen: NDArray[Any]) -> Sockets:
        """Pick the sockets that `chosen` gives, a mask or indices."""
        if chosen.dtype == np.bool_ and chosen.all():
            return self
        return Sockets(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


class BalancedServer(NamedTuple):
    """A server of an IP Virtual Server; addresses are packed, with their ports."""

    service: tuple[bytes, int]
    server: tuple[bytes, int]
    forwarding: str
    weight: int
    active: int
    inactive: int


class BalancerEntry(NamedTuple):
    """A connection that an IP Virtual Server remembers."""

    client: tuple[bytes, int]
    service: tuple[bytes, int]
    server: tuple[bytes, int]
    state: str
    remaining_s: int


@dataclass
class Namespace:
    """One network namespace as it was read.

    Attributes:
        name: ``this machine``, ``netns blue``, ``pid 4711 (nginx)``, or the name in the text's
            heading.
        socket_source, setting_source, counter_source: where each was read.
        settings: sysctl name to its text, e.g. ``net.ipv4.tcp_tw_reuse``.
        counters: nstat names without ``TcpExt``, e.g. ``TW``, ``TcpActiveOpens``; a counter absent
            from the text is absent here.
        rates: the same counters per second, if they were read twice.
        owners: inode of a socket to its processes.
        gauges: ``tw`` and ``orphan`` of sockstat, ``conntrack`` and ``conntrack_max``.
        haproxy: rows of HAProxy's `show stat`.
        gateway: NAT entries of conntrack as (outside address, port, remote, port, state, remaining
            s).
        balanced: servers of an IP Virtual Server here.
        balancer_entries: connections that it remembers.
        missing: what could not be read, and the command that would show it.
    """

    name: str = "this machine"
    sockets: Sockets = field(default_factory=lambda: Sockets.of([]))
    socket_source: str = ""
    settings: dict[str, str] = field(default_factory=dict)
    setting_source: str = ""
    counters: dict[str, int] = field(default_factory=dict)
    counter_source: str = ""
    rates: dict[str, float] = field(default_factory=dict)
    owners: dict[int, str] = field(default_factory=dict)
    gauges: dict[str, int] = field(default_factory=dict)
    haproxy: list[dict[str, str]] = field(default_factory=list)
    gateway: list[tuple[bytes, int, bytes, int, str, int]] = field(default_factory=list)
    balanced: list[BalancedServer] = field(default_factory=list)
    balancer_entries: list[BalancerEntry] = field(default_factory=list)
    missing: list[tuple[str, str]] = field(default_factory=list)

    def number(self, name: str) -> int | None:
        """The whole number of a sysctl ``net.ipv4.<name>``; None: not known."""
        try:
            return whole(self.settings.get(f"net.ipv4.{name}", "").split()[0])
        except (IndexError, ValueError):
            return None

    @property
    def kernel(self) -> tuple[int, int]:
        """Linux's version, e.g. (6, 12); a new one where it is not known."""
        found = re.match(r"(\d{1,3})\.(\d{1,3})", self.settings.get("kernel.osrelease", ""))
        return (int(found[1]), int(found[2])) if found else (99, 0)

    @property
    def tw_reuse(self) -> int:
        """tcp_tw_reuse, or Linux's default: 2, for loopback alone, since 4.19."""
        known = self.number("tcp_tw_reuse")
        return known if known is not None else 2 if self.kernel >= (4, 19) else 0

    @property
    def time_wait_s(self) -> float:
        """Length of TIME_WAIT in s.

        Some kernels let it be set: the lab kernel in ms, Alibaba Cloud Linux in s.
        """
        for name, unit_s in (("tcp_timewait_len", 0.001), ("tcp_tw_timeout", 1.0)):
            if 0 < (length_s := (self.number(name) or 0) * unit_s) <= _LONGEST_S:
                return length_s
        return TIME_WAIT_S

    @property
    def port_range(self) -> tuple[int, int]:
        """ip_local_port_range; Linux's default where it is not known."""
        try:
            low, high = map(whole, self.settings.get("net.ipv4.ip_local_port_range", "").split())
        except ValueError:
            return DEFAULT_RANGE
        return (low, high) if 0 < low <= high < 65536 else DEFAULT_RANGE

    @property
    def range_known(self) -> bool:
        """Whether the range was read, and not assumed."""
        return "net.ipv4.ip_local_port_range" in self.settings

    @property
    def reserved(self) -> NDArray[np.bool_]:
        """ip_local_reserved_ports, a flag for each port."""
        flags = np.zeros(65536, np.bool_)
        for part in self.settings.get("net.ipv4.ip_local_reserved_ports", "").replace(" ", ",").split(","):
            first, _, last = part.partition("-")
            if first.isdecimal() and (last or first).isdecimal() and whole(last or first) < 65536:
                flags[whole(first) : whole(last or first) + 1] = True
        return flags


@dataclass
class Snapshot:
    """The result of one look at a machine, or of one set of texts.

    Attributes:
        title: of which machine.
        namespaces: that were read.
        unseen: namespaces that exist and could not be read, in words.
        unread: lines of text that no parser knew, by the name of their file.
        live: read from this machine, not from text.
    """

    title: str
    namespaces: list[Namespace]
    unseen: list[str] = field(default_factory=list)
    unread: dict[str, int] = field(default_factory=dict)
    live: bool = False


def whole(text: str) -> int:
    """Read a whole number, limited to 64 bits.

    A larger one is an error in the text.

    Raises:
        ValueError: it is no number.
    """
    return max(-_LARGEST, min(int(text[:_DIGITS]), _LARGEST))


def words(data: bytes) -> NDArray[np.uint64]:
    """Return addresses of 16 bytes each as rows of two 64-bit words."""
    return np.frombuffer(data, np.uint64).reshape(-1, 2)


@lru_cache(1 << 16)
def packed(text: str) -> bytes:
    """Return the 16 bytes of an address in any form that the tools print.

    ``10.0.0.1``, ``[::ffff:10.0.0.1]``, ``::ffff:10.0.0.1``, ``*``, ``127.0.0.53%lo``.
    """
    text = text.partition("%")[0].strip("[]")
    if text in ("*", ""):
        return bytes(16)
    address = ipaddress.ip_address(text)
    return MAPPED + address.packed if address.version == 4 else address.packed


def shown(data: bytes | NDArray[np.uint64]) -> str:
    """Write an address in its usual form."""
    raw = data if isinstance(data, bytes) else data.tobytes()
    if raw.startswith(MAPPED):
        return str(ipaddress.IPv4Address(raw[12:]))
    return str(ipaddress.IPv6Address(raw))


def endpoint(address: str, port: int) -> str:
    """Write ``10.0.0.1:80`` or ``[fd00::1]:80``."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
