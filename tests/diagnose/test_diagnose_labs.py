"""Labs whose truth is known: the live look and the texts of every tool lead to it."""

import pytest
from conftest import lacks, run_in_sandbox
from diagnose_labs import look_at_all
from in_guest import run_in_guest

from twlab.diagnose.diagnosis import diagnose
from twlab.diagnose.texts.assemble import Text, snapshot

CONNECT = {"rate_per_s": 200, "duration_s": 1}
BIND = {**CONNECT, "ports": "bind", "named_source": True}
NARROW = {"port_low": 40_000, "port_high": 40_199}
CASES = {
    "connect": {"loads": [CONNECT], "open": 20},
    "bind first": {"loads": [{**BIND, "to": [80, 81]}]},
    "bind without a port": {"loads": [{**BIND, "ports": "bind-no-port", "to": [80, 81]}]},
    "tw_reuse": {"settings": {"tw_reuse": 1, **NARROW}, "loads": [{"rate_per_s": 150, "duration_s": 3}]},
    "timestamps off at the origin": {
        "settings": {"tw_reuse": 1},
        "origin": {"timestamps": 0},
        "loads": [CONNECT],
        "open": 20,
    },
    "the origin closes first": {"loads": [{**CONNECT, "opener_closes": False, "serve": {"responses": 1}}]},
    "a neighbour binds": {"loads": [{**BIND, "to": [81]}, CONNECT]},
    "IPv6": {"loads": [{**BIND, "family": 6}, {**CONNECT, "family": 6, "to": [82]}]},
    "v4-mapped": {"mapped": 100, "loads": [BIND]},
    "a lowered fin_timeout, few buckets": {
        "settings": {"fin_timeout_s": 10, "max_tw_buckets": 100},
        "loads": [CONNECT],
    },
}
CAUSES = {
    "connect": set(),
    "bind first": {"bind-before-connect"},
    "bind without a port": set(),
    "tw_reuse": {"tw-reuse-works"},
    "timestamps off at the origin": {"timestamps-off-at-peer"},
    "the origin closes first": {"peer-closes-first"},
    "a neighbour binds": {"bind-before-connect", "neighbour-binds-first"},
    "IPv6": {"bind-before-connect", "neighbour-binds-first"},
    "v4-mapped": {"bind-before-connect", "neighbour-binds-first"},
    "a lowered fin_timeout, few buckets": {"tw-buckets-overflow", "fin-timeout-is-no-time-wait"},
}
PILES = {  # texts as a user may hand them over
    "ss": ("ss", "sysctl", "nstat"),
    "ss -i": ("ss-i", "sysctl", "nstat"),
    "net-tools": ("netstat", "sysctl", "netstat-s"),
    "net-tools, plain": ("netstat-plain", "sysctl", "netstat-s"),
    "busybox": ("busybox", "sysctl", "nstat"),
    "proc": ("proc", "sysctl", "nstat"),
}


def run(engine, cases, folder):
    if reason := lacks(engine):
        pytest.skip(reason)
    if engine == "host":
        return run_in_sandbox(look_at_all, cases, timeout_s=240)
    return run_in_guest(look_at_all, cases, folder=folder, real_limit_s=240)


@pytest.fixture(scope="module", params=["host", "guest"])
def looks(request, tmp_path_factory):
    return dict(zip(CASES, run(request.param, list(CASES.values()), tmp_path_factory.mktemp("guest")), strict=True))


def live(look):
    (place,) = look["live"]["namespaces"]
    return place


def from_texts(look, pile):
    names = PILES[pile]
    texts = [Text(name, look["texts"][name].splitlines(keepends=True)) for name in names]
    if missing := [name for name in names if not look["texts"][name]]:
        pytest.skip(f"{missing[0]} is not installed")
    (part,) = diagnose(snapshot(texts, "test")).parts
    return part.as_dict()


def causes(place):
    """What was found, but for the ceilings that a full range of 200 ports comes near to."""
    return {finding["cause"] for finding in place["findings"]}


