"""Finds the causes that lie in balancers, gateways, and refused SYNs.

Their names, remedies and scenarios are those of `symptom_table`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from twlab.diagnose.causes import FAULT, NOTE, WARNING, Evidence, Finding
from twlab.diagnose.snapshot import BalancerEntry, Namespace, endpoint, shown
from twlab.diagnose.symptom_table import BY_NAME
from twlab.diagnose.symptoms import plain

_ENDED = ("TIME_WAIT", "CLOSE")  # after both FINs, or a RST: conn_reuse_mode 1 lets such an entry go
_MOST, _ENOUGH = 0.9, 100
_IPVS = "IP Virtual Server's tables"


def of_balancers(place: Namespace) -> Iterator[Finding]:
    """Find the causes that balancers, flow tables and refused SYNs show."""
    yield from _without_server(place)
    yield from _drained(place)
    yield from _one_server(place)
    yield from _offloaded(place)
    yield from _refused(place)


def _finding(name: str, weight: str, text: str, facts: list[Evidence]) -> Finding:
    row = BY_NAME[name]
    return Finding(name, weight, text, tuple(facts), plain(row.remedy), row.shows)


def _setting(place: Namespace, name: str, default: int) -> int:
    value = place.number(f"vs.{name}")
    return default if value is None else value


def _sysctls(place: Namespace) -> Evidence:
    values = {name: place.number(f"vs.{name}") for name in ("conn_reuse_mode", "conntrack", "expire_nodest_conn")}
    words = ", ".join(f"{name} {'not known' if value is None else value}" for name, value in values.items())
    return Evidence(words, place.setting_source or "not read")


def _counted(entries: list[BalancerEntry]) -> Evidence:
    states = ", ".join(f"{count:,} {state}" for state, count in Counter(entry.state for entry in entries).most_common())
    longest = max(entry.remaining_s for entry in entries)
    return Evidence(f"entries: {states}; the last ends in {longest:,} s if no segment comes", _IPVS)


def _where(entries: list[BalancerEntry]) -> str:
    servers = dict.fromkeys(endpoint(shown(entry.server[0]), entry.server[1]) for entry in entries)
    return ", ".join(list(servers)[:3]) + (" and others" if len(servers) > 3 else "")


def _without_server(place: Namespace) -> Iterator[Finding]:
    """Find entries whose server is gone, or takes no connections and costs a second."""
    if not place.balanced:
        return
    weights = {(one.service, one.server): one.weight for one in place.balanced}
    removed = [entry for entry in place.balancer_entries if (entry.service, entry.server) not in weights]
    unserved = removed + [entry for entry in place.balancer_entries if weights.get(entry[1:3]) == 0]
    half_dead = [entry for entry in unserved if entry.state not in _ENDED]
    if _setting(place, "expire_nodest_conn", 0):
        if half_dead and _setting(place, "conntrack", 0):
            text = (
                f"Connects from {len(half_dead):,} client ports would take a second: their entries lead to servers "
                f"that take no connections ({_where(half_dead)}), and the first SYN is dropped."
            )
            yield _finding("ipvs-half-dead", WARNING, text, [_counted(half_dead), _sysctls(place)])
        return
    silent = removed
    if _setting(place, "conn_reuse_mode", 1):
        silent = [entry for entry in removed if entry.state not in _ENDED]
    if silent:
        open_only = all(entry.state not in _ENDED for entry in silent)
        text = (
            f"Connects from {len(silent):,} client ports meet silence: their entries lead to servers that have been "
            f"removed ({_where(silent)})."
        )
        name = "ipvs-removed-half-dead" if open_only else "ipvs-removed-server"
        yield _finding(name, FAULT, text, [_counted(silent), _sysctls(place)])


def _drained(place: Namespace) -> Iterator[Finding]:
    """Find servers at weight 0 to which entries of closed connections still lead new ones."""
    if _setting(place, "expire_nodest_conn", 0):
        return
    mode = _setting(place, "conn_reuse_mode", 1)
    for one in place.balanced:
        direct = one.forwarding in ("Route", "Tunnel")
        if one.weight or not one.active + one.inactive or mode == 2 or (mode == 1 and not direct):
            continue
        text = (
            f"{endpoint(shown(one.server[0]), one.server[1])} is drained and still gets the connections of client "
            "ports that it had: each renews its entry."
        )
        fact = Evidence(f"weight 0, {one.active:,} active and {one.inactive:,} inactive entries", _IPVS)
        yield _finding("ipvs-drained-server", WARNING, text, [fact, _sysctls(place)])


def _one_server(place: Namespace) -> Iterator[Finding]:
    """Find services of which one server has nearly all connections."""
    for service in dict.fromkeys(one.service for one in place.balanced):
        servers = [one for one in place.balanced if one.service == service and one.weight]
        counts = [one.active + one.inactive for one in servers]
        if len(servers) < 2 or sum(counts) < _ENOUGH or max(counts) < _MOST * sum(counts):
            continue
        first = servers[counts.index(max(counts))]
        text = (
            f"{endpoint(shown(first.server[0]), first.server[1])} has {max(counts):,} of {sum(counts):,} connections "
            f"of {endpoint(shown(service[0]), service[1])}, which has {len(servers)} servers in service."
        )
        yield _finding(
            "ipvs-one-server", NOTE, text, [Evidence(f"entries by server: {counts}", _IPVS), _sysctls(place)]
        )


def _offloaded(place: Namespace) -> Iterator[Finding]:
    count = sum(state == "OFFLOAD" for *_, state, _ in place.gateway)
    if count:
        text = (
            f"{count:,} connections of this gateway pass by in a flow table: closed ones keep their ports for up to "
            "40 s on Linux 7.3, and for 300 s after a RST on 6.12."
        )
        yield _finding("flowtable-reset", NOTE, text, [Evidence(f"{count:,} entries with [OFFLOAD]", "conntrack -L")])


def _refused(place: Namespace) -> Iterator[Finding]:
    """Find SYNs that met a connection or a TIME_WAIT which this machine still had."""
    old, met = place.counters.get("PAWSTimewait", 0), place.counters.get("TCPSYNChallenge", 0)
    if old:
        fact = Evidence(f"PAWSTimewait {old:,}", place.counter_source)
        strict = place.number("tcp_rfc1337") == 1
        text = f"TIME_WAITs here refused {old:,} segments as old: a client whose SYN is among them connects 10 ms late"
        if strict:
            text += ", and with tcp_rfc1337=1 not before 134 s have passed."
            yield _finding("lost-reset", WARNING, text, [fact, Evidence("tcp_rfc1337 is 1", place.setting_source)])
        else:
            yield _finding("second-client", NOTE, f"{text}; where its reset is lost, not at all.", [fact])
    if met:
        text = f"{met:,} SYNs met a connection that was open here and not at the client: such a connect is 10 ms late."
        yield _finding("half-open-rest", NOTE, text, [Evidence(f"TCPSYNChallenge {met:,}", place.counter_source)])
