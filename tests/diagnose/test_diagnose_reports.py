"""The situations of public reports, rebuilt: the diagnosis names the cause."""

import pytest
from diagnose_cases import HIGH, LOW, PORTS, by_bind, by_connect, judged, listening, open_, waiting

from twlab.diagnose.texts.assemble import Text


def causes(part, weight=None):
    return {finding.cause for finding in part.findings if weight in (None, finding.weight)}


def finding(part, cause):
    return next(finding for finding in part.findings if finding.cause == cause)


def test_bind_first_to_ten_endpoints():
    """envoyproxy/envoy#44747: upstream_bind_config to ten endpoints, which share one range instead
    of having ten.
    """
    ports = by_bind(PORTS)
    lines = [text for i in range(10) for text in open_("10.0.0.1", f"10.1.0.{i + 1}", 443, ports[i::10], "envoy")]
    part = judged([*listening(15001), *lines])
    assert {"bind-before-connect", "live-connections-fill-ports"} <= causes(part, "fault")
    bind = finding(part, "bind-before-connect")
    assert "envoy[7]" in bind.text and "10 destinations share one pool of 28,232 ports" in bind.text
    assert "share 0" in bind.evidence[0].text
    assert "IP_BIND_ADDRESS_NO_PORT" in bind.remedy
    assert "EADDRINUSE" in finding(part, "live-connections-fill-ports").text
    assert "time-wait-fills-ports" not in causes(part)


