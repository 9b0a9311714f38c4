"""Finds the causes that lie in settings, counters and states, not in one pool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from twlab.diagnose.causes import FAULT, NOTE, WARNING, Evidence, Finding
from twlab.diagnose.pool import FULL, Measured
from twlab.diagnose.snapshot import Namespace, endpoint, shown, whole
from twlab.linux.inet_diag import TIME_WAIT

_FIN_TIMEOUT_S = 60
_NAT_PORTS = 64_512  # 1024 to 65535: what masquerade draws from for an unprivileged port
_MANY, _A_FEW = 1000, 100
_NEARLY = 0.9


def of_machine(place: Namespace, measured: Measured) -> Iterator[Finding]:
    """Find the causes that the namespace as a whole shows."""
    for cause in (
        _overflow,
        _fin_timeout,
        _timestamps,
        _reuse,
        _recycle,
        _peer_closes,
        _served,
        _lingering,
        _conntrack,
        _gateway,
        _haproxy,
    ):
        yield from cause(place, measured)


def _overflow(place: Namespace, measured: Measured) -> Iterator[Finding]:
    limit = place.number("tcp_max_tw_buckets")
    lost = place.counters.get("TCPTimeWaitOverflow", 0)
    waiting = max(place.gauges.get("tw", 0), measured.states.get("TIME_WAIT", 0))
    reached = limit is not None and limit > 0 and waiting >= FULL * limit
    if not lost and not reached:
        return
    facts = []
    if lost:
        rate = place.rates.get("TCPTimeWaitOverflow")
        now = f", {rate:,.0f} a second now" if rate else ""
        facts.append(
            Evidence(
                f"TCPTimeWaitOverflow {lost:,}{now}: so many connections were closed without TIME_WAIT",
                place.counter_source,
            )
        )
    if limit is not None:
        facts.append(
            Evidence(f"tcp_max_tw_buckets is {limit:,}; {waiting:,} TIME_WAITs there now", place.setting_source)
        )
    text = (
        "tcp_max_tw_buckets is too low: connections past it have no TIME_WAIT at all, unannounced, and "
        "late segments meet their successors."
    )
    remedy = "Raise tcp_max_tw_buckets above rate x 60 s; a TIME_WAIT takes some 0.5 KB."
    yield Finding(
        "tw-buckets-overflow",
        FAULT if reached or place.rates.get("TCPTimeWaitOverflow") else WARNING,
        text,
        tuple(facts),
        remedy,
        ("overflow",),
    )


def _fin_timeout(place: Namespace, _measured: Measured) -> Iterator[Finding]:
    seconds = place.number("tcp_fin_timeout")
    if seconds is None or seconds == _FIN_TIMEOUT_S:
        return
    facts = [Evidence(f"tcp_fin_timeout is {seconds} s", place.setting_source)]
    known = place.sockets.remaining_ms[place.sockets.state == TIME_WAIT]
    if len(known) and int(known.max()) > 1000 * (seconds + 1):
        facts.append(
            Evidence(f"a TIME_WAIT has {int(known.max()) / 1000:.0f} s left, more than that", place.socket_source)
        )
    text = (
        f"tcp_fin_timeout={seconds} does not shorten TIME_WAIT, which stays {place.time_wait_s:g} s; it "
        "ends orphaned FIN_WAIT2 sockets."
    )
    yield Finding(
        "fin-timeout-is-no-time-wait", NOTE, text, tuple(facts), "Do not count on it for ports.", ("fin-timeout-myth",)
    )


def _timestamps(place: Namespace, measured: Measured) -> Iterator[Finding]:
    if place.number("tcp_timestamps") != 0:
        return
    weight = WARNING if place.number("tcp_tw_reuse") == 1 or any(pool.time_wait for pool in measured.pools) else NOTE
    text = (
        "Timestamps are off on this host: tcp_tw_reuse does nothing, and only TIME_WAIT keeps old "
        "segments out of new connections."
    )
    facts = (Evidence("tcp_timestamps is 0", place.setting_source),)
    yield Finding(
        "timestamps-off", weight, text, facts, "sysctl net.ipv4.tcp_timestamps=1", ("tw-reuse-safe", "stale-data")
    )


def _reuse(place: Namespace, measured: Measured) -> Iterator[Finding]:
    reuse, taken_over = place.number("tcp_tw_reuse"), place.counters.get("TWRecycled", 0)
    if not taken_over:
        return
    rate = place.rates.get("TWRecycled")
    now = f" ({rate:,.0f} a second now)" if rate else ""
    facts = (
        Evidence(f"tcp_tw_reuse is {'not known' if reuse is None else reuse}", place.setting_source or "not read"),
        Evidence(
            f"TWRecycled {taken_over:,}{now}: connects that took over a port in TIME_WAIT",
            place.counter_source or "not read",
        ),
    )
    text = "tcp_tw_reuse is at work: connect() takes over ports whose TIME_WAIT is a second old."
    if any(pool.binds for pool in measured.pools):
        text += " It does nothing for the pools whose program binds first."
    yield Finding("tw-reuse-works", NOTE, text, facts, "", ("tw-reuse-safe",))


def _recycle(place: Namespace, _measured: Measured) -> Iterator[Finding]:
    if not place.number("tcp_tw_recycle"):
        return
    refused = place.counters.get("PAWSPassive")
    facts = [Evidence("tcp_tw_recycle is on", place.setting_source)]
    if refused is not None:
        facts.append(Evidence(f"PAWSPassive {refused:,}: connections refused by it", place.counter_source))
    text = "tcp_tw_recycle is on: clients behind NAT are refused without an answer."
    yield Finding(
        "tw-recycle-on",
        FAULT,
        text,
        tuple(facts),
        "sysctl net.ipv4.tcp_tw_recycle=0",
        ("recycle-nat", "recycle-starvation"),
    )


def _peer_closes(place: Namespace, measured: Measured) -> Iterator[Finding]:
    """Tell whether the peers close first, so that the TIME_WAIT is theirs."""
    opens, waits = place.rates.get("TcpActiveOpens", 0.0), place.rates.get("TW", 0.0)
    how = "a second now"
    if not place.rates:
        opens, waits = float(place.counters.get("TcpActiveOpens", 0)), float(place.counters.get("TW", -1))
        how = "since the counters began"
    still_open = 0 if place.rates else sum(pool.busy for pool in measured.pools)
    enough = opens - still_open >= (2 if place.rates else _A_FEW)
    kept = sum(pool.time_wait for pool in measured.pools)
    if not enough or not 0 <= waits < 0.1 * opens or kept > 0.1 * measured.sockets + 10:
        return
    there = sum(pool.states.get("CLOSE_WAIT", 0) + pool.states.get("LAST_ACK", 0) for pool in measured.pools)
    facts = (
        Evidence(f"TcpActiveOpens {opens:,.0f}, TW {waits:,.0f} {how}", place.counter_source),
        Evidence(
            f"{kept:,} TIME_WAITs on connections that this host opened; {there:,} in CLOSE_WAIT or LAST_ACK",
            place.socket_source,
        ),
    )
    text = "The peers close first: the TIME_WAIT is theirs, and holds no port of this host."
    yield Finding("peer-closes-first", NOTE, text, facts, "", ("port-exhaustion --arm server-closes",))


def _served(place: Namespace, measured: Measured) -> Iterator[Finding]:
    for served in measured.served:
        waiting = served.states.get("TIME_WAIT", 0)
        live = served.states.get("ESTABLISHED", 0)
        where = endpoint(served.address, served.port)
        source = place.socket_source
        if waiting >= _A_FEW:
            text = (
                f"{waiting:,} TIME_WAITs on the accepting side ({where}) use up no port here: a listener "
                "has the one port for all clients."
            )
            fact = Evidence(
                f"{waiting:,} TIME_WAITs at a listener's port {served.port}; some {waiting / 2:,.0f} KB of memory",
                source,
            )
            yield Finding("time-wait-of-server", NOTE, text, (fact,), "Nothing has to be done about them.")
        if live >= 10 * _MANY:
            text = (
                f"{live:,} open connections at {where} were accepted: they use file descriptors and "
                "memory, no ephemeral ports."
            )
            yield Finding(
                "accepted-connections", NOTE, text, (Evidence(f"{live:,} ESTABLISHED on a listener's port", source),)
            )


def _lingering(place: Namespace, measured: Measured) -> Iterator[Finding]:
    total = max(measured.sockets, 1)
    for state, cause, text, remedy in (
        (
            "CLOSE_WAIT",
            "close-wait",
            "are in CLOSE_WAIT: the peer has closed, and a program here does not",
            "Find the program: ss -tanp state close-wait",
        ),
        (
            "FIN_WAIT2 (closed)",
            "fin-wait2",
            "are in FIN_WAIT2 after close(): the peers do not close their side",
            "See why the peers keep them open.",
        ),
        (
            "SYN_SENT",
            "syn-sent",
            "are in SYN_SENT: the peers do not answer, which is no want of ports",
            "See whether the peer and the path are up.",
        ),
    ):
        count = measured.states.get(state, 0)
        if count >= _A_FEW and count >= 0.1 * total:
            fact = Evidence(f"{count:,} of {total:,} sockets in {state}", place.socket_source)
            yield Finding(cause, WARNING, f"{count:,} sockets {text}.", (fact,), remedy)


def _conntrack(place: Namespace, _measured: Measured) -> Iterator[Finding]:
    count, most = place.gauges.get("conntrack", 0), place.gauges.get("conntrack_max", 0)
    failed = place.counters.get("ConntrackInsertFailed", 0)
    dropped = place.counters.get("ConntrackDrop", 0)
    nearly = bool(most) and count >= _NEARLY * most
    full = nearly and (count >= most or dropped > 0)
    if not nearly and not failed:
        return
    facts = []
    if most:
        facts.append(Evidence(f"conntrack has {count:,} entries of {most:,}", place.setting_source))
    if failed or dropped:
        facts.append(Evidence(f"insert_failed {failed:,}, drop {dropped:,}", place.counter_source))
    text = (
        "The conntrack table is full: new connections are dropped, TIME_WAIT or not."
        if full
        else "The conntrack table is nearly full: at its limit new connections are dropped, TIME_WAIT or not."
        if nearly
        else "conntrack could not insert connections."
    )
    remedy = "Raise nf_conntrack_max, or shorten its timers of closed connections (nf_conntrack_tcp_timeout_time_wait)."
    shows: tuple[str, ...] = ("nat-port-scarcity",)
    if dropped and not nearly:
        text = "conntrack dropped new connections with room in its table: no outside port was found for them."
        remedy = "Widen the range that the gateway translates to, twice as large as is needed, or add addresses."
        shows = ("snat-full-range", *shows)
    yield Finding(
        "conntrack-full" if nearly else "conntrack-insert-failed",
        FAULT if full else WARNING,
        text,
        tuple(facts),
        remedy,
        shows,
    )


def _gateway(place: Namespace, _measured: Measured) -> Iterator[Finding]:
    pools = Counter((outside, remote, port) for outside, _, remote, port, _, _ in place.gateway)
    waiting = Counter(
        (outside, remote, port) for outside, _, remote, port, state, _ in place.gateway if state == "TIME_WAIT"
    )
    for key, count in pools.most_common(5):
        if count < _A_FEW:
            return
        outside, remote, port = key
        name = f"{shown(outside)} > {endpoint(shown(remote), port)}"
        closed = f"{waiting[key]:,} of them for closed connections"
        text = f"This gateway holds {count:,} outside ports for {name}, {closed}; it has at most {_NAT_PORTS:,}."
        fact = Evidence(f"{count:,} translated entries, {waiting[key]:,} in TIME_WAIT", "conntrack -L")
        yield Finding(
            "nat-ports",
            FAULT if count >= _NEARLY * _NAT_PORTS else NOTE,
            text,
            (fact,),
            "",
            ("nat-port-scarcity",),
            name,
        )


def _haproxy(place: Namespace, _measured: Measured) -> Iterator[Finding]:
    for row in place.haproxy:
        name = f"{row.get('pxname', '?')}/{row.get('svname', '?')}"
        if row.get("svname") == "BACKEND":
            continue
        failed, made, again = (
            whole(text) if (text := row.get(column, "")).isdecimal() else 0 for column in ("econ", "connect", "reuse")
        )
        if made + again >= _A_FEW and again < 0.1 * (made + again):
            text = (
                f"HAProxy opens a connection to {name} for nearly every request: {made:,} connects, {again:,} reuses."
            )
            fact = Evidence(f"connect {made:,}, reuse {again:,}", "show stat")
            yield Finding(
                "haproxy-no-reuse",
                NOTE,
                text,
                (fact,),
                "http-reuse safe or always, and keep-alive at the server",
                ("haproxy-exhaustion",),
            )
        if failed:
            fact = Evidence(f"econ {failed:,} at {name}", "show stat")
            text = f"HAProxy could not connect to {name} {failed:,} times; look for `no free ports` in its log."
            yield Finding("haproxy-connect-errors", WARNING, text, (fact,), "", ("haproxy-exhaustion",))
