"""Pools of ports: which sockets belong to one, what holds its ports, and what it has room for."""

import numpy as np
import pytest
from diagnose_cases import HIGH, LOW, PORTS, by_bind, by_connect, judged, listening, open_, waiting

from twlab.diagnose.columns import peer_key
from twlab.diagnose.snapshot import packed, words
from twlab.diagnose.texts.assemble import Text


def causes(part, weight=None):
    return {finding.cause for finding in part.findings if weight in (None, finding.weight)}


def pool_to(part, destination):
    return next(pool for pool in part.measured.pools if pool.destination == destination)


def test_every_pair_of_addresses_has_a_key_of_its_own():
    """254 source addresses and 254 destinations, whose addresses lie near each other."""
    for source, destination in (("10.0.0.{}", "10.0.1.{}"), ("10.0.0.{}", "10.0.0.{}"), ("fd00::{}", "fd00::1:{}")):
        local, remote = (
            words(b"".join(packed(form.format(i)) for i in range(1, 255))) for form in (source, destination)
        )
        of_local = peer_key(local, np.zeros(254, np.uint16))
        of_remote = peer_key(remote, np.full(254, 80, np.uint16))
        assert len(np.unique(of_local[:, None] ^ of_remote[None, :])) == 254 * 254


def test_two_pairs_are_two_pools():
    """14,000 ports each: neither is full."""
    pairs = (("10.0.0.117", "10.0.1.112", 0), ("10.0.0.243", "10.0.1.238", 1))
    lines = [text for at, to, odd in pairs for text in waiting(at, to, 80, range(32768 + odd, 60768, 2), 233)]
    part = judged([*listening(22), *lines])
    assert sorted(pool.used for pool in part.measured.pools) == [14_000] * 2
    assert causes(part, "fault") == set()


NO_PORT = "\tinet-sockopt: ( is_icsk bind_addr_no_port mc_loop mc_all)\n"
RANGE = range(LOW, HIGH + 1)


def dated(source, destination, port, ports, ages_s):
    """TIME_WAITs of these ages."""
    return [
        text
        for local, age_s in zip(ports, ages_s, strict=True)
        for text in waiting(source, destination, port, [local], 1e6, age_s)
    ]


def test_a_burst_past_half_the_range_accuses_no_program_of_bind():
    """900 closes, 20 s later 780: connect() had used up its parity by then, which the first 900
    have given back since.
    """
    span = {"ip_local_port_range": "40000 41999"}
    even, odd = range(40_000, 42_000, 2), range(40_001, 42_000, 2)
    ports = [*list(even)[900:], *list(odd)[:680]]
    part = judged([*listening(22), *waiting("10.0.0.1", "10.0.0.2", 80, ports, 5000, quiet_s=42)], span)
    (pool,) = part.measured.pools
    assert pool.bind.verdict == "cannot tell" and "past its half when they were chosen" in pool.bind.why
    assert not causes(part) & {"bind-before-connect", "some-bind-before-connect"}


def test_a_rate_that_drops_accuses_no_program_of_bind():
    """400 a second, which is past half of the range, then 150: ports of the other parity remain."""
    free, held, now_s, taken = [list(RANGE)[0::2], list(RANGE)[1::2]], [], 0.0, 0
    while now_s < 165:
        now_s += 1 / (400 if now_s < 130 else 150)
        while taken < len(held) and held[taken][0] <= now_s - 60:
            free[held[taken][1] & 1].append(held[taken][1])
            taken += 1
        held.append((now_s, free[0 if free[0] else 1].pop(0)))
    rest = held[taken:]
    part = judged(
        [*listening(22), *dated("10.0.0.1", "10.0.0.2", 80, [p for _, p in rest], [now_s - at for at, _ in rest])]
    )
    assert part.measured.pools[0].bind.verdict in ("cannot tell", "no")