def pool(place, port):
    return next(pool for pool in place["pools"] if pool["port"] == port)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_live_look_finds_the_cause(looks, case):
    """Neither less nor more than what was done."""
    assert causes(live(looks[case])) == CAUSES[case]


@pytest.mark.slow
@pytest.mark.parametrize("pile", PILES)
@pytest.mark.parametrize("case", CASES)
def test_texts_lead_to_the_same_findings(looks, case, pile):
    """ss, net-tools, busybox and /proc: the same pools, verdicts and causes; timestamps of peers
    only ss -i shows. Of a pool whose ports tcp_tw_reuse gives away, the moment of the look and the
    timers say how many are taken; plain texts have no timers.
    """
    found, truth = from_texts(looks[case], pile), live(looks[case])
    assert causes(found) == (CAUSES[case] if pile == "ss -i" else CAUSES[case] - {"timestamps-off-at-peer"})

    def seen(place):
        return sorted(
            (
                pool["source"],
                pool["destination"],
                pool["port"],
                pool["used"],
                pool["used"] if pool["tw_reuse_applies"] else pool["taken"],
                pool["bind_first"]["verdict"],
            )
            for pool in place["pools"]
        )

    assert seen(found) == seen(truth)


@pytest.mark.slow
def test_rates_and_ceilings(looks):
    """200 closes a second for a second are 200 TIME_WAITs in one bin; 28,232 ports suffice for 470
    a second.
    """
    found = pool(live(looks["connect"]), 80)
    assert found["states"] == {"TIME_WAIT": 200}
    assert 100 <= found["closes"]["peak_per_s"] <= 200 and found["closes"]["dated"]
    assert found["ceiling_per_s"] == pytest.approx(28_232 / 60, abs=4)
    assert found["closes_first"] == "this host" and found["full_in_s"] is None
    kept = pool(live(looks["connect"]), 90)
    assert kept["timestamps"] == {"with": 16, "sampled": 16}
    assert kept["owners"]


@pytest.mark.slow
def test_tw_reuse_holds_ports_for_a_second(looks):
    """450 connections on 200 ports, none refused: the hold is one second, and the counter says who
    did it.
    """
    place = live(looks["tw_reuse"])
    found = pool(place, 80)
    assert (found["tw_reuse_applies"], found["hold_s"], found["capacity"]) == (True, 1.0, 200)
    assert "TWRecycled" in next(f for f in place["findings"] if f["cause"] == "tw-reuse-works")["evidence"][1]["text"]


@pytest.mark.slow
def test_live_sockets_say_that_they_bound_without_a_port(looks):
    """Mapped and IPv4 connections share the source's ports; with IP_BIND_ADDRESS_NO_PORT the
    verdict is no.
    """
    assert {found["bind_first"]["verdict"] for found in live(looks["bind without a port"])["pools"]} == {"no"}
    mapped = pool(live(looks["v4-mapped"]), 91)
    assert mapped["source"].startswith("10.3.2.") and mapped["bind_first"]["verdict"] == "no"
    assert mapped["blocked"] == 200


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["host", "guest"])
def test_all_28232_ports(engine, tmp_path):
    """Linux's whole range in TIME_WAIT towards one destination: the answer says so, live and from
    text.
    """
    (look,) = run(engine, [{"fill": True}], tmp_path)
    place = live(look)
    found = pool(place, 80)
    assert look["error"] == "EADDRNOTAVAIL"
    assert (found["used"], found["capacity"], found["full_in_s"]) == (28_232, 28_232, 0)
    assert (
        place["answer"].startswith("It is TIME_WAIT: 28,232 of the 28,232 ports") and "EADDRNOTAVAIL" in place["answer"]
    )
    assert {"time-wait-fills-ports", "half-full-range"} <= causes(place)
    for pile in PILES:
        assert causes(from_texts(look, pile)) == causes(place)
