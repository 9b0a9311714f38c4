"""Reads the kernel's counters of a node: netstat, snmp, conntrack.

Names are those of nstat(8). ``TcpExt`` is left off, because its counters are cited without it:
``PAWSEstab``, ``TWKilled``, ``ListenDrops``. Others keep their prefix: ``TcpOutRsts``,
``IpExtInOctets``, ``Ip6InReceives``. ``ConntrackInvalid`` is what ``conntrack -S`` calls
``invalid``.

Source: /proc/net/{netstat,snmp,snmp6,stat/nf_conntrack} (Linux net/ipv4/proc.c,
net/netfilter/nf_conntrack_standalone.c).
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from twlab.linux import syscalls

if TYPE_CHECKING:
    from twlab.linux.namespace import Namespace

_FOLDER = "/proc/thread-self/net"
_CONNTRACK = {
    "invalid",
    "insert_failed",
    "drop",
    "early_drop",
    "clashres",
    "search_restart",
}  # the rest are gauges, or always 0

# Counters that this kernel may lack because it is older or newer; they count 0 there. Each has
# another beside it that counts instead.
_NOT_EVERYWHERE = {
    "PAWSPassive",  # of tcp_tw_recycle: up to Linux 4.11, in the lab kernel, and where it is emulated
    "PAWSTimewait",  # since Linux 6.16; PAWSEstab before
    "PAWSOldAck",  # of newer kernels; PAWSEstab before
}

_emulated: WeakKeyDictionary[Namespace, dict[str, int]] = WeakKeyDictionary()


def read(node: Namespace) -> dict[str, int]:
    """Read all counters of `node`, by name.

    Events that an emulation has counted there (`count`) are included.
    """
    with node.inside():
        counters = _pairs_of_lines("netstat") | _pairs_of_lines("snmp") | _lines("snmp6") | _conntrack()
    for name, value in _emulated.get(node, {}).items():
        counters[name] = counters.get(name, 0) + value
    return counters


def delta(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """Return the counters that have changed, and by how much; a new one began at 0."""
    return {name: value - before.get(name, 0) for name, value in after.items() if value != before.get(name, 0)}


def count(node: Namespace, name: str) -> None:
    """Count an event on `node` that an emulation caused in the kernel's place.

    `read` adds it to the kernel's counter.
    """
    counted = _emulated.setdefault(node, {})
    counted[name] = counted.get(name, 0) + 1


def may_be_missing(name: str) -> bool:
    """Return whether a kernel may lack the counter `name`.

    It may where the counter is of another version, or of connection tracking.
    """
    return name in _NOT_EVERYWHERE or name.startswith("Conntrack")


def _text(name: str, at_once: bool = True) -> str:
    try:
        return syscalls.read_file(f"{_FOLDER}/{name}", at_once).decode()
    except OSError:  # a kernel without IPv6, or without conntrack
        return ""


def _pairs_of_lines(name: str) -> dict[str, int]:
    """``Tcp: RtoMin OutRsts`` above ``Tcp: 200 3``."""
    lines = _text(name).splitlines()
    counters: dict[str, int] = {}
    for heads, values in zip(lines[::2], lines[1::2], strict=True):
        group = heads.partition(":")[0].removeprefix("TcpExt")
        counters |= {
            group + head: int(value) for head, value in zip(heads.split()[1:], values.split()[1:], strict=True)
        }
    return counters


def _lines(name: str) -> dict[str, int]:
    """``Ip6InReceives 12`` on each line."""
    return {head: int(value) for head, value in (line.split() for line in _text(name).splitlines())}


def _conntrack() -> dict[str, int]:
    """A line of names, then one of hexadecimal values for each processor."""
    names, *processors = [line.split() for line in _text("stat/nf_conntrack", at_once=False).splitlines()] or [[]]
    columns = zip(names, zip(*processors, strict=True), strict=True)
    return {
        "Conntrack" + name.title().replace("_", ""): sum(int(value, 16) for value in values)
        for name, values in columns
        if name in _CONNTRACK
    }