def test_young_closes_still_show_who_binds():
    """A steady program that binds, of which every port is evidence, and one after a burst."""
    steady = judged([*listening(22), *waiting("10.0.0.1", "10.0.0.2", 80, by_bind(9000), 150)])
    assert steady.measured.pools[0].bind.verdict == "yes"
    ports = by_bind(9100)
    burst = [
        *waiting("10.0.0.1", "10.0.0.2", 80, ports[:9000], 9000, quiet_s=40),
        *waiting("10.0.0.1", "10.0.0.2", 80, ports[9000:], 100),
    ]
    assert judged([*listening(22), *burst]).measured.pools[0].bind.verdict == "yes"


def test_ranges_apart_are_no_sign_of_bind():
    """HAProxy's `source ADDRESS:LOW-HIGH`, another one for each server: they share no port."""
    lines = [
        text
        for i in range(4)
        for text in waiting("10.0.0.1", f"10.1.0.{i}", 80, range(40_000 + 3000 * i, 43_000 + 3000 * i), 50)
    ]
    part = judged([*listening(22), *lines])
    assert {pool.bind.verdict for pool in part.measured.pools} == {"cannot tell"}
    assert "own-port-range" in causes(part)


def neighbours(sockopt):
    """A program that binds has 27,500 ports in TIME_WAIT; another connects with what is left."""
    mine = by_connect(600)
    theirs = by_bind(27_500, taken=mine)
    lines = [
        text
        for port in mine[:50]
        for text in (*open_("10.0.0.1", "10.0.0.9", 443, [port]), *([NO_PORT] if sockopt else []))
    ]
    lines += waiting("10.0.0.1", "10.0.0.9", 443, mine[50:], 10)
    return [*listening(22), *lines, *waiting("10.0.0.1", "10.0.0.2", 80, theirs, 458)]


def test_the_victim_of_a_neighbour_is_not_accused():
    """Two pools that share no port: one of them binds, and nothing says which."""
    part = judged(neighbours(sockopt=False))
    assert {pool.bind.verdict for pool in part.measured.pools} == {"cannot tell"}
    assert not causes(part) & {"bind-before-connect", "neighbour-binds-first"}


def test_a_neighbours_time_wait_is_no_open_connection():
    """The victim is known to leave the port to connect(): so the other binds, and its TIME_WAITs fill
    both.
    """
    part = judged(neighbours(sockopt=True))
    assert [pool_to(part, to).bind.verdict for to in ("10.0.0.9", "10.0.0.2")] == ["no", "yes"]
    assert {"time-wait-fills-ports", "neighbour-binds-first"} <= causes(part, "fault")
    assert "live-connections-fill-ports" not in causes(part)
    assert pool_to(part, "10.0.0.9").open_ports == 50


def test_ports_outside_the_range_use_up_none_of_it():
    """29,000 named ports below the range, in TIME_WAIT."""
    lines = waiting("10.0.0.1", "10.0.0.2", 80, range(1024, 30_024), 484)
    part = judged([*listening(22), *lines])
    (pool,) = part.measured.pools
    assert (pool.taken, pool.outside, pool.held, pool.forecast.full_in_s) == (0, 29_000, 0, None)
    assert part.answer.startswith("It is not TIME_WAIT") and part.advice is None
    half = judged([*listening(22), *waiting("10.0.0.1", "10.0.0.2", 80, range(LOW - 5000, LOW + 5000), 166)])
    assert half.measured.pools[0].joint_per_s == pytest.approx(166 / 2, rel=0.02)


def shared_by_ten():
    """Ten destinations of a program that binds: 1,000 open connections to each, and 30 closes a
    second.
    """
    ports = by_bind(28_000)
    lines = []
    for i in range(10):
        lines += open_("10.0.0.1", f"10.1.0.{i}", 80, ports[i:10_000:10])
        lines += waiting("10.0.0.1", f"10.1.0.{i}", 80, ports[10_000 + i :: 10], 30)
    return judged([*listening(22), *lines])


def test_pools_that_share_have_the_life_and_the_ceiling_of_all():
    """10,000 open at 300 a second live for 33 s; each pool has its part of what the range allows."""
    part = shared_by_ten()
    assert part.advice and "--life 33." in part.advice.command
    pools = part.measured.pools
    assert {pool.sharers for pool in pools} == {10}
    assert pools[0].joint_ceiling_per_s == pytest.approx(18_231 / 60, abs=1)
    assert sum(pool.ceiling_per_s for pool in pools) == pytest.approx(pools[0].joint_ceiling_per_s)