def test_ten_endpoints_with_connect_are_no_trouble():
    """The same connections with the port left to connect(): endpoints share ports, and each has
    room.
    """
    lines = [
        text
        for i in range(10)
        for text in open_("10.0.0.1", f"10.1.0.{i + 1}", 443, by_connect(PORTS // 10, seed=i), "envoy")
    ]
    part = judged([*listening(15001), *lines])
    assert causes(part) == set()
    assert part.answer.startswith("It is not TIME_WAIT: the fullest pool")
    assert {pool.bind.verdict for pool in part.measured.pools} == {"no"}


def test_a_sidecar_that_binds_127_0_0_6():
    """istio#44008: 28,232 ports at 127.0.0.6, most in TIME_WAIT, to the one port of the
    application.
    """
    ports = by_bind(PORTS)
    part = judged(
        [
            *listening(8080, 15006),
            *waiting("127.0.0.6", "10.244.0.9", 8080, ports[:28_000], 466),
            *open_("127.0.0.6", "10.244.0.9", 8080, ports[28_000:]),
        ]
    )
    assert "time-wait-fills-ports" in causes(part, "fault")
    assert "127.0.0.6 > 10.244.0.9:8080" in part.answer


def test_466_a_second_to_one_listener():
    """istio#51210: 28,232 ports and 60 s are some 470 a second; at more, the time of the end is
    named.
    """
    part = judged([*listening(15001), *waiting("10.0.0.9", "10.96.0.7", 9000, by_connect(12_000), 1000)])
    assert "time-wait-will-fill-ports" in causes(part, "warning")
    assert "ports suffice for 471 a second" in part.answer and "used up in 16 s" in part.answer
    assert part.advice and "1,000 connections a second" in " ".join(part.advice.lines)
    assert "--ports 32768-60999 --rate 1000" in part.advice.command
    steady = judged([*listening(15001), *waiting("10.0.0.9", "10.96.0.7", 9000, by_connect(27_000), 450)])
    assert "time-wait-will-fill-ports" not in causes(steady)
    assert steady.measured.pools[0].forecast.full_in_s is None


def test_a_half_full_range():
    """haproxy#2050: at some 32,000 open connections every connect() tries half of the range in
    vain.
    """
    span = {"ip_local_port_range": "1024\t65000"}
    ports = [*range(1024, 65001, 2), *range(1025, 1625, 2)]
    part = judged([*listening(80), *open_("10.51.1.1", "10.51.5.182", 1883, ports, "haproxy")], span)
    assert "half-full-range" in causes(part, "warning")
    assert "31,989 ports in vain" in finding(part, "half-full-range").text
    assert causes(part, "fault") == set()


def test_a_hundred_thousand_long_lived_connections():
    """Accepted ones use up no ports; opened ones fill pools, and TIME_WAIT has no part in it."""
    accepted = [text for i in range(4) for text in open_("10.0.0.1", f"10.9.{i}.1", 0, [])]
    for client in range(4):
        accepted += [
            f"ESTAB 0 0 10.0.0.1:443 10.9.{client}.1:{port} ino:{port} sk:1\n" for port in range(20_000, 45_000)
        ]
    served = judged([*listening(443), *accepted])
    assert causes(served) == {"accepted-connections"}
    assert served.answer.startswith("It is not TIME_WAIT")
    opened = [
        text for i in range(4) for text in open_("10.0.0.1", f"10.8.0.{i}", 9000, by_connect(25_000, seed=i), "proxy")
    ]
    part = judged([*listening(443), *opened])
    assert "half-full-range" in causes(part) and "time-wait-fills-ports" not in causes(part)
    full = judged([*listening(443), *open_("10.0.0.1", "10.8.0.1", 9000, by_connect(PORTS), "proxy")])
    assert "live-connections-fill-ports" in causes(full, "fault")
    assert "not by TIME_WAIT" in full.answer


def test_a_cache_that_closes_every_connection_to_its_twin():
    """varnish-cache#2622: 500 a second to one backend, closed here first: EADDRNOTAVAIL."""
    part = judged(
        [*listening(80, 6081), *waiting("10.0.0.1", "10.0.0.2", 6081, by_connect(PORTS), 500)],
        counters={"TcpActiveOpens": 10**6, "TcpExtTW": 990_000},
    )
    assert "time-wait-fills-ports" in causes(part, "fault")
    assert "EADDRNOTAVAIL" in part.answer and "28,232 of the 28,232 ports to 10.0.0.1 > 10.0.0.2:6081" in part.answer
    assert part.measured.pools[0].closes_first == "this host"


def test_a_proxy_that_binds_its_address_to_many_destinations():
    """shadowsocks-libev#2930: bind(address, 0), then a few connections to each of many
    destinations.
    """
    ports = by_bind(PORTS)
    lines = [text for i in range(2800) for text in open_("10.0.0.1", f"10.{i // 250}.{i % 250}.5", 443, ports[i::2800])]
    part = judged([*listening(1088), *lines])
    assert "bind-before-connect" in causes(part, "fault")
    assert "28,2" in finding(part, "bind-before-connect").text


def test_a_low_limit_of_time_wait():
    """tcp_max_tw_buckets at 1,000 and a rate that needs 30,000: most connections have no TIME_WAIT
    at all.
    """
    counters = {"TcpExtTW": 1000, "TcpExtTCPTimeWaitOverflow": 54_321, "TcpActiveOpens": 60_000}
    part = judged(
        [*listening(80), *waiting("10.0.0.1", "10.0.0.2", 80, by_connect(1000), 500)],
        {"tcp_max_tw_buckets": "1000"},
        counters,
    )
    assert "tw-buckets-overflow" in causes(part, "fault")
    assert [fact.source for fact in finding(part, "tw-buckets-overflow").evidence] == [
        "counters (nstat -az)",
        "sysctl (sysctl -a)",
    ]
    assert "54,321" in finding(part, "tw-buckets-overflow").evidence[0].text


def test_a_lowered_fin_timeout():
    """tcp_fin_timeout=10 and ports that run out all the same."""
    part = judged(
        [*listening(80), *waiting("10.0.0.1", "10.0.0.2", 80, by_connect(PORTS), 480)], {"tcp_fin_timeout": "10"}
    )
    assert {"fin-timeout-is-no-time-wait", "time-wait-fills-ports"} <= causes(part)
    assert (
        "60 s left" in finding(part, "fin-timeout-is-no-time-wait").evidence[1].text
        or "59 s left" in finding(part, "fin-timeout-is-no-time-wait").evidence[1].text
    )


def test_a_neighbour_takes_the_ports_of_others():
    """A program that binds first closes its ports to every other program's connect(), to any
    destination.
    """
    bound = by_bind(PORTS)[: PORTS - 20_000]
    ports = by_connect(20_000, taken=bound)
    part = judged(
        [
            *listening(80),
            *open_("10.0.0.1", "10.7.0.1", 443, bound[:8000], "squid"),
            *waiting("10.0.0.1", "10.0.0.2", 80, ports[:1000], 100),
        ]
    )
    found = finding(part, "neighbour-binds-first")
    assert found.weight == "warning" and "squid[7] binds first and holds 8,000 of 28,232" in found.text
    pool = next(pool for pool in part.measured.pools if pool.port == 80)
    assert (pool.blocked, pool.taken, pool.bind.verdict) == (8000, 9000, "no")


@pytest.mark.parametrize("low", [40_000, 10_000])
def test_a_program_with_a_range_of_its_own(low):
    """IP_LOCAL_PORT_RANGE, or HAProxy's `source ADDRESS:LOW-HIGH`: 1,000 ports inside the system's
    range or outside of it, all in use. The system's range has room, and the program has none.
    """
    ports = list(range(low, low + 1000))
    full = judged([*listening(80), *waiting("10.0.0.1", "10.1.0.1", 443, ports, 16)])
    found = finding(full, "own-port-range")
    assert found.weight == "fault" and full.answer == found.text
    assert f"from {low} to {low + 999} only, and 1,000 of these 1,000 are in use" in found.text
    some = judged([*listening(80), *waiting("10.0.0.1", "10.1.0.1", 443, ports[::3], 6)])
    assert finding(some, "own-port-range").weight == "note"
    assert some.measured.pools[0].as_dict()["own_range"] == {"low": low, "high": low + 999, "used": 334}


def test_ports_of_connect_near_each_other_are_no_range_of_its_own():
    """connect() goes on from the port before, in steps of two: a narrow band of one parity."""
    part = judged([*listening(80), *waiting("10.0.0.1", "10.1.0.1", 443, range(LOW + 500, LOW + 2500, 2), 16)])
    assert "own-port-range" not in causes(part)


def test_tw_reuse_at_work_is_no_fault():
    """Every port in TIME_WAIT, but tcp_tw_reuse=1 gives them away again after a second: nothing
    fails.
    """
    part = judged(
        [*listening(80), *waiting("10.0.0.1", "10.0.0.2", 80, by_connect(PORTS), 900)],
        {"tcp_tw_reuse": "1"},
        {"TcpExtTWRecycled": 10_000},
    )
    assert causes(part, "fault") == set()
    assert "tw-reuse-works" in causes(part)
    assert part.measured.pools[0].forecast.full_in_s is None and part.measured.pools[0].hold_s == 1
    for against in ({"tcp_timestamps": "0"}, {"tcp_tw_reuse": "2"}):
        assert "time-wait-fills-ports" in causes(
            judged(waiting("10.0.0.1", "10.0.0.2", 80, by_connect(PORTS), 900), {"tcp_tw_reuse": "1", **against})
        )


def test_a_program_that_never_closes():
    """CLOSE_WAIT is the program's own fault, and no TIME_WAIT."""
    lines = [text.replace("ESTAB     ", "CLOSE-WAIT") for text in open_("10.0.0.1", "10.0.0.2", 80, by_connect(500))]
    part = judged([*listening(80), *lines])
    assert causes(part, "warning") == {"close-wait"} and part.answer.startswith("It is not a want of ports.")


def test_time_wait_of_a_server():
    """40,000 of them at a listener's port are harmless."""
    lines = [text for i in range(2) for text in waiting("10.0.0.1", f"10.9.0.{i}", 0, [], 1)]
    for client in (1, 2):
        lines += [
            f"TIME-WAIT 0 0 10.0.0.1:443 10.9.0.{client}:{port} timer:(timewait,{port % 60}sec,0)\n"
            for port in range(20_000, 40_000)
        ]
    part = judged([*listening(443), *lines])
    assert causes(part) == {"time-wait-of-server"}


@pytest.mark.parametrize("listeners", [True, False])
def test_without_listeners_the_service_side_is_still_told(listeners):
    """`ss -tn` leaves listeners out: what many peers share is the service's port."""
    lines = [f"ESTAB 0 0 10.0.0.1:443 10.9.0.{port % 200}:{port} ino:{port} sk:1\n" for port in range(33_000, 34_000)]
    lines += open_("10.0.0.1", "10.0.0.2", 5432, by_connect(200))
    part = judged([*(listening(443) if listeners else []), *lines])
    assert [(pool.destination, pool.used) for pool in part.measured.pools] == [("10.0.0.2", 200)]
    assert [(served.port, sum(served.states.values())) for served in part.measured.served] == [(443, 1000)]
    assert any("listeners" in what for what, _ in part.missing) is not listeners


def test_conntrack_is_full():
    """New connections are dropped, at any ports; below the limit they are not yet."""

    def with_entries(count, *more):
        settings = [f"net.netfilter.nf_conntrack_count = {count}\n", "net.netfilter.nf_conntrack_max = 262144\n"]
        return judged(listening(80), more=[Text("sysctl -a", settings), *more])

    dropped = Text("conntrack_-S", ["cpu=0   \tfound=0 invalid=0 insert_failed=9 drop=9 early_drop=3\n"])
    assert "conntrack-full" in causes(with_entries(262_144), "fault")
    assert "conntrack-full" in causes(with_entries(262_000, dropped), "fault")
    nearly = with_entries(236_000)
    assert "conntrack-full" in causes(nearly, "warning") and not causes(nearly, "fault")
    assert "nearly full" in finding(nearly, "conntrack-full").text


def test_conntrack_could_not_insert():
    """`conntrack -S`, added up over the processors: some connections had no place in the table."""
    more = [
        Text(
            "conntrack_-S",
            [
                "cpu=0   \tfound=3 invalid=1 insert=0 insert_failed=17 drop=17 early_drop=0 error=0 search_restart=2\n",
                "cpu=1   \tfound=1 invalid=0 insert=0 insert_failed=25 drop=20 early_drop=0 error=0 search_restart=0\n",
            ],
        )
    ]
    part = judged(listening(80), more=more)
    assert "conntrack-insert-failed" in causes(part, "warning")
    evidence = finding(part, "conntrack-insert-failed").evidence
    assert [fact.text for fact in evidence] == ["insert_failed 42, drop 37"]


def test_reserved_ports_are_no_capacity():
    """ip_local_reserved_ports takes ports from the range."""
    part = judged(
        [*listening(80), *waiting("10.0.0.1", "10.0.0.2", 80, by_connect(100), 10)],
        {"ip_local_reserved_ports": f"{LOW}-{LOW + 999},60000"},
    )
    assert part.measured.span.size == PORTS - 1001 and part.measured.span.high == HIGH


def test_closes_that_have_ceased_fill_nothing():
    """A burst that ended half a minute ago: the rate is over, and so is the trouble soon."""
    part = judged([*listening(80), *waiting("10.0.0.1", "10.0.0.2", 80, by_connect(20_000), 1000, quiet_s=30)])
    assert "time-wait-will-fill-ports" not in causes(part)
    assert part.measured.pools[0].rate_per_s == 0


def test_haproxy_says_what_it_reuses():
    """`show stat` has connects and reuses of each server."""
    csv = [
        "# pxname,svname,scur,econ,connect,reuse,\n",
        "web,FRONTEND,1,,,,\n",
        "web,s1,3,7,100000,20,\n",
        "web,BACKEND,3,7,100000,20,\n",
    ]
    part = judged(listening(80), more=[Text("show_stat", csv)])
    assert {"haproxy-no-reuse", "haproxy-connect-errors"} <= causes(part)


def test_a_gateway_runs_out_of_outside_ports():
    """conntrack -L: one destination, all of masquerade's ports taken, most for closed connections."""
    entries = [
        f"tcp      6 {i % 120} TIME_WAIT src=10.0.0.9 dst=203.0.113.5 sport={1024 + i} dport=443 "
        f"src=203.0.113.5 dst=192.0.2.7 sport=443 dport={(1025 + i) % 65536 or 1024} [ASSURED] mark=0 use=1\n"
        for i in range(64_000)
    ]
    part = judged(listening(22), more=[Text("conntrack_-L", entries)])
    assert "nat-ports" in causes(part, "fault")
