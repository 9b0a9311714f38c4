"""Reads this machine: sockets, settings, counters, owners, by namespace.

It changes nothing: it reads /proc, and asks inet_diag for dumps. It does not ask where a request
could load a kernel module.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from twlab.diagnose import columns, owners, permission, places
from twlab.diagnose.places import Place
from twlab.diagnose.snapshot import Namespace, Snapshot, Sockets
from twlab.diagnose.texts import conntrack, counters, ipvs, proc_net_tcp
from twlab.diagnose.texts.gathered import Gathered
from twlab.linux.syscalls import read_file
from twlab.loop import monotonic_s

_SETTINGS = (
    *(
        "ip_local_port_range",
        "ip_local_reserved_ports",
        "ip_local_port_step_width",
        "tcp_tw_reuse",
        "tcp_tw_reuse_delay",
    ),
    *(
        "tcp_tw_recycle",
        "tcp_timestamps",
        "tcp_max_tw_buckets",
        "tcp_fin_timeout",
        "tcp_rfc1337",
        "tcp_timewait_len",
        "tcp_tw_timeout",
    ),
    *("vs/conn_reuse_mode", "vs/conntrack", "vs/expire_nodest_conn"),
)
_CONNTRACK = (("conntrack", "nf_conntrack_count"), ("conntrack_max", "nf_conntrack_max"))


def read(interval_s: float = 1.0, wait: Callable[[float], object] | None = None, only_own: bool = False) -> Snapshot:
    """Take a snapshot of this machine.

    Args:
        interval_s: time between two looks at the counters, which gives their rates; 0: one look, no
            rates.
        wait: called with the seconds to wait.
        only_own: leave the other namespaces out.
    """
    reason = permission.loads_nothing()
    seen = places.all_visible()[: 1 if only_own else None]
    began_s = monotonic_s()
    earlier = {place.name: _counters(place) for place in seen} if interval_s else {}
    if interval_s and wait:
        wait(interval_s)
    named, hidden = owners.of_sockets()
    namespaces, unseen = [], []
    for place in seen:
        made = _read(place, reason)
        if made is None:
            unseen.append(f"{place.name}: only root may look into it (sudo twlab diagnose)")
            continue
        passed_s = monotonic_s() - began_s
        if interval_s and place.name in earlier:
            made.rates = {
                name: (value - earlier[place.name].get(name, 0)) / passed_s for name, value in made.counters.items()
            }
        made.owners = named
        if hidden and len(made.sockets):
            made.missing.append((f"the sockets of {hidden} processes of other users", "sudo twlab diagnose"))
        namespaces.append(made)
    return Snapshot(f"{os.uname().nodename}, Linux {os.uname().release}", namespaces, unseen, live=True)


def _read(place: Place, reason: str) -> Namespace | None:
    made = Namespace(place.name)
    with place.inside() as there:
        if there:
            _settings(made)
        if there and reason:
            try:
                made.sockets = columns.dump()
                made.socket_source = "inet_diag"
                columns.sample_timestamps(made.sockets)
            except OSError as error:
                made.missing.append((f"the sockets over inet_diag ({error.strerror})", "ss -tanoe"))
        if not made.socket_source and not _from_proc(made, "/proc/thread-self/net" if there else place.net):
            return None
        if not reason:
            made.missing.append(
                (
                    "which sockets use IP_BIND_ADDRESS_NO_PORT: asking would load the module tcp_diag",
                    "ss -tan --inet-sockopt",
                )
            )
    if not there:
        made.missing.append(("the settings of this namespace", "sudo twlab diagnose"))
    made.counters = _counters(place)
    made.counter_source = "/proc/net/netstat and snmp"
    made.gauges |= _gauges(place)
    _balancer(place, made)
    return made


def _settings(made: Namespace) -> None:
    for name in _SETTINGS:
        text = _text(f"/proc/sys/net/ipv4/{name}")
        if text:
            made.settings[f"net.ipv4.{name.replace('/', '.')}"] = " ".join(text.split())
    for gauge, name in _CONNTRACK:
        text = _text(f"/proc/sys/net/netfilter/{name}").strip()
        if text.isdecimal():
            made.gauges[gauge] = int(text)
    made.settings["kernel.osrelease"] = os.uname().release
    made.setting_source = "/proc/sys"


def _from_proc(made: Namespace, folder: str) -> bool:
    text = [_text(f"{folder}/{name}") for name in ("tcp", "tcp6")]
    if not text[0]:
        return False
    made.sockets = Sockets.of(proc_net_tcp.rows("".join(text).splitlines()))
    made.socket_source = f"{folder}/tcp"
    return True


def _counters(place: Place) -> dict[str, int]:
    into = Gathered()
    with place.inside() as there:
        folder = "/proc/thread-self/net" if there else place.net
        for name in ("netstat", "snmp"):
            counters.pairs(_text(f"{folder}/{name}").splitlines(), into)
        conntrack.processors(_text(f"{folder}/stat/nf_conntrack").splitlines(), into)
    return into.counters


def _gauges(place: Place) -> dict[str, int]:
    into = Gathered()
    with place.inside() as there:
        counters.sockstat(_text(f"{'/proc/thread-self/net' if there else place.net}/sockstat").splitlines(), into)
    return into.gauges


def _balancer(place: Place, made: Namespace) -> None:
    """Read the tables of an IP Virtual Server, where there is one."""
    into = Gathered()
    with place.inside() as there:
        folder = "/proc/thread-self/net" if there else place.net
        ipvs.services(_text(f"{folder}/ip_vs").splitlines(), into)
        ipvs.connections(_text(f"{folder}/ip_vs_conn").splitlines(), into)
    made.balanced, made.balancer_entries = into.balanced, into.balancer_entries


def _text(path: str) -> str:
    try:
        return read_file(path).decode(errors="replace")
    except OSError:
        return ""