def test_an_unknown_tw_reuse_is_linux_s_own():
    """2, which applies over loopback: the verdict and the advice start from that; a full pool
    refutes it.
    """
    some = judged([*listening(80), *waiting("127.0.0.1", "127.0.0.1", 80, by_connect(9000), 900)], {"tcp_tw_reuse": ""})
    assert some.measured.pools[0].reusable and some.measured.pools[0].hold_s == 1
    full = judged([*listening(80), *waiting("127.0.0.1", "127.0.0.1", 80, RANGE, 471)], {"tcp_tw_reuse": ""})
    assert "time-wait-fills-ports" in causes(full, "fault")
    assert full.measured.pools[0].hold_s == 60 and "It suffices" not in full.advice.lines[0]
    old = judged(
        waiting("127.0.0.1", "127.0.0.1", 80, by_connect(9000), 900),
        {"tcp_tw_reuse": ""},
        more=[Text("sysctl -a", ["kernel.osrelease = 4.18.0-553.el8.x86_64\n"])],
    )
    assert not old.measured.pools[0].reusable


def test_ports_that_tw_reuse_gives_away_are_not_taken():
    """connect() takes them at its first try, so that the range is not past its half either."""
    lines = waiting("10.0.0.1", "10.0.0.2", 80, RANGE[:28_000], 930)
    part = judged([*listening(80), *lines], {"tcp_tw_reuse": "1"}, {"TcpExtTWRecycled": 10_000})
    (pool,) = part.measured.pools
    assert (pool.used, pool.taken) == (28_000, 930)
    assert causes(part) == {"tw-reuse-works"}
    slow = judged(
        [*listening(80), *lines], {"tcp_tw_reuse": "1", "tcp_tw_reuse_delay": "20000"}, {"TcpExtTWRecycled": 9}
    )
    assert slow.measured.pools[0].taken == pytest.approx(18_600, abs=5)


def test_a_search_passes_over_no_more_ports_than_there_are():
    """All ports of one parity, and 500 blocked ones of the other."""
    bound = by_bind(500)
    lines = [*waiting("10.0.0.1", "10.0.0.3", 81, bound, 8), *open_("10.0.0.1", "10.0.0.2", 80, RANGE[::2])]
    part = judged([*listening(22), *lines])
    found = next(finding for finding in part.findings if finding.cause == "half-full-range")
    assert found.evidence[0].text.startswith("14,116 of the 14,116 ports")


@pytest.mark.parametrize(("name", "value"), [("tcp_tw_timeout", "10"), ("tcp_timewait_len", "10000")])
def test_the_length_of_time_wait_is_read(name, value):
    """Of kernels that let it be set: closes are dated from it, and the ceiling follows."""
    lines = waiting("10.0.0.1", "10.0.0.2", 80, by_connect(9000), 900, 50)
    (pool,) = judged([*listening(22), *lines], {name: value}).measured.pools
    assert pool.hold_s == 10 and pool.rate_per_s == pytest.approx(900, rel=0.02)
    assert pool.ceiling_per_s == pytest.approx(PORTS / 10, abs=1)


@pytest.mark.parametrize("length", ["0", "-5", "99999999999999999999"])
def test_a_length_that_cannot_be_is_not_used(length):
    """Then it is Linux's 60 s."""
    assert judged(listening(22), {"tcp_tw_timeout": length}).place.time_wait_s == 60


def test_an_old_kernel_gives_no_verdict():
    """Linux 3.10 hands out ports in order."""
    release = [Text("sysctl -a", ["kernel.osrelease = 3.10.0-1160.el7.x86_64\n"])]
    part = judged([*listening(22), *waiting("10.0.0.1", "10.0.0.2", 80, range(40_000, 46_000), 100)], more=release)
    assert part.measured.pools[0].bind.verdict == "cannot tell" and part.measured.pools[0].own_range is None
    assert causes(part) == set()
