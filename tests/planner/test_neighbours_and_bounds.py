"""Neighbours that bind first, ways that cannot be made, and sockets in TIME_WAIT."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twlab.errors import UsageError
from twlab.planner.demand import Demand
from twlab.planner.plan import make
from twlab.planner.ways import Answer


def ways(**demand):
    return {way.name: way for way in make(Demand(**demand)).ways}


def test_kept_connections_are_the_proxy_s_and_not_the_neighbour_s():
    """300 a second of a neighbour, each for 60.1 s, leave 10,202 ports, also to a pool of kept ones."""
    kept = ways(rate_per_s=400, neighbour_per_s=300)["keep-alive"]
    assert kept.four_tuples == 28_232 - 18_030
    assert kept.ceiling_per_s == pytest.approx(100 * 10_202 / 70)


def test_the_longest_time_wait_leaves_the_neighbour_less():
    """28,232 ports for 400 + 300 connections a second, each of which is open for 0.1 s."""
    made = make(Demand(rate_per_s=400, neighbour_per_s=300))
    assert made.longest_time_wait_s == pytest.approx(28_232 / 700 - 0.1)
    assert "up to 40.23 s" in " ".join(made.advice)


@settings(max_examples=40, deadline=None)
@given(st.floats(10, 2000), st.floats(0, 400), st.floats(0, 5), st.integers(1, 4), st.integers(1, 4))
def test_no_length_that_suffices_is_longer_than_the_longest(rate, neighbour, life, origins, sources):
    """And just above it the ports do not suffice."""
    asked = {"rate_per_s": rate, "neighbour_per_s": neighbour, "life_s": life, "origins": origins, "sources": sources}
    try:
        made = make(Demand(**asked))
    except UsageError:
        return
    good = [
        int(way.name[10:])
        for way in made.ways
        if way.name.startswith("time-wait-") and way.answer(rate) is Answer.SUFFICES
    ]
    assert made.longest_time_wait_s >= max(good, default=made.longest_time_wait_s)
    if 0.01 < made.longest_time_wait_s < 3000:
        try:
            above = make(Demand(**asked, time_wait_s=made.longest_time_wait_s * 1.01))
        except UsageError:
            return
        assert above.asked.answer(rate) is not Answer.SUFFICES


@pytest.mark.parametrize(
    ("demand", "left_out"),
    [
        ({"rate_per_s": 100, "time_wait_s": 10, "neighbour_per_s": 500}, "time-wait-60"),
        ({"rate_per_s": 100, "origins": 300_000}, "more-origin-ports"),
        ({"rate_per_s": 1e6, "sources": 20_000}, "more-sources"),
        ({"rate_per_s": 1e7, "origins": 300_000, "busiest": 0.5}, "more-origin-ports"),
    ],
)
def test_a_way_that_cannot_be_is_left_out(demand, left_out):
    """The demand itself can be, and has its plan."""
    made = make(Demand(**demand))
    names = {way.name for way in made.ways}
    assert left_out not in names and {"keep-alive", "tw-buckets", "wider-range"} <= names
    assert made.advice and made.as_dict()["answer"]


def test_sockets_stay_in_time_wait_until_their_ports_are_wanted():
    """With tcp_tw_reuse up to 60 s, as without it; never more of them than there are four-tuples."""
    assert ways(rate_per_s=100)["tw-reuse"].in_time_wait == 6000
    assert ways(rate_per_s=400, tw_reuse=1)["time-wait-60"].in_time_wait == 24_000
    assert make(Demand(rate_per_s=2000, tw_reuse=1)).asked.in_time_wait == 28_232
    assert ways(rate_per_s=100)["named-ports"].in_time_wait == 6000
    assert (
        ways(rate_per_s=100)["origin-closes-first"].in_time_wait == ways(rate_per_s=100)["linger-0"].in_time_wait == 0
    )
